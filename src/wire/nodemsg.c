/* The codec of nodemsg.h: bytes come in and go out, nothing is kept. */
#include "wire/nodemsg.h"

#include "wire/ipcode.h"

static bool is_question(const struct nodemsg *m)
{
    return m->type == NODEMSG_ASK || m->type == NODEMSG_SEARCH;
}

int nodemsg_encode(const struct nodemsg *m, void *buf, size_t size)
{
    struct wr w = wr_init(buf, size);
    wr_u8(&w, NODEMSG_VERSION);
    wr_u8(&w, (uint8_t)m->type);
    if (is_question(m)) {
        wr_bytes(&w, m->node, NODEMSG_NODE);
        ip_encode(&w, &m->seen);
    }
    if (is_question(m) || m->type == NODEMSG_REPLY)
        wr_u64(&w, m->request);
    if (m->type == NODEMSG_PUSH)
        wr_bytes(&w, m->key, RDVMSG_KEY);
    if (m->type != NODEMSG_ALIVE)
        wr_vec16(&w, m->message);
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

static bool head_read(struct rd *r, struct nodemsg *m)
{
    uint8_t version = rd_u8(r), type = rd_u8(r);
    m->type = (enum nodemsg_type)type;
    return rd_ok(r) && version == NODEMSG_VERSION && type >= NODEMSG_ASK && type < NODEMSG_END;
}

int nodemsg_decode(struct nodemsg *m, const void *buf, size_t n)
{
    struct rd r = rd_init(buf, n);
    if (!head_read(&r, m))
        return -EBADMSG;
    if (is_question(m)) {
        struct str node = rd_bytes(&r, NODEMSG_NODE);
        m->seen = ip_decode(&r);
        if (!rd_ok(&r))
            return -EBADMSG;
        memcpy(m->node, node.p, NODEMSG_NODE);
    }
    if (is_question(m) || m->type == NODEMSG_REPLY)
        m->request = rd_u64(&r);
    if (m->type == NODEMSG_PUSH) {
        struct str key = rd_bytes(&r, RDVMSG_KEY);
        memcpy(m->key, key.p, key.n);
    }
    m->message = m->type == NODEMSG_ALIVE ? STR("") : rd_vec(&r, 2);
    return rd_ok(&r) && r.left == 0 && m->message.n <= RDVMSG_MAX ? 0 : -EBADMSG;
}
