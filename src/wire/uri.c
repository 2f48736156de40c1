/* Hosts and paths: a slice of untrusted bytes comes in, its normal form goes out into the scratch
 * of the caller's struct sniffed. Nothing is kept here. */
#include "wire/uri.h"

#include <arpa/inet.h>
#include <errno.h>

#include "wire/scratch.h"

static bool is_alnum(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c);
}

/* One bit for each character that a token may have. */
static const uint64_t token_chars[4] = {0x03ff6cfa00000000, 0x57ffffffc7fffffe};

size_t uri_token_span(struct str s)
{
    size_t n = 0;
    while (n < s.n && token_chars[(uint8_t)s.p[n] / 64] >> (uint8_t)s.p[n] % 64 & 1)
        n++;
    return n;
}

int uri_name(struct str raw, struct sniffed *s, struct str *ret_host)
{
    if (raw.n > 0 && raw.p[raw.n - 1] == '.')
        raw.n--;
    if (raw.n == 0 || raw.n > URI_NAME_MAX)
        return -EBADMSG;
    char name[URI_NAME_MAX];
    size_t label = 0;
    for (size_t i = 0; i < raw.n; i++) {
        char c = raw.p[i];
        if (c == '.' ? label == 0 : !is_alnum(c) && c != '-' && c != '_')
            return -EBADMSG;
        label = c == '.' ? 0 : label + 1;
        if (label > URI_LABEL_MAX)
            return -EBADMSG;
        name[i] = ascii_lower(c);
    }
    struct str host = sniffed_keep(s, (struct str){name, raw.n});
    if (label == 0 || !host.p)
        return -EBADMSG;
    *ret_host = host;
    return 0;
}

/* RFC 3986 3.2.3: port = *DIGIT, so it may be empty. */
static bool is_port(struct str text)
{
    unsigned long port = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (!ascii_is_digit(text.p[i]) || i >= 5)
            return false;
        port = port * 10 + (unsigned long)(text.p[i] - '0');
    }
    return port <= UINT16_MAX;
}

/* `text` is what stands between the brackets. */
static int ip6_keep(struct str text, struct sniffed *s, struct str *ret_host)
{
    char buf[INET6_ADDRSTRLEN];
    uint8_t ip[16];
    if (text.n == 0 || text.n >= sizeof buf || memchr(text.p, 0, text.n))
        return -EBADMSG;
    memcpy(buf, text.p, text.n);
    buf[text.n] = 0;
    if (inet_pton(AF_INET6, buf, ip) != 1 || !inet_ntop(AF_INET6, ip, buf, sizeof buf))
        return -EBADMSG;
    struct str host = sniffed_keep(s, str_of(buf));
    if (!host.p)
        return -EBADMSG;
    *ret_host = host;
    return 0;
}

int uri_host(struct str raw, struct sniffed *s, struct str *ret_host)
{
    bool bracket = raw.n > 0 && raw.p[0] == '[';
    const char *end = raw.n > 0 ? memchr(raw.p, bracket ? ']' : ':', raw.n) : NULL;
    if (!end)
        return bracket ? -EBADMSG : uri_name(raw, s, ret_host);
    size_t n = (size_t)(end - raw.p);
    struct str rest = str_skip(raw, bracket ? n + 1 : n);
    if (rest.n > 0 && (rest.p[0] != ':' || !is_port(str_skip(rest, 1))))
        return -EBADMSG;
    if (bracket)
        return ip6_keep((struct str){raw.p + 1, n - 1}, s, ret_host);
    return uri_name((struct str){raw.p, n}, s, ret_host);
}

static int hex_digit(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The octet behind a percent sign at i, or -EBADMSG. */
static int octet_at(struct str raw, size_t i)
{
    int high = i + 2 < raw.n ? hex_digit(raw.p[i + 1]) : -1;
    int low = i + 2 < raw.n ? hex_digit(raw.p[i + 2]) : -1;
    return high < 0 || low < 0 ? -EBADMSG : high << 4 | low;
}

static bool is_unreserved(int octet)
{
    char c = (char)octet;
    return octet < 0x80 && (is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~');
}

/* Decodes one segment to as much of it as fits, and answers its whole length. Only visible ASCII
 * may stand in a target, and no fragment (RFC 9112 3.2). */
static int segment_decode(struct str raw, char *to, size_t room)
{
    size_t n = 0, digits_end = 0;
    for (size_t i = 0; i < raw.n; i++) {
        char c = raw.p[i];
        if (i < digits_end && ascii_is_alpha(c))
            c = (char)(c & ~0x20);
        if (c < 0x21 || c > 0x7e || c == '#')
            return -EBADMSG;
        if (c == '%') {
            int octet = octet_at(raw, i);
            if (octet < 0)
                return octet;
            if (is_unreserved(octet)) {
                c = (char)octet;
                i += 2;
            } else {
                digits_end = i + 3; /* RFC 3986 6.2.2.1: %c3 and %C3 are the same. */
            }
        }
        if (n < room)
            to[n] = c;
        n++;
    }
    return (int)n;
}

/* A path being put together: `used` bytes of whole segments, each with its slash in front, and
 * behind them the number of segments that did not fit. */
struct path {
    char *to;
    size_t used, room, beyond;
};

static void path_pop(struct path *p)
{
    if (p->beyond > 0) {
        p->beyond--;
        return;
    }
    while (p->used > 0 && p->to[--p->used] != '/')
        ;
}

/* Takes the segment of n bytes that was decoded behind the place of its slash. RFC 3986 5.2.4. */
static void path_push(struct path *p, size_t n, bool last)
{
    const char *seg = p->to + p->used + 1;
    bool dot = n == 1 && seg[0] == '.', dots = n == 2 && seg[0] == '.' && seg[1] == '.';
    if (dots)
        path_pop(p);
    if (dot || dots) {
        if (!last)
            return;
        n = 0;
    }
    if (p->beyond > 0 || p->used + 1 + n > p->room) {
        p->beyond++;
        return;
    }
    p->to[p->used] = '/';
    p->used += 1 + n;
}

int uri_path(struct str raw, struct sniffed *s, struct str *ret_path)
{
    /* The last bytes of the scratch are spare, so that dots are seen in a segment behind a full
     * path, and a final slash has a place. */
    enum { SPARE = 4 };
    if (raw.n == 0 || raw.p[0] != '/' || sniffed_room(s) <= SPARE)
        return -EBADMSG;
    struct path p = {s->scratch + s->scratch_used, 0, sniffed_room(s) - SPARE, 0};
    while (raw.n > 0) {
        raw = str_skip(raw, 1);
        const char *slash = raw.n > 0 ? memchr(raw.p, '/', raw.n) : NULL;
        struct str seg = {raw.p, slash ? (size_t)(slash - raw.p) : raw.n};
        int n = segment_decode(seg, p.to + p.used + 1, p.room + SPARE - p.used - 1);
        if (n < 0)
            return n;
        path_push(&p, (size_t)n, !slash);
        raw = str_skip(raw, seg.n);
    }
    if (p.beyond > 0 || p.used == 0)
        p.to[p.used++] = '/';
    s->scratch_used = (uint16_t)(s->scratch_used + p.used);
    *ret_path = (struct str){p.to, p.used};
    return 0;
}
