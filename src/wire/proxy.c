/* The PROXY protocol, versions 1 and 2: the peeked bytes come in; the length of the header and the
 * two addresses that it states go out. */
#include "base/addr.h"
#include "base/rd.h"
#include "wire/scratch.h"
#include "wire/sniffed.h"

#include <arpa/inet.h>
#include <errno.h>

/* "a 108-byte buffer is always enough to store all the line and a trailing zero" (2.1) */
#define V1_MAX       107
#define V2_HEAD      16
#define V2_SIGNATURE STR("\r\n\r\n\0\r\nQUIT\n")

enum { V2_LOCAL = 0x20, V2_PROXY = 0x21 };
enum { V2_TCP4 = 0x11, V2_TCP6 = 0x21, V2_UNIX_STREAM = 0x31, UNIX_SIZE = 108 };

struct header {
    size_t len;
    struct addr src, dst;
};

/* Takes one word and the space behind it off *line; the last word has none. */
static struct str word_take(struct str *line)
{
    const char *space = line->n > 0 ? memchr(line->p, ' ', line->n) : NULL;
    struct str word = {line->p, space ? (size_t)(space - line->p) : line->n};
    *line = space ? str_skip(*line, word.n + 1) : (struct str){line->p, 0};
    return word;
}

/* "a decimal number, without leading zeros": 0 to 65535. */
static int port_read(struct str word, uint16_t *ret_port)
{
    uint32_t port = 0;
    if (word.n == 0 || word.n > 5 || (word.n > 1 && word.p[0] == '0'))
        return -EBADMSG;
    for (size_t i = 0; i < word.n; i++) {
        if (!ascii_is_digit(word.p[i]))
            return -EBADMSG;
        port = port * 10 + (uint32_t)(word.p[i] - '0');
    }
    if (port > UINT16_MAX)
        return -EBADMSG;
    *ret_port = (uint16_t)port;
    return 0;
}

static int ip_read(int family, struct str word, uint8_t ip[16])
{
    char buf[INET6_ADDRSTRLEN];
    if (word.n == 0 || word.n >= sizeof buf || memchr(word.p, 0, word.n))
        return -EBADMSG;
    memcpy(buf, word.p, word.n);
    buf[word.n] = 0;
    return inet_pton(family, buf, ip) == 1 ? 0 : -EBADMSG;
}

/* "TCP4 source destination source-port destination-port", or "UNKNOWN" and whatever follows. */
static int v1_line(struct str line, struct header *h)
{
    struct str family = word_take(&line);
    if (str_eq(family, STR("UNKNOWN")))
        return 0;
    int af = str_eq(family, STR("TCP4")) ? AF_INET : str_eq(family, STR("TCP6")) ? AF_INET6 : 0;
    struct str src = word_take(&line), dst = word_take(&line), sport = word_take(&line);
    uint8_t src_ip[16], dst_ip[16];
    uint16_t src_port, dst_port;
    /* The last word may hold no space: port_read() takes the whole rest. */
    if (af == 0 || ip_read(af, src, src_ip) < 0 || ip_read(af, dst, dst_ip) < 0 ||
        port_read(sport, &src_port) < 0 || port_read(line, &dst_port) < 0)
        return -EBADMSG;
    h->src = addr_make(af, src_ip, src_port);
    h->dst = addr_make(af, dst_ip, dst_port);
    return 0;
}

static enum sniff_verdict v1(struct str in, struct header *h)
{
    size_t max = in.n < V1_MAX ? in.n : V1_MAX;
    const char *lf = memchr(in.p, '\n', max);
    if (!lf)
        return in.n < V1_MAX ? SNIFF_MORE : SNIFF_BAD;
    size_t n = (size_t)(lf - in.p);
    if (in.p[n - 1] != '\r')
        return SNIFF_BAD;
    h->len = n + 1;
    return v1_line(str_skip((struct str){in.p, n - 1}, 6), h) < 0 ? SNIFF_BAD : SNIFF_DONE;
}

static struct addr unix_read(struct rd *r)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct str path = rd_bytes(r, UNIX_SIZE);
    memcpy(un.sun_path, path.p, path.n);
    return addr_from((const struct sockaddr *)&un, sizeof un);
}

/* The address block. Of families and transports other than these "the receiver should ignore the
 * information" (2.2). */
static int v2_addresses(uint8_t family, struct rd r, struct header *h)
{
    if (family == V2_UNIX_STREAM) {
        h->src = unix_read(&r);
        h->dst = unix_read(&r);
    } else if (family == V2_TCP4 || family == V2_TCP6) {
        size_t size = family == V2_TCP4 ? 4 : 16;
        int af = family == V2_TCP4 ? AF_INET : AF_INET6;
        struct str src = rd_bytes(&r, size), dst = rd_bytes(&r, size);
        uint16_t src_port = rd_u16(&r), dst_port = rd_u16(&r);
        if (!rd_ok(&r))
            return -EBADMSG;
        h->src = addr_make(af, src.p, src_port);
        h->dst = addr_make(af, dst.p, dst_port);
    }
    return rd_ok(&r) ? 0 : -EBADMSG;
}

static enum sniff_verdict v2(struct str in, struct header *h)
{
    struct rd r = rd_init(in.p, in.n);
    (void)rd_bytes(&r, V2_SIGNATURE.n);
    if (r.left >= 1 && r.p[0] != V2_LOCAL && r.p[0] != V2_PROXY)
        return SNIFF_BAD;
    if (in.n < V2_HEAD)
        return SNIFF_MORE;
    uint8_t command = rd_u8(&r), family = rd_u8(&r);
    size_t n = rd_u16(&r);
    if (n > SNIFF_BYTES_MAX - V2_HEAD)
        return SNIFF_BAD;
    if (r.left < n)
        return SNIFF_MORE;
    h->len = V2_HEAD + n;
    if (command == V2_LOCAL)
        return SNIFF_DONE;
    struct str body = rd_bytes(&r, n);
    return v2_addresses(family, rd_init(body.p, body.n), h) < 0 ? SNIFF_BAD : SNIFF_DONE;
}

enum sniff_verdict proxy_sniff(struct str in, size_t *ret_len, struct addr *ret_src,
                               struct addr *ret_dst)
{
    struct header h = {0};
    enum sniff_verdict one = sniff_starts(in, STR("PROXY ")), two = sniff_starts(in, V2_SIGNATURE);
    if (one == SNIFF_DONE)
        one = v1(in, &h);
    else if (two == SNIFF_DONE)
        one = v2(in, &h);
    else
        return one == SNIFF_NOT ? two : one;
    if (one != SNIFF_DONE)
        return one;
    *ret_len = h.len;
    *ret_src = h.src;
    *ret_dst = h.dst;
    return SNIFF_DONE;
}
