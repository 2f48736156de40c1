/* One connection: made, read into, called at its deadline, and doomed when it cannot go on. Packets
 * and the time come in; events go to the owner's hooks. The connection belongs to its endpoint. */
#include <stdio.h>
#include <stdlib.h>

#include "quic/internal.h"

/* What a stream and a connection may have under way before anybody has read; both grow with what is
 * really read, up to the second number. */
#define STREAM_WINDOW     (128u << 10)
#define STREAM_WINDOW_MAX (8u << 20)
#define CONN_WINDOW       (1u << 20)
#define CONN_WINDOW_MAX   (24u << 20)
#define SHAKE_MS          10000
/* RFC 9002 6.2.2: 333 ms when nothing is known. Peers are not that far apart, and a lost first
 * packet would cost a second; now the first is repeated after three times as much. */
#define FIRST_RTT_MS 60
/* Connection IDs that the peer may have to its choice: one for each path that is tried. */
#define SPARE_CIDS 8

void conn_settings(struct quic_conn *c, ngtcp2_settings *ret_settings,
                   ngtcp2_transport_params *ret_params)
{
    ngtcp2_settings *s = ret_settings;
    ngtcp2_transport_params *p = ret_params;
    ngtcp2_settings_default(s);
    s->initial_ts = quic_now(c->quic);
    s->cc_algo = NGTCP2_CC_ALGO_BBR2;
    s->max_tx_udp_payload_size = QUIC_PACKET_MAX;
    s->max_window = CONN_WINDOW_MAX;
    s->max_stream_window = STREAM_WINDOW_MAX;
    s->initial_rtt = FIRST_RTT_MS * NGTCP2_MILLISECONDS;
    s->handshake_timeout = SHAKE_MS * NGTCP2_MILLISECONDS;
    ngtcp2_transport_params_default(p);
    p->initial_max_streams_bidi = QUIC_STREAMS_MAX;
    p->initial_max_stream_data_bidi_local = STREAM_WINDOW;
    p->initial_max_stream_data_bidi_remote = STREAM_WINDOW;
    p->initial_max_data = CONN_WINDOW;
    p->max_idle_timeout = QUIC_IDLE_MS * NGTCP2_MILLISECONDS;
    p->active_connection_id_limit = SPARE_CIDS;
}

int conn_new(struct quic *q, const struct quic_path *path, bool client, struct quic_conn **ret_conn)
{
    struct quic_conn *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->quic = q;
    c->client = client;
    c->source = path->remote;
    c->deadline_ns = UINT64_MAX;
    c->stats.path = *path;
    list_init(&c->urgent);
    list_append(&q->conns, &c->link);
    ngtcp2_connection_close_error_default(&c->error);
    int r = deadline_add(&q->deadlines, c);
    if (r < 0) {
        list_remove(&c->link);
        free(c);
        return r;
    }
    q->counters.connections++;
    r = tls_begin(c);
    if (r < 0) {
        conn_discard(c);
        return r;
    }
    *ret_conn = c;
    return 0;
}

void conn_not_half_open(struct quic_conn *c)
{
    if (c->half_open)
        c->quic->counters.half_open--;
    c->half_open = false;
}

void conn_discard(struct quic_conn *c)
{
    struct quic *q = c->quic;
    conn_not_half_open(c);
    cid_remove_all(&q->cids, c);
    cid_remove_all(&q->tokens, c);
    deadline_remove(&q->deadlines, c);
    list_remove(&c->urgent);
    list_remove(&c->link);
    q->counters.connections--;
    if (c->lib)
        ngtcp2_conn_del(c->lib);
    if (c->tls)
        gnutls_deinit(c->tls);
    free(c->kept.bytes);
    free(c);
}

void conn_urgent(struct quic_conn *c)
{
    if (list_empty(&c->urgent))
        list_append(&c->quic->urgent, &c->urgent);
}

void conn_doom(struct quic_conn *c, const char *reason)
{
    if (c->phase == CONN_DOOMED)
        return;
    c->phase = CONN_DOOMED;
    (void)snprintf(c->reason, sizeof c->reason, "%s", reason);
    conn_urgent(c);
}

