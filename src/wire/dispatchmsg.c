/* Encodes and decodes the messages of dispatchmsg.h, in the way of appmsg.c: a table of fields a
 * type. */
#include "wire/dispatchmsg.h"

#include "wire/addrcode.h"

#define MAGIC 0xbed1

enum {
    F_ID = 1 << 0,
    F_FLAGS = 1 << 1,
    F_OWNER = 1 << 2,
    F_ADDR = 1 << 3,
    F_ROUTE = 1 << 4,
    F_NOTE = 1 << 5,
    F_OPTION = 1 << 6,
    F_POLICY = 1 << 7,
    F_LIMITS = 1 << 8,
    F_REFUSE = 1 << 9,
    F_PEER = 1 << 10,
};

static const uint32_t fields[DISPATCH_TYPE_COUNT] = {
    [DISPATCH_LISTENER] = F_ID | F_FLAGS | F_ADDR,
    [DISPATCH_QUEUE] = F_ID | F_FLAGS | F_NOTE | F_POLICY,
    [DISPATCH_OPTION] = F_ID | F_OPTION,
    [DISPATCH_CLAIM] = F_ID | F_OWNER | F_ADDR | F_ROUTE | F_REFUSE,
    [DISPATCH_DROP_LISTENER] = F_ID,
    [DISPATCH_DROP_QUEUE] = F_ID,
    [DISPATCH_DROP_CLAIM] = F_ID,
    [DISPATCH_COMMIT] = F_ID,
    [DISPATCH_COMMITTED] = F_ID,
    [DISPATCH_RECOVERED] = F_ID | F_FLAGS,
    [DISPATCH_LIMITS] = F_LIMITS,
    [DISPATCH_LOG] = F_ID,
    [DISPATCH_OPEN] = F_OWNER | F_ADDR | F_PEER,
};

static void policy_encode(struct wr *w, uint32_t parent, const struct dispatch_policy *p)
{
    wr_u32(w, parent);
    wr_u8(w, p->state);
    wr_u8(w, p->overflow);
    wr_u8(w, p->reason);
    wr_u16(w, p->status);
    wr_u32(w, p->retry_s);
    wr_u32(w, p->length);
    wr_u32(w, p->patience_ms);
    wr_u32(w, p->connections);
    wr_u32(w, p->per_source);
}

static void policy_decode(struct rd *r, struct dispatch_policy *p)
{
    p->state = rd_u8(r);
    p->overflow = rd_u8(r);
    p->reason = rd_u8(r);
    p->status = rd_u16(r);
    p->retry_s = rd_u32(r);
    p->length = rd_u32(r);
    p->patience_ms = rd_u32(r);
    p->connections = rd_u32(r);
    p->per_source = rd_u32(r);
    if (p->state >= DISPATCH_STATE_COUNT || p->overflow >= DISPATCH_OVERFLOW_COUNT)
        r->failed = true;
}

static void limits_encode(struct wr *w, const struct dispatch_limits *l)
{
    wr_u32(w, l->silence_ms);
    wr_u32(w, l->header_wait_ms);
    wr_u32(w, l->min_rate);
    wr_u32(w, l->sniff_bytes);
    wr_u32(w, l->connections);
    wr_u32(w, l->per_source);
}

static void limits_decode(struct rd *r, struct dispatch_limits *l)
{
    l->silence_ms = rd_u32(r);
    l->header_wait_ms = rd_u32(r);
    l->min_rate = rd_u32(r);
    l->sniff_bytes = rd_u32(r);
    l->connections = rd_u32(r);
    l->per_source = rd_u32(r);
}

int dispatchmsg_encode(const struct dispatchmsg *m, void *buf, size_t size)
{
    struct wr w = wr_init(buf, size);
    uint32_t f = fields[m->type];
    wr_u16(&w, MAGIC);
    wr_u8(&w, (uint8_t)m->type);
    if (f & F_ID)
        wr_u32(&w, m->id);
    if (f & F_FLAGS)
        wr_u32(&w, m->flags);
    if (f & F_OWNER) {
        wr_u32(&w, m->queue);
        wr_u32(&w, m->app);
    }
    if (f & F_ADDR) {
        addr_encode(&w, &m->addr);
        wr_u8(&w, m->v6only);
        wr_vec16(&w, m->addr.sa.sa_family == AF_UNIX ? str_of(m->addr.un.sun_path) : STR(""));
    }
    if (f & F_ROUTE)
        wr_vec16(&w, m->route);
    if (f & F_NOTE)
        wr_vec16(&w, m->note);
    if (f & F_OPTION) {
        wr_u32(&w, (uint32_t)m->level);
        wr_u32(&w, (uint32_t)m->option);
        wr_vec16(&w, m->value);
    }
    if (f & F_POLICY) {
        policy_encode(&w, m->parent, &m->policy);
        wr_vec16(&w, m->name);
    }
    if (f & F_LIMITS)
        limits_encode(&w, &m->limits);
    if (f & F_REFUSE)
        wr_u16(&w, m->refuse);
    if (f & F_PEER) {
        addr_encode(&w, &m->peer);
        wr_u32(&w, (uint32_t)(m->cookie >> 32));
        wr_u32(&w, (uint32_t)m->cookie);
    }
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

static void path_decode(struct rd *r, struct addr *a)
{
    struct str path = rd_vec(r, 2);
    if (a->sa.sa_family != AF_UNIX)
        return;
    if (path.n == 0 || path.n >= sizeof a->un.sun_path) {
        r->failed = true;
        return;
    }
    memcpy(a->un.sun_path, path.p, path.n);
    a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.n + 1);
}

int dispatchmsg_decode(struct dispatchmsg *ret_msg, const void *buf, size_t n)
{
    struct rd r = rd_init(buf, n);
    uint16_t magic = rd_u16(&r);
    uint8_t type = rd_u8(&r);
    if (!rd_ok(&r) || magic != MAGIC || type == 0 || type >= DISPATCH_TYPE_COUNT)
        return -EBADMSG;
    struct dispatchmsg m = {.type = type};
    uint32_t f = fields[type];
    if (f & F_ID)
        m.id = rd_u32(&r);
    if (f & F_FLAGS)
        m.flags = rd_u32(&r);
    if (f & F_OWNER) {
        m.queue = rd_u32(&r);
        m.app = rd_u32(&r);
    }
    if (f & F_ADDR) {
        addr_decode(&r, &m.addr);
        m.v6only = rd_u8(&r) != 0;
        path_decode(&r, &m.addr);
    }
    if (f & F_ROUTE)
        m.route = rd_vec(&r, 2);
    if (f & F_NOTE)
        m.note = rd_vec(&r, 2);
    if (f & F_OPTION) {
        m.level = (int32_t)rd_u32(&r);
        m.option = (int32_t)rd_u32(&r);
        m.value = rd_vec(&r, 2);
    }
    if (f & F_POLICY) {
        m.parent = rd_u32(&r);
        policy_decode(&r, &m.policy);
        m.name = rd_vec(&r, 2);
    }
    if (f & F_LIMITS)
        limits_decode(&r, &m.limits);
    if (f & F_REFUSE)
        m.refuse = rd_u16(&r);
    if (f & F_PEER) {
        addr_decode(&r, &m.peer);
        m.cookie = (uint64_t)rd_u32(&r) << 32;
        m.cookie |= rd_u32(&r);
    }
    if (!rd_ok(&r) || r.left != 0)
        return -EBADMSG;
    *ret_msg = m;
    return 0;
}
