/* Encodes and decodes the messages of streammsg.h. Pure: bytes in, values out. */
#include "wire/streammsg.h"

#include "base/rd.h"
#include "base/wr.h"

#define MAGIC   0xbe57
#define VERSION 1

static void short_encode(struct wr *w, struct str s)
{
    w->failed |= s.n > WIRE_NAME_MAX;
    wr_u8(w, (uint8_t)s.n);
    wr_bytes(w, s.p, s.n);
}

int streammsg_encode(const struct streammsg *m, void *buf, size_t size)
{
    struct wr w = wr_init(buf, size);
    wr_u16(&w, MAGIC);
    wr_u8(&w, VERSION);
    wr_u8(&w, (uint8_t)m->type);
    wr_u32(&w, m->id);
    wr_u8(&w, m->flags);
    if (m->type == STREAMMSG_STREAM) {
        wr_bytes(&w, m->key, sizeof m->key);
        short_encode(&w, m->service);
        short_encode(&w, m->name);
    } else if (m->type == STREAMMSG_ANSWER) {
        wr_u8(&w, m->result);
    }
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

int streammsg_decode(struct streammsg *ret_msg, const void *buf, size_t n)
{
    struct rd r = rd_init(buf, n);
    uint16_t magic = rd_u16(&r);
    uint8_t version = rd_u8(&r), type = rd_u8(&r);
    if (!rd_ok(&r) || magic != MAGIC || version != VERSION || type == 0 ||
        type >= STREAMMSG_TYPE_COUNT)
        return -EBADMSG;
    struct streammsg m = {.type = type, .id = rd_u32(&r), .flags = rd_u8(&r)};
    if (type == STREAMMSG_STREAM) {
        struct str key = rd_bytes(&r, sizeof m.key);
        memcpy(m.key, key.p, key.n);
        m.service = rd_vec(&r, 1);
        m.name = rd_vec(&r, 1);
        if (!wire_name_valid(m.service) || (m.name.n > 0 && !wire_name_valid(m.name)))
            return -EBADMSG;
    } else if (type == STREAMMSG_ANSWER) {
        m.result = rd_u8(&r);
    }
    if (!rd_ok(&r) || r.left != 0)
        return -EBADMSG;
    *ret_msg = m;
    return 0;
}
