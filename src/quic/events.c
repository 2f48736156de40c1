/* What the library calls: its events become those of quic.h. Nothing here calls the library back,
 * except where it says that one may. */
#include "quic/internal.h"

static struct quic_conn *conn_of(void *user)
{
    return user;
}

static int on_completed(ngtcp2_conn *lib, void *user)
{
    (void)lib;
    struct quic_conn *c = conn_of(user);
    struct quic *q = c->quic;
    /* Whatever the library of TLS has let pass: nobody comes in without a key. */
    if (!c->known)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    c->phase = CONN_OPEN;
    c->streams_due = true;
    conn_not_half_open(c);
    if (c->client)
        return 0; /* the server may still refuse our key */
    c->announced = true;
    c->confirmed_due = true;
    q->counters.accepted++;
    q->hooks.accepted(q->ctx, c);
    return 0;
}

static int on_confirmed(ngtcp2_conn *lib, void *user)
{
    (void)lib;
    struct quic_conn *c = conn_of(user);
    if (c->client)
        c->confirmed_due = true;
    return 0;
}

static int on_data(ngtcp2_conn *lib, uint32_t flags, int64_t id, uint64_t offset,
                   const uint8_t *bytes, size_t n, void *user, void *stream)
{
    (void)lib, (void)id, (void)offset;
    struct quic_conn *c = conn_of(user);
    c->quic->hooks.data(c->quic->ctx, c, stream, bytes, n,
                        (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0);
    return 0;
}

static int on_acked(ngtcp2_conn *lib, int64_t id, uint64_t offset, uint64_t n, void *user,
                    void *stream)
{
    (void)lib, (void)id, (void)offset;
    struct quic_conn *c = conn_of(user);
    if (stream)
        c->quic->hooks.acked(c->quic->ctx, c, stream, n);
    return 0;
}

static int on_open(ngtcp2_conn *lib, int64_t id, void *user)
{
    (void)lib;
    struct quic_conn *c = conn_of(user);
    c->quic->hooks.opened(c->quic->ctx, c, id);
    return 0;
}

static int on_stream_close(ngtcp2_conn *lib, uint32_t flags, int64_t id, uint64_t code, void *user,
                           void *stream)
{
    (void)flags, (void)code;
    struct quic_conn *c = conn_of(user);
    if (!ngtcp2_conn_is_local_stream(lib, id))
        ngtcp2_conn_extend_max_streams_bidi(lib, 1);
    if (stream)
        c->quic->hooks.stream_closed(c->quic->ctx, c, stream);
    return 0;
}

static int on_reset(ngtcp2_conn *lib, int64_t id, uint64_t size, uint64_t code, void *user,
                    void *stream)
{
    (void)lib, (void)id, (void)size;
    struct quic_conn *c = conn_of(user);
    if (stream)
        c->quic->hooks.reset(c->quic->ctx, c, stream, code);
    return 0;
}

static int on_room(ngtcp2_conn *lib, int64_t id, uint64_t max, void *user, void *stream)
{
    (void)lib, (void)id, (void)max;
    struct quic_conn *c = conn_of(user);
    if (stream)
        c->quic->hooks.room(c->quic->ctx, c, stream);
    return 0;
}

static int on_more_streams(ngtcp2_conn *lib, uint64_t max, void *user)
{
    (void)lib, (void)max;
    conn_of(user)->streams_due = true;
    return 0;
}

static int on_path(ngtcp2_conn *lib, uint32_t flags, const ngtcp2_path *path,
                   ngtcp2_path_validation_result result, void *user)
{
    (void)lib, (void)flags;
    struct quic_conn *c = conn_of(user);
    struct quic_path ours = path_from_lib(path);
    c->ping_due = c->client && result == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS;
    if (result == NGTCP2_PATH_VALIDATION_RESULT_ABORTED)
        return 0;
    /* The library still holds the validation that a move would free. */
    c->telling = true;
    c->quic->hooks.path_proven(c->quic->ctx, c, &ours,
                               result == NGTCP2_PATH_VALIDATION_RESULT_SUCCESS);
    c->telling = false;
    return 0;
}

static int on_stateless_reset(ngtcp2_conn *lib, const ngtcp2_pkt_stateless_reset *packet,
                              void *user)
{
    (void)lib, (void)packet;
    struct quic_conn *c = conn_of(user);
    conn_forgotten(c);
    return 0;
}

static int on_new_cid(ngtcp2_conn *lib, ngtcp2_cid *id, uint8_t *token, size_t n, void *user)
{
    (void)lib;
    struct quic_conn *c = conn_of(user);
    struct quic *q = c->quic;
    id->datalen = n;
    quic_random(id->data, n);
    id->data[0] |= CID_FIRST;
    if (ngtcp2_crypto_generate_stateless_reset_token(token, q->reset_key, sizeof q->reset_key,
                                                     id) != 0 ||
        cid_add(&q->cids, id, c) < 0)
        return NGTCP2_ERR_CALLBACK_FAILURE;
    return 0;
}

static int on_old_cid(ngtcp2_conn *lib, const ngtcp2_cid *id, void *user)
{
    (void)lib;
    cid_remove(&conn_of(user)->quic->cids, id);
    return 0;
}

/* The peer's ID that we begin or cease to use, and the token that goes with it. */
static int on_their_cid(ngtcp2_conn *lib, int type, uint64_t sequence, const ngtcp2_cid *id,
                        const uint8_t *token, void *user)
{
    (void)lib, (void)sequence, (void)id;
    struct quic_conn *c = conn_of(user);
    ngtcp2_cid as_id;
    if (!token)
        return 0;
    ngtcp2_cid_init(&as_id, token, NGTCP2_STATELESS_RESET_TOKENLEN);
    if (type == NGTCP2_CONNECTION_ID_STATUS_TYPE_ACTIVATE)
        return cid_add(&c->quic->tokens, &as_id, c) == -ENOMEM ? NGTCP2_ERR_CALLBACK_FAILURE : 0;
    struct cid *known = cid_find(&c->quic->tokens, as_id.data, as_id.datalen);
    if (known && known->conn == c)
        cid_remove(&c->quic->tokens, &as_id);
    return 0;
}

static void on_random(uint8_t *bytes, size_t n, const ngtcp2_rand_ctx *ctx)
{
    (void)ctx;
    quic_random(bytes, n);
}

const ngtcp2_callbacks conn_callbacks = {
    .client_initial = ngtcp2_crypto_client_initial_cb,
    .recv_client_initial = ngtcp2_crypto_recv_client_initial_cb,
    .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
    .encrypt = ngtcp2_crypto_encrypt_cb,
    .decrypt = ngtcp2_crypto_decrypt_cb,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .recv_retry = ngtcp2_crypto_recv_retry_cb,
    .update_key = ngtcp2_crypto_update_key_cb,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
    .handshake_completed = on_completed,
    .handshake_confirmed = on_confirmed,
    .recv_stream_data = on_data,
    .acked_stream_data_offset = on_acked,
    .stream_open = on_open,
    .stream_close = on_stream_close,
    .stream_reset = on_reset,
    .extend_max_stream_data = on_room,
    .extend_max_local_streams_bidi = on_more_streams,
    .path_validation = on_path,
    .recv_stateless_reset = on_stateless_reset,
    .get_new_connection_id = on_new_cid,
    .remove_connection_id = on_old_cid,
    .dcid_status = on_their_cid,
    .rand = on_random,
};
