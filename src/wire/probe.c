/* Encodes and decodes the connectivity checks of probe.h. Bytes in, values out; nothing is kept. */
#include "wire/probe.h"

#include "base/rd.h"
#include "base/wr.h"

#include <errno.h>

enum { FLAG_FROM_CALLER = 1 };

bool probe_looks(const void *buf, size_t n)
{
    const uint8_t *b = buf;
    return n >= 2 && b[0] == PROBE_FIRST && b[1] < 0x80;
}

int probe_encode(const struct probe *p, void *buf, size_t size)
{
    struct wr w = wr_init(buf, size);
    wr_u8(&w, PROBE_FIRST);
    wr_u8(&w, PROBE_VERSION);
    wr_u8(&w, (uint8_t)p->type);
    wr_u8(&w, p->from_caller ? FLAG_FROM_CALLER : 0);
    wr_u64(&w, p->attempt);
    wr_u32(&w, p->sequence);
    wr_bytes(&w, p->tag, sizeof p->tag);
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

int probe_decode(struct probe *ret_probe, const void *buf, size_t n)
{
    struct rd r = rd_init(buf, n);
    struct probe p = {0};
    uint8_t first = rd_u8(&r), version = rd_u8(&r), type = rd_u8(&r), flags = rd_u8(&r);
    p.attempt = rd_u64(&r);
    p.sequence = rd_u32(&r);
    struct str tag = rd_bytes(&r, PROBE_TAG);
    if (!rd_ok(&r) || first != PROBE_FIRST || version >= 0x80)
        return -EBADMSG;
    if (version != PROBE_VERSION)
        return -EPROTONOSUPPORT;
    if (r.left > 0 || type < PROBE_PING || type >= PROBE_TYPE_END || flags > FLAG_FROM_CALLER)
        return -EBADMSG;
    p.type = (enum probe_type)type;
    p.from_caller = flags & FLAG_FROM_CALLER;
    memcpy(p.tag, tag.p, sizeof p.tag);
    *ret_probe = p;
    return 0;
}
