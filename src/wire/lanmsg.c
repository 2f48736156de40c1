/* Encodes and decodes what peers on one local network say. Bytes in, values out; nothing is kept.
 */
#include "wire/lanmsg.h"

#include "base/rd.h"
#include "base/wr.h"

static bool rd_copy(struct rd *r, uint8_t *to, size_t n)
{
    struct str s = rd_bytes(r, n);
    if (s.n == n)
        memcpy(to, s.p, n);
    return rd_ok(r);
}

int lanmsg_encode(const struct lanmsg *m, void *buf, size_t size)
{
    static const uint8_t zeros[LANMSG_MAX];
    struct wr w = wr_init(buf, size < LANMSG_MAX ? size : LANMSG_MAX);
    wr_u8(&w, LANMSG_MAGIC);
    wr_u8(&w, LANMSG_VERSION);
    wr_u8(&w, (uint8_t)m->type);
    wr_u8(&w, 0);
    wr_bytes(&w, m->nonce, sizeof m->nonce);
    if (m->type == LANMSG_QUERY)
        wr_bytes(&w, m->tag, sizeof m->tag);
    wr_vec16(&w, m->sealed);
    if (m->type == LANMSG_QUERY && wr_ok(&w))
        wr_bytes(&w, zeros, LANMSG_MAX - w.used);
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

int lanmsg_decode(struct lanmsg *ret_m, const void *buf, size_t n)
{
    struct rd r = rd_init(buf, n);
    struct lanmsg m = {.sealed = STR("")};
    uint8_t magic = rd_u8(&r), version = rd_u8(&r), type = rd_u8(&r), zero = rd_u8(&r);
    if (!rd_ok(&r) || n > LANMSG_MAX || magic != LANMSG_MAGIC || version != LANMSG_VERSION ||
        type == 0 || type >= LANMSG_TYPE_END || zero != 0)
        return -EBADMSG;
    m.type = type;
    (void)rd_copy(&r, m.nonce, sizeof m.nonce);
    if (m.type == LANMSG_QUERY)
        (void)rd_copy(&r, m.tag, sizeof m.tag);
    m.sealed = rd_vec(&r, 2);
    bool whole = m.type == LANMSG_QUERY ? n == LANMSG_MAX : r.left == 0;
    if (!rd_ok(&r) || !whole)
        return -EBADMSG;
    *ret_m = m;
    return 0;
}

int lan_query_encode(const struct lan_query *q, void *buf, size_t size)
{
    struct wr w = wr_init(buf, size);
    wr_bytes(&w, q->nonce, sizeof q->nonce);
    wr_u64(&w, q->unix_ms);
    wr_u16(&w, q->port);
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

int lan_query_decode(struct lan_query *ret_q, const void *buf, size_t n)
{
    struct rd r = rd_init(buf, n);
    struct lan_query q;
    bool ok = rd_copy(&r, q.nonce, sizeof q.nonce);
    q.unix_ms = rd_u64(&r);
    q.port = rd_u16(&r);
    if (!ok || !rd_ok(&r) || q.port == 0)
        return -EBADMSG;
    *ret_q = q;
    return 0;
}

int lan_answer_encode(const struct lan_answer *a, void *buf, size_t size)
{
    struct wr w = wr_init(buf, size);
    wr_bytes(&w, a->nonce, sizeof a->nonce);
    wr_u16(&w, a->port);
    wr_vec16(&w, a->record);
    return wr_ok(&w) && a->record.n <= RECORD_MAX ? (int)w.used : -EMSGSIZE;
}

int lan_answer_decode(struct lan_answer *ret_a, const void *buf, size_t n)
{
    struct rd r = rd_init(buf, n);
    struct lan_answer a;
    bool ok = rd_copy(&r, a.nonce, sizeof a.nonce);
    a.port = rd_u16(&r);
    a.record = rd_vec(&r, 2);
    if (!ok || !rd_ok(&r) || a.port == 0 || a.record.n > RECORD_MAX)
        return -EBADMSG;
    *ret_a = a;
    return 0;
}