/* The peer has said goodbye: its words, if they are fit to be shown. */
static void doom_by_peer(struct quic_conn *c)
{
    ngtcp2_connection_close_error said;
    char words[96];
    size_t n = 0;
    ngtcp2_conn_get_connection_close_error(c->lib, &said);
    for (; n < said.reasonlen && n < sizeof words - 1; n++)
        words[n] = said.reason[n] >= ' ' && said.reason[n] < 0x7f ? (char)said.reason[n] : '?';
    words[n] = '\0';
    c->silent = true;
    if (n == 0 && said.error_code != 0)
        (void)snprintf(words, sizeof words, "error 0x%llx", (unsigned long long)said.error_code);
    /* TLS alerts 40 to 49 are about certificates, 120 is about the application protocol. */
    if (said.type == NGTCP2_CONNECTION_CLOSE_ERROR_CODE_TYPE_TRANSPORT &&
        said.error_code >= NGTCP2_CRYPTO_ERROR + 40 && said.error_code < NGTCP2_CRYPTO_ERROR + 50)
        (void)snprintf(words, sizeof words, "NotAllowed");
    char reason[sizeof c->reason];
    (void)snprintf(reason, sizeof reason, "peer closed: %s", words[0] ? words : "no reason given");
    conn_doom(c, reason);
}

static void doom_by_tls(struct quic_conn *c)
{
    uint8_t alert = ngtcp2_conn_get_tls_alert(c->lib);
    ngtcp2_connection_close_error_set_transport_error_tls_alert(&c->error, alert, NULL, 0);
    if (c->refused_key || !c->known)
        c->quic->counters.key_refused += c->client ? 0 : 1;
    if (c->refused_key)
        conn_doom(c, c->client ? "WrongKey" : "NotAllowed");
    else
        conn_doom(c, "the handshake failed");
}

void conn_doom_lib(struct quic_conn *c, int error)
{
    switch (error) {
    case NGTCP2_ERR_DRAINING:
        doom_by_peer(c);
        return;
    case NGTCP2_ERR_CRYPTO:
        doom_by_tls(c);
        return;
    case NGTCP2_ERR_IDLE_CLOSE:
        c->silent = true;
        conn_doom(c, "Silence");
        return;
    case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
        c->silent = true;
        conn_doom(c, "no answer");
        return;
    case NGTCP2_ERR_DROP_CONN:
    case NGTCP2_ERR_RETRY:
    case NGTCP2_ERR_CLOSING:
        c->silent = true;
        break;
    case NGTCP2_ERR_RECV_VERSION_NEGOTIATION:
        c->silent = true;
        conn_doom(c, "the peer has another version of QUIC");
        return;
    default:
        ngtcp2_connection_close_error_set_transport_error_liberr(&c->error, error, NULL, 0);
    }
    conn_doom(c, ngtcp2_strerror(error));
}

void conn_forgotten(struct quic_conn *c)
{
    c->silent = true;
    conn_doom(c, "the peer has forgotten this session");
}

/* What callbacks have noted, now that the library may be called again. */
static void events_run(struct quic_conn *c)
{
    struct quic *q = c->quic;
    if (c->phase == CONN_DOOMED)
        return;
    if (c->confirmed_due) {
        c->confirmed_due = false;
        c->confirmed = true;
        q->hooks.confirmed(q->ctx, c);
    }
    if (c->streams_due && c->phase != CONN_DOOMED) {
        c->streams_due = false;
        q->hooks.streams(q->ctx, c);
    }
}

void conn_read(struct cid *by, const struct quic_path *from, struct str packet)
{
    struct quic_conn *c = by->conn;
    ngtcp2_path_storage path;
    ngtcp2_pkt_info info = {0};
    path_to_lib(from, path_epoch(c, from, by), &path);
    c->stats.bytes_in += packet.n;
    c->stats.packets_in++;
    conn_urgent(c);
    int r = ngtcp2_conn_read_pkt(c->lib, &path.path, &info, (const uint8_t *)packet.p, packet.n,
                                 quic_now(c->quic));
    if (r != 0)
        conn_doom_lib(c, r);
    events_run(c);
}

void conn_expire(struct quic_conn *c)
{
    /* Whatever comes of it, this deadline has passed. */
    deadline_change(&c->quic->deadlines, c, UINT64_MAX);
    conn_urgent(c);
    int r = ngtcp2_conn_handle_expiry(c->lib, quic_now(c->quic));
    if (r != 0)
        conn_doom_lib(c, r);
}

void conn_ready(struct quic_conn *c)
{
    ngtcp2_conn_set_tls_native_handle(c->lib, c->tls);
    c->keep_alive_ns = QUIC_KEEP_ALIVE_MS * NGTCP2_MILLISECONDS;
    ngtcp2_conn_set_keep_alive_timeout(c->lib, c->keep_alive_ns);
}

void cid_make(ngtcp2_cid *ret_id)
{
    ret_id->datalen = CID_BYTES;
    quic_random(ret_id->data, CID_BYTES);
    ret_id->data[0] |= CID_FIRST;
}

