/* Packets that belong to no connection of ours: the first one of a handshake, or what is answered
 * with a list of versions, a Retry, or a stateless reset. Nothing is remembered but for handshakes,
 * and these are counted and capped. */
#include <stdlib.h>

#include "quic/internal.h"

#define RETRY_VALID_MS 10000
#define RESETS_SECOND  200
/* RFC 9000 10.3: a reset looks like a packet with at least 21 bytes, and is smaller than what it
 * answers, so that two who know nothing do not go on for ever. */
#define RESET_BYTES 41
#define RESET_MIN   22

/* An allowance for each second. */
static bool may_reset(struct quic *q)
{
    uint64_t now = quic_now(q);
    if (now - q->reset_from_ns >= NGTCP2_SECONDS) {
        q->reset_from_ns = now;
        q->reset_count = 0;
    }
    return q->reset_count++ < RESETS_SECOND;
}

static void send_reset(struct quic *q, const struct quic_path *to, const ngtcp2_version_cid *ids,
                       size_t size)
{
    uint8_t packet[RESET_BYTES], token[NGTCP2_STATELESS_RESET_TOKENLEN], random[RESET_BYTES];
    ngtcp2_cid id;
    if (ids->dcidlen != CID_BYTES || ids->dcid[0] < CID_FIRST || size < RESET_MIN || !may_reset(q))
        return;
    ngtcp2_cid_init(&id, ids->dcid, ids->dcidlen);
    if (ngtcp2_crypto_generate_stateless_reset_token(token, q->reset_key, sizeof q->reset_key,
                                                     &id) != 0)
        return;
    size_t n = size - 1 < sizeof packet ? size - 1 : sizeof packet;
    quic_random(random, sizeof random);
    ngtcp2_ssize written = ngtcp2_pkt_write_stateless_reset(packet, n, token, random,
                                                            n - NGTCP2_STATELESS_RESET_TOKENLEN);
    if (written <= 0)
        return;
    q->counters.resets++;
    packet_send(q, to, packet, (size_t)written);
}

static void send_versions(struct quic *q, const struct quic_path *to, const ngtcp2_version_cid *ids)
{
    static const uint32_t ours[] = {NGTCP2_PROTO_VER_V1};
    uint8_t packet[64], random;
    if (ids->dcidlen > NGTCP2_MAX_CIDLEN || ids->scidlen > NGTCP2_MAX_CIDLEN)
        return;
    quic_random(&random, 1);
    ngtcp2_ssize n = ngtcp2_pkt_write_version_negotiation(
        packet, sizeof packet, random, ids->scid, ids->scidlen, ids->dcid, ids->dcidlen, ours, 1);
    if (n <= 0)
        return;
    q->counters.versions++;
    packet_send(q, to, packet, (size_t)n);
}

static void send_retry(struct quic *q, const struct quic_path *to, const ngtcp2_pkt_hd *first)
{
    uint8_t token[NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN], packet[256];
    ngtcp2_cid id;
    cid_make(&id);
    ngtcp2_ssize n = ngtcp2_crypto_generate_retry_token(
        token, q->token_key, sizeof q->token_key, first->version, &to->remote.sa, to->remote.len,
        &id, &first->dcid, quic_now(q));
    if (n < 0)
        return;
    n = ngtcp2_crypto_write_retry(packet, sizeof packet, first->version, &first->scid, &id,
                                  &first->dcid, token, (size_t)n);
    if (n <= 0)
        return;
    q->counters.retries++;
    packet_send(q, to, packet, (size_t)n);
}

/* Ports are free to choose, addresses are not. */
static bool same_source(const struct quic_conn *c, const struct quic_path *from)
{
    struct addr a = c->source, b = from->remote;
    addr_set_port(&a, 0);
    addr_set_port(&b, 0);
    return addr_equal(&a, &b);
}

