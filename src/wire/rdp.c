/* RDP: the peeked bytes come in; the user of the connection cookie goes out. One TPKT packet (RFC
 * 1006 6) with an X.224 Connection Request, and in it what MS-RDPBCGR 2.2.1.1 allows. */
#include "base/rd.h"
#include "wire/scratch.h"
#include "wire/sniffed.h"

/* TPKT head of 4 bytes, and the fixed part of the Connection Request. */
#define RDP_HEAD 11
/* The length indicator is one byte, and 255 is reserved (X.224 13.2.1). */
#define RDP_MAX (4 + 1 + 254)

enum { X224_CONNECTION_REQUEST = 0xe0 };

/* The fixed bytes, each as soon as it is there: version 3, reserved, length, its indicator, code
 * and credit, no destination reference. */
static enum sniff_verdict fixed_part(struct str in)
{
    const uint8_t *b = (const uint8_t *)in.p;
    if ((in.n > 0 && b[0] != 3) || (in.n > 1 && b[1] != 0))
        return SNIFF_NOT;
    if (in.n < 4)
        return SNIFF_MORE;
    size_t n = (size_t)b[2] << 8 | b[3];
    if (n < RDP_HEAD || n > RDP_MAX || (in.n > 4 && b[4] != n - 5))
        return SNIFF_NOT;
    if ((in.n > 5 && b[5] != X224_CONNECTION_REQUEST) || (in.n > 6 && b[6] != 0) ||
        (in.n > 7 && b[7] != 0))
        return SNIFF_NOT;
    return in.n < n ? SNIFF_MORE : SNIFF_DONE;
}

/* "Cookie: mstshash=" user CR LF. Other cookies and routing tokens (MS-RDPBCGR 2.2.1.1) say nothing
 * about the user. */
static enum sniff_verdict cookie(struct str text, struct sniffed *out)
{
    if (!str_starts(text, STR("Cookie: mstshash=")))
        return SNIFF_DONE;
    text = str_skip(text, STR("Cookie: mstshash=").n);
    const char *cr = text.n > 0 ? memchr(text.p, '\r', text.n) : NULL;
    if (!cr)
        return sniffed_bad(out, "BadRequest");
    struct str user = {text.p, (size_t)(cr - text.p)};
    for (size_t i = 0; i < user.n; i++)
        if ((uint8_t)user.p[i] < 0x20 || user.p[i] == 0x7f)
            return sniffed_bad(out, "BadRequest");
    out->user = user;
    return SNIFF_DONE;
}

enum sniff_verdict rdp_sniff(struct str in, struct sniffed *out)
{
    enum sniff_verdict v = fixed_part(in);
    if (v != SNIFF_DONE)
        return v;
    sniffed_reset(out, PROTO_RDP);
    struct rd r = rd_init(in.p, in.n);
    (void)rd_bytes(&r, 2);
    size_t n = rd_u16(&r);
    return cookie(str_skip((struct str){in.p, n}, RDP_HEAD), out);
}
