/* The codec of parked connections: a value in, bytes out, and back. Pure. */
#include "share/parked.h"

#include <assert.h>
#include <errno.h>

#include "wire/addrcode.h"

#define MAGIC 0xbe50

enum { HEARD = 1, PROXY = 2, STREAM = 4, ALL = 7 };

void parked_encode(const struct parked *p, uint8_t ret_bytes[PARKED_BYTES])
{
    struct wr w = wr_init(ret_bytes, PARKED_BYTES);
    wr_u16(&w, MAGIC);
    wr_u8(&w,
          (uint8_t)((p->heard ? HEARD : 0) | (p->proxy ? PROXY : 0) | (p->stream ? STREAM : 0)));
    wr_u8(&w, (uint8_t)p->proto);
    wr_u32(&w, p->claim);
    wr_u64(&w, p->since_ms);
    addr_encode(&w, &p->peer);
    assert(wr_ok(&w));
    memset(ret_bytes + w.used, 0, PARKED_BYTES - w.used);
}

int parked_decode(struct parked *ret, const void *buf, size_t n)
{
    struct rd r = rd_init(buf, n);
    uint16_t magic = rd_u16(&r);
    uint8_t flags = rd_u8(&r);
    uint8_t proto = rd_u8(&r);
    struct parked p = {
        .proto = proto, .heard = flags & HEARD, .proxy = flags & PROXY, .stream = flags & STREAM};
    p.claim = rd_u32(&r);
    p.since_ms = rd_u64(&r);
    addr_decode(&r, &p.peer);
    if (!rd_ok(&r) || n != PARKED_BYTES || magic != MAGIC || flags & ~ALL || proto >= PROTO_COUNT)
        return -EBADMSG;
    *ret = p;
    return 0;
}