static bool has_room(struct quic *q, const struct quic_path *from)
{
    size_t same = 0;
    if (q->counters.half_open >= QUIC_HALF_OPEN_MAX || q->counters.connections >= QUIC_CONN_MAX)
        return false;
    list_for_each(c, &q->conns, struct quic_conn, link)
    {
        if (c->half_open && same_source(c, from))
            same++;
    }
    return same < QUIC_HALF_OPEN_SOURCE;
}

static int server_new(struct quic_conn *c, const struct quic_path *from, const ngtcp2_pkt_hd *first,
                      const ngtcp2_cid *original)
{
    struct quic *q = c->quic;
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_path_storage path;
    ngtcp2_cid ours;
    cid_make(&ours);
    conn_settings(c, &settings, &params);
    settings.token = first->token;
    params.original_dcid = original ? *original : first->dcid;
    params.retry_scid_present = original != NULL;
    params.retry_scid = first->dcid;
    params.stateless_reset_token_present = 1;
    if (ngtcp2_crypto_generate_stateless_reset_token(params.stateless_reset_token, q->reset_key,
                                                     sizeof q->reset_key, &ours) != 0)
        return -EIO;
    path_to_lib(from, 0, &path);
    if (ngtcp2_conn_server_new(&c->lib, &first->scid, &ours, &path.path, first->version,
                               &conn_callbacks, &settings, &params, NULL, c) != 0)
        return -ENOMEM;
    conn_ready(c);
    int r = cid_add(&q->cids, &ours, c);
    return r < 0 ? r : cid_add(&q->cids, &first->dcid, c);
}

static void begin(struct quic *q, const struct quic_path *from, const ngtcp2_pkt_hd *first,
                  const ngtcp2_cid *original, struct str packet)
{
    struct quic_conn *c;
    if (conn_new(q, from, false, &c) < 0)
        return;
    c->half_open = true;
    q->counters.half_open++;
    if (server_new(c, from, first, original) < 0)
        conn_discard(c);
    else
        conn_read(cid_find(&q->cids, first->dcid.data, first->dcid.datalen), from, packet);
}

static void first_packet(struct quic *q, const struct quic_path *from, struct str packet)
{
    ngtcp2_pkt_hd first;
    ngtcp2_cid original;
    if (ngtcp2_accept(&first, (const uint8_t *)packet.p, packet.n) != 0) {
        q->counters.garbage++;
        return;
    }
    bool proven = first.token.len > 0 &&
                  ngtcp2_crypto_verify_retry_token(
                      &original, first.token.base, first.token.len, q->token_key,
                      sizeof q->token_key, first.version, &from->remote.sa, from->remote.len,
                      &first.dcid, RETRY_VALID_MS * NGTCP2_MILLISECONDS, quic_now(q)) == 0;
    if (first.token.len > 0 && !proven)
        q->counters.garbage++;
    else if (!proven && q->counters.half_open >= QUIC_RETRY_FROM)
        send_retry(q, from, &first);
    else if (has_room(q, from))
        begin(q, from, &first, proven ? &original : NULL, packet);
    else
        q->counters.half_open_full++;
}

/* RFC 9000 10.3.1: a reset ends with the token of the ID that we sent to. */
static bool is_reset(struct quic *q, struct str packet)
{
    size_t n = NGTCP2_STATELESS_RESET_TOKENLEN;
    if (packet.n < n + NGTCP2_MIN_STATELESS_RESET_RANDLEN)
        return false;
    struct str token = str_skip(packet, packet.n - n);
    struct cid *by = cid_find(&q->tokens, (const uint8_t *)token.p, token.n);
    if (by)
        conn_forgotten(by->conn);
    return by != NULL;
}

void accept_input(struct quic *q, const struct quic_path *from, const ngtcp2_version_cid *ids,
                  struct str packet)
{
    bool is_short = ((uint8_t)packet.p[0] & 0x80) == 0;
    if (is_short && !is_reset(q, packet))
        send_reset(q, from, ids, packet.n);
    else if (is_short)
        return;
    else if (ids->version == 0)
        q->counters.garbage++;
    else if (!ngtcp2_is_supported_version(ids->version))
        send_versions(q, from, ids);
    else
        first_packet(q, from, packet);
}
