/* An endpoint: packets come in and go to their connections, deadlines come and connections are
 * called. What they have to say is written, and who has ended is ended, when the outermost call of
 * ours is about to return. The endpoint owns its connections. */
#include <assert.h>
#include <sodium.h>
#include <stdlib.h>

#include "quic/internal.h"

void quic_random(void *bytes, size_t n)
{
    randombytes_buf(bytes, n);
}

uint64_t quic_now(const struct quic *q)
{
    return q->hooks.now(q->ctx);
}

/* From the identity, so that after a restart we can still tell old peers that we know nothing of
 * their connections. */
static void keys_make(struct quic *q, const struct identity *id)
{
    static const char label[] = "berth stateless reset 1";
    (void)crypto_generichash(q->reset_key, sizeof q->reset_key, (const uint8_t *)label,
                             sizeof label - 1, id->secret, KEY_BYTES);
    quic_random(q->token_key, sizeof q->token_key);
}

int quic_new(const struct quic_hooks *hooks, void *ctx, const struct identity *id,
             struct quic **ret_quic)
{
    struct quic *q = calloc(1, sizeof *q);
    if (!q)
        return -ENOMEM;
    q->hooks = *hooks;
    q->ctx = ctx;
    q->timer_ns = UINT64_MAX;
    list_init(&q->conns);
    list_init(&q->urgent);
    list_init(&q->ended);
    keys_make(q, id);
    int r = cid_table_init(&q->cids);
    if (r == 0)
        r = cid_table_init(&q->tokens);
    q->batch.bytes = malloc(QUIC_BATCH_MAX + QUIC_PACKET_MAX);
    if (r == 0 && !q->batch.bytes)
        r = -ENOMEM;
    if (r == 0)
        r = tls_init(&q->tls, id);
    if (r < 0) {
        quic_free(q);
        return r;
    }
    *ret_quic = q;
    return 0;
}

void quic_free(struct quic *q)
{
    if (!q)
        return;
    assert(q->depth == 0);
    while (!list_empty(&q->conns))
        quic_close(container_of(q->conns.next, struct quic_conn, link), 0, "Gone");
    list_for_each(c, &q->ended, struct quic_conn, link) ended_free(c);
    tls_done(&q->tls);
    cid_table_done(&q->cids);
    cid_table_done(&q->tokens);
    free(q->deadlines.at);
    free(q->batch.bytes);
    sodium_memzero(q->reset_key, sizeof q->reset_key);
    free(q);
}

void quic_begin(struct quic *q)
{
    q->depth++;
}

static uint64_t first_deadline(const struct quic *q)
{
    uint64_t at = q->deadlines.count > 0 ? q->deadlines.at[0]->deadline_ns : UINT64_MAX;
    if (!list_empty(&q->ended)) {
        const struct quic_conn *oldest = container_of(q->ended.next, struct quic_conn, link);
        at = oldest->deadline_ns < at ? oldest->deadline_ns : at;
    }
    return at;
}

static void timer_set(struct quic *q)
{
    uint64_t at = first_deadline(q);
    if (at == q->timer_ns)
        return;
    q->timer_ns = at;
    q->hooks.timer(q->ctx, at);
}

static void call_read(struct quic_conn *c)
{
    struct quic *q = c->quic;
    if (c->announced && c->phase == CONN_OPEN)
        q->hooks.read(q->ctx, c);
}

/* What has ended may make others urgent, so it goes round until nothing is left. */
void quic_end(struct quic *q)
{
    if (q->depth > 1) {
        q->depth--;
        return;
    }
    while (!list_empty(&q->urgent)) {
        struct quic_conn *c = container_of(q->urgent.next, struct quic_conn, urgent);
        list_remove(&c->urgent);
        if (c->phase != CONN_DOOMED)
            conn_write(c);
        call_read(c);
        if (c->phase == CONN_DOOMED)
            conn_end(c);
    }
    timer_set(q);
    q->depth--;
}

/* What 0.12 of the library sends as its first byte says little: it clears the fixed bit whenever
 * the peer allows it. */
bool quic_is_quic(const void *bytes, size_t n)
{
    const uint8_t *b = bytes;
    return n >= 2 && (b[0] >= 0x40 || b[1] >= CID_FIRST);
}

static void packet_input(struct quic *q, const struct quic_path *from, struct str packet)
{
    ngtcp2_version_cid ids;
    int r = ngtcp2_pkt_decode_version_cid(&ids, (const uint8_t *)packet.p, packet.n, CID_BYTES);
    if (r != 0 && r != NGTCP2_ERR_VERSION_NEGOTIATION) {
        q->counters.garbage++;
        return;
    }
    struct cid *by = r == 0 ? cid_find(&q->cids, ids.dcid, ids.dcidlen) : NULL;
    if (!by)
        accept_input(q, from, &ids, packet);
    else if (by->conn->phase == CONN_ENDED)
        ended_input(by->conn, from);
    else if (by->conn->phase != CONN_DOOMED)
        conn_read(by, from, packet);
}

void quic_input(struct quic *q, const struct quic_path *from, const void *bytes, size_t n,
                size_t segment)
{
    struct str all = {bytes, n};
    if (segment == 0 ||
        (from->remote.sa.sa_family != AF_INET && from->remote.sa.sa_family != AF_INET6))
        return;
    quic_begin(q);
    for (; all.n > 0; all = str_skip(all, segment))
        packet_input(q, from, (struct str){all.p, all.n < segment ? all.n : segment});
    list_for_each(c, &q->urgent, struct quic_conn, urgent) call_read(c);
    quic_end(q);
}

void quic_expire(struct quic *q)
{
    uint64_t now = quic_now(q);
    quic_begin(q);
    q->timer_ns = UINT64_MAX;
    list_for_each(c, &q->ended, struct quic_conn, link)
    {
        if (c->deadline_ns > now)
            break;
        ended_free(c);
    }
    /* Each has its turn once: one that is due again at once waits for the next call. */
    for (size_t turns = q->deadlines.count; turns > 0 && q->deadlines.count > 0; turns--) {
        struct quic_conn *c = q->deadlines.at[0];
        if (c->deadline_ns > now)
            break;
        conn_expire(c);
    }
    quic_end(q);
}

void quic_resume(struct quic *q, uint32_t path_id)
{
    quic_begin(q);
    list_for_each(c, &q->conns, struct quic_conn,
                  link) if (c->kept.bytes && c->kept.path.id == path_id) conn_urgent(c);
    quic_end(q);
}

void quic_count(const struct quic *q, struct quic_counters *ret_counters)
{
    *ret_counters = q->counters;
}
