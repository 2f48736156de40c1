/* SOCKS 4, 4a and 5: the peeked bytes come in; whether they are a SOCKS client's first message goes
 * out. What the client wants to reach is the server's business, and no name of the server. */
#include "base/rd.h"
#include "wire/scratch.h"
#include "wire/sniffed.h"

/* SOCKS4 sets no limit to these; no client uses more. */
#define SOCKS_USER_MAX 255
#define SOCKS_HOST_MAX 255

/* RFC 1928 3: version, number of methods, methods. */
static enum sniff_verdict socks5(struct str in)
{
    if (in.n < 2)
        return SNIFF_MORE;
    size_t methods = (uint8_t)in.p[1];
    if (methods == 0)
        return SNIFF_NOT;
    return in.n >= 2 + methods ? SNIFF_DONE : SNIFF_MORE;
}

/* Text of 1 to max printable bytes and its NUL; `empty` lets it have none. */
static enum sniff_verdict text_take(struct rd *r, size_t max, bool empty)
{
    for (size_t n = 0; r->left > 0; n++) {
        uint8_t c = rd_u8(r);
        if (c == 0)
            return n > 0 || empty ? SNIFF_DONE : SNIFF_NOT;
        if (c < 0x20 || c == 0x7f || n == max)
            return SNIFF_NOT;
    }
    return SNIFF_MORE;
}

/* Version, CONNECT or BIND, port, address, user; and a host name behind an address 0.0.0.x (4a). */
static enum sniff_verdict socks4(struct str in)
{
    if (in.n >= 2 && in.p[1] != 1 && in.p[1] != 2)
        return SNIFF_NOT;
    if (in.n < 8)
        return SNIFF_MORE;
    struct rd r = rd_init(in.p, in.n);
    (void)rd_bytes(&r, 4);
    uint32_t ip = rd_u32(&r);
    enum sniff_verdict v = text_take(&r, SOCKS_USER_MAX, true);
    return v == SNIFF_DONE && ip > 0 && ip <= 255 ? text_take(&r, SOCKS_HOST_MAX, false) : v;
}

enum sniff_verdict socks_sniff(struct str in, struct sniffed *out)
{
    if (in.n == 0)
        return SNIFF_MORE;
    enum sniff_verdict v = in.p[0] == 5 ? socks5(in) : in.p[0] == 4 ? socks4(in) : SNIFF_NOT;
    if (v == SNIFF_DONE)
        sniffed_reset(out, PROTO_SOCKS);
    return v;
}
