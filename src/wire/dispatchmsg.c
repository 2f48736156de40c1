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
};

static const uint32_t fields[DISPATCH_TYPE_COUNT] = {
    [DISPATCH_LISTENER] = F_ID | F_FLAGS | F_ADDR,
    [DISPATCH_QUEUE] = F_ID | F_FLAGS | F_NOTE,
    [DISPATCH_OPTION] = F_ID | F_OPTION,
    [DISPATCH_CLAIM] = F_ID | F_OWNER | F_ADDR | F_ROUTE,
    [DISPATCH_DROP_LISTENER] = F_ID,
    [DISPATCH_DROP_QUEUE] = F_ID,
    [DISPATCH_DROP_CLAIM] = F_ID,
    [DISPATCH_COMMIT] = F_ID,
    [DISPATCH_COMMITTED] = F_ID,
    [DISPATCH_RECOVERED] = F_ID,
};

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
    if (!rd_ok(&r) || r.left != 0)
        return -EBADMSG;
    *ret_msg = m;
    return 0;
}