int quic_connect(struct quic *q, const struct key *peer, const struct quic_path *path, void *user,
                 struct quic_conn **ret_conn)
{
    struct quic_conn *c;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_path_storage lib_path;
    ngtcp2_cid theirs = {.datalen = 16}, ours;
    if (q->counters.connections >= QUIC_CONN_MAX)
        return -ENOBUFS;
    int r = conn_new(q, path, true, &c);
    if (r < 0)
        return r;
    c->peer = *peer;
    c->user = user;
    c->announced = true;
    conn_settings(c, &settings, &params);
    path_to_lib(path, 0, &lib_path);
    c->recent[0] = *path;
    quic_random(theirs.data, theirs.datalen);
    cid_make(&ours);
    if (ngtcp2_conn_client_new(&c->lib, &theirs, &ours, &lib_path.path, NGTCP2_PROTO_VER_V1,
                               &conn_callbacks, &settings, &params, NULL, c) != 0 ||
        cid_add(&q->cids, &ours, c) < 0) {
        conn_discard(c);
        return -ENOMEM;
    }
    conn_ready(c);
    q->counters.connected++;
    *ret_conn = c;
    /* Its first packet is written by the timer, so that nothing comes of it before we return. */
    quic_begin(q);
    deadline_change(&q->deadlines, c, quic_now(q));
    quic_end(q);
    return 0;
}

void quic_close(struct quic_conn *c, uint64_t code, const char *reason)
{
    quic_begin(c->quic);
    if (c->phase != CONN_DOOMED) {
        conn_doom(c, reason);
        ngtcp2_connection_close_error_set_application_error(
            &c->error, code, (const uint8_t *)c->reason, strlen(c->reason));
    }
    quic_end(c->quic);
}

void quic_set(struct quic_conn *c, void *user)
{
    c->user = user;
}

void *quic_user(const struct quic_conn *c)
{
    return c->user;
}

const struct key *quic_peer(const struct quic_conn *c)
{
    return &c->peer;
}

bool quic_is_client(const struct quic_conn *c)
{
    return c->client;
}

void quic_keep_alive(struct quic_conn *c, uint64_t after_ms)
{
    if (!c->lib)
        return;
    c->keep_alive_ns = after_ms * NGTCP2_MILLISECONDS;
    ngtcp2_conn_set_keep_alive_timeout(c->lib, c->keep_alive_ns);
    quic_write(c);
}

void quic_ping(struct quic_conn *c)
{
    if (!c->lib || !c->confirmed || c->phase == CONN_DOOMED)
        return;
    c->ping_due = true;
    quic_write(c);
}

static int move_now(struct quic_conn *c, const struct quic_path *path, bool at_once)
{
    ngtcp2_path_storage lib_path;
    uint16_t epoch = c->epoch + 1;
    path_to_lib(path, epoch, &lib_path);
    uint64_t now = quic_now(c->quic);
    int r = at_once ? ngtcp2_conn_initiate_immediate_migration(c->lib, &lib_path.path, now)
                    : ngtcp2_conn_initiate_migration(c->lib, &lib_path.path, now);
    if (r == NGTCP2_ERR_NOMEM)
        return -ENOMEM;
    if (r != 0)
        return -EAGAIN;
    c->epoch = epoch;
    c->recent[epoch % EPOCHS_KEPT] = *path;
    c->ping_due = at_once;
    return 0;
}

int quic_move(struct quic_conn *c, const struct quic_path *path, bool at_once)
{
    if (!c->client)
        return -EPERM;
    if (!c->confirmed || c->phase == CONN_DOOMED || c->telling)
        return -EAGAIN;
    struct quic_path now = path_from_lib(ngtcp2_conn_get_path(c->lib));
    if (path_equal(&now, path))
        return -EALREADY;
    quic_begin(c->quic);
    int r = move_now(c, path, at_once);
    conn_urgent(c);
    quic_end(c->quic);
    return r;
}

void quic_stat(const struct quic_conn *c, struct quic_stats *ret_stats)
{
    *ret_stats = c->stats;
    if (!c->lib)
        return;
    ngtcp2_conn_stat stat;
    ngtcp2_conn_get_conn_stat(c->lib, &stat);
    ret_stats->path = path_from_lib(ngtcp2_conn_get_path(c->lib));
    /* Before the first sample both are far from any truth. */
    bool sampled = stat.min_rtt != UINT64_MAX;
    ret_stats->rtt_us = sampled ? stat.smoothed_rtt / 1000 : 0;
    ret_stats->min_rtt_us = sampled ? stat.min_rtt / 1000 : 0;
    ret_stats->cwnd = stat.cwnd;
    ret_stats->in_flight = stat.bytes_in_flight;
    ret_stats->unanswered = (unsigned)stat.pto_count;
    ret_stats->packet_size = ngtcp2_conn_get_path_max_tx_udp_payload_size(c->lib);
}
