/* Text to struct route. What comes in is whatever a user typed or a configuration said; what goes
 * out is a canonical value (lower-case host, normalised path) or a sentence that says what would be
 * right. Nothing is allocated. */
#include "share/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "wire/name.h"

/* RFC 1035 2.3.4: labels have at most 63 octets, names 255 on the wire, which is 253 as text. */
#define LABEL_CHARS     63
#define HOST_NAME_CHARS 253

/* What a scheme can see, and so what its routes may say. */
struct scheme_rule {
    const char *name;
    bool names; /* its connections show a host name */
    bool alpn, user;
};

static const struct scheme_rule rules[SCHEME_COUNT] = {
    [SCHEME_HTTP] = {"http", .names = true},
    [SCHEME_TLS] = {"tls", .names = true, .alpn = true},
    [SCHEME_SSH] = {"ssh"},
    [SCHEME_SOCKS] = {"socks"},
    [SCHEME_RDP] = {"rdp", .user = true},
    [SCHEME_POSTGRES] = {"postgres", .user = true},
    [SCHEME_REDIS] = {"redis"},
    [SCHEME_MQTT] = {"mqtt", .user = true},
    [SCHEME_XMPP] = {"xmpp", .names = true},
    [SCHEME_PREFIX] = {"prefix"},
    [SCHEME_TCP] = {"tcp"},
    [SCHEME_PEER] = {"peer", .names = true},
    [SCHEME_ANY] = {"any", .names = true},
};

const char *route_scheme_name(enum route_scheme s)
{
    return (unsigned)s < SCHEME_COUNT ? rules[s].name : "?";
}

/* The sentence may quote what the user wrote, so nothing unprintable is let through to a terminal.
 */
__attribute__((format(printf, 2, 3))) static int fail(char *reason, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(reason, ROUTE_REASON_MAX, format, ap);
    va_end(ap);
    for (char *c = reason; *c; c++)
        if ((uint8_t)*c < 0x20 || (uint8_t)*c >= 0x7f)
            *c = '?';
    return -EINVAL;
}

/* A quotation short enough to leave room for the rest of the sentence. */
static struct str clip(struct str s)
{
    return (struct str){s.p, s.n > 40 ? 40 : s.n};
}

/* Where c is first found in s; s.n when it is not there. */
static size_t find_char(struct str s, char c)
{
    const char *at = s.n > 0 ? memchr(s.p, c, s.n) : NULL;
    return at ? (size_t)(at - s.p) : s.n;
}

static struct str str_head(struct str s, size_t n)
{
    return (struct str){s.p, n < s.n ? n : s.n};
}

static int hex_digit(char c)
{
    if (ascii_is_digit(c))
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes one byte off *s, decoding %XX. -EINVAL for a percent sign without two digits. */
static int take_byte(struct str *s)
{
    if (s->p[0] != '%') {
        int b = (uint8_t)s->p[0];
        *s = str_skip(*s, 1);
        return b;
    }
    int high = s->n >= 3 ? hex_digit(s->p[1]) : -1, low = s->n >= 3 ? hex_digit(s->p[2]) : -1;
    if (high < 0 || low < 0)
        return -EINVAL;
    *s = str_skip(*s, 3);
    return high << 4 | low;
}

/* Decodes into out, which keeps room for a final NUL. Returns the length, or -EINVAL. */
static int decode(struct str in, char *out, size_t size)
{
    size_t n = 0;
    while (in.n > 0) {
        int b = take_byte(&in);
        if (b < 0 || n + 1 >= size)
            return -EINVAL;
        out[n++] = (char)b;
    }
    out[n] = 0;
    return (int)n;
}

/* The same for what must be a C string. */
static int decode_text(struct str in, char *out, size_t size)
{
    int n = decode(in, out, size);
    return n >= 0 && strlen(out) == (size_t)n ? n : -EINVAL;
}

static int scheme_parse(struct str s, struct route *r, char *reason)
{
    if (str_eq_nocase(s, STR("https")))
        return fail(reason, "https needs the gateway, which this version does not have: use tls:// "
                            "to pass TLS through to the program");
    for (size_t i = 0; i < SCHEME_COUNT; i++) {
        if (!str_eq_nocase(s, str_of(rules[i].name)))
            continue;
        r->scheme = (enum route_scheme)i;
        return 0;
    }
    char known[ROUTE_REASON_MAX] = "";
    size_t n = 0;
    for (size_t i = 0; i < SCHEME_COUNT; i++)
        n += (size_t)snprintf(known + n, sizeof known - n, " %s", rules[i].name);
    s = str_head(s, 20);
    return fail(reason, "unknown scheme \"" STR_FMT "\": it is one of%s", STR_ARG(s), known);
}

static bool is_label_char(char c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c) || c == '-' || c == '_';
}

/* Names are compared as bytes with what clients send, so they are stored in the one form that the
 * sniffers give, too: lower case, no final dot. */
static int name_parse(struct str s, struct route *r, char *reason)
{
    if (s.n > 1 && s.p[s.n - 1] == '.')
        s.n--;
    struct str shown = clip(s);
    if (s.n > HOST_NAME_CHARS)
        return fail(reason, "the host name is too long: at most %d characters", HOST_NAME_CHARS);
    size_t label = 0;
    bool digits = true;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if ((uint8_t)c >= 0x80)
            return fail(reason, "a host name with other letters than ASCII is written in its xn-- "
                                "form, which is what clients send");
        if (c == '*')
            return fail(reason, "a * stands for the whole left-most label, as in *.example.org, or "
                                "for any host when it is alone");
        if (c != '.' && !is_label_char(c))
            return fail(reason,
                        "\"" STR_FMT "\" is no host name: it has letters, digits, - _ and . only",
                        STR_ARG(shown));
        if ((c == '.' && label == 0) || label == LABEL_CHARS + (c == '.'))
            break;
        label = c == '.' ? 0 : label + 1;
        digits = c == '.' || (digits && ascii_is_digit(c));
        r->host[i] = ascii_lower(c);
        r->host[i + 1] = 0;
    }
    if (strlen(r->host) != s.n || label == 0)
        return fail(reason,
                    "\"" STR_FMT "\" has an empty label, or one of more than %d characters: write "
                    "it as blog.example.org",
                    STR_ARG(shown), LABEL_CHARS);
    if (digits)
        return fail(reason,
                    "\"" STR_FMT "\" ends in a number but is no IPv4 address: write all four parts",
                    STR_ARG(shown));
    return 0;
}

static int address_parse(int family, const char *text, struct route *r, char *reason)
{
    uint8_t ip[16];
    if (inet_pton(family, text, ip) != 1)
        return fail(reason, "[%s] is no IPv6 address: write it as [2001:db8::1]", text);
    struct addr a = addr_make(family, ip, 0);
    a = addr_unmap(&a);
    if (addr_is_wildcard(&a))
        return fail(reason, "no connection comes to %s itself: write * for any address", text);
    r->kind = HOST_ADDR;
    r->addr = a;
    return 0;
}

/* A service, as the peer that publishes it has named it. */
static int service_parse(struct str s, struct route *r, char *reason)
{
    struct str shown = clip(s);
    if (s.n == 0 || str_eq(s, STR("*"))) {
        r->kind = HOST_WEAK;
        return 0;
    }
    if (!wire_name_valid(s))
        return fail(reason,
                    "\"" STR_FMT "\" is no service: its name has a-z, 0-9 and inner hyphens, at "
                    "most %d, as in peer://web",
                    STR_ARG(shown), WIRE_NAME_MAX);
    r->kind = HOST_NAME;
    memcpy(r->host, s.p, s.n);
    r->host[s.n] = 0;
    return 0;
}

static int host_parse(struct str s, struct route *r, char *reason)
{
    char text[INET6_ADDRSTRLEN];
    uint8_t ip[4];
    if (r->scheme == SCHEME_PEER)
        return service_parse(s, r, reason);
    if (s.n == 0 || str_eq(s, STR("*")) || str_eq(s, STR("+"))) {
        r->kind = s.n > 0 && s.p[0] == '+' ? HOST_STRONG : HOST_WEAK;
        return 0;
    }
    bool bracket = s.p[0] == '[';
    if (bracket && (s.n < 2 || s.n - 2 >= sizeof text))
        return fail(reason, "the IPv6 address in brackets is too long or too short");
    struct str inner = bracket ? (struct str){s.p + 1, s.n - 2} : s;
    if (inner.n < sizeof text) {
        memcpy(text, inner.p, inner.n);
        text[inner.n] = 0;
        if (bracket || inet_pton(AF_INET, text, ip) == 1)
            return address_parse(bracket ? AF_INET6 : AF_INET, text, r, reason);
    }
    r->kind = str_starts(s, STR("*.")) ? HOST_LABEL : HOST_NAME;
    if (name_parse(r->kind == HOST_LABEL ? str_skip(s, 2) : s, r, reason) < 0)
        return -EINVAL;
    if (rules[r->scheme].names)
        return 0;
    return fail(reason, "%s:// connections show no host name: use %s://* or a local address",
                rules[r->scheme].name, rules[r->scheme].name);
}

static int port_parse(struct str s, struct route *r, char *reason)
{
    uint32_t port = 0;
    bool good = s.n > 0 && s.n <= 5 && s.p[0] != '0';
    for (size_t i = 0; good && i < s.n; i++) {
        good = ascii_is_digit(s.p[i]);
        port = port * 10 + (uint32_t)(s.p[i] - '0');
    }
    s = clip(s);
    if (!good || port > UINT16_MAX)
        return fail(reason,
                    "\"" STR_FMT "\" is no port: write 1 to 65535, or leave it and its colon out",
                    STR_ARG(s));
    r->port = (uint16_t)port;
    return 0;
}

/* host[:port], where the host may be an IPv6 address in brackets. */
static int authority_parse(struct str s, struct route *r, char *reason)
{
    size_t end = find_char(s, ':');
    if (s.n > 0 && s.p[0] == '[') {
        end = find_char(s, ']');
        if (end == s.n)
            return fail(reason, "the bracket of the IPv6 address is not closed: [2001:db8::1]");
        end++;
    }
    struct str host = str_head(s, end), rest = str_skip(s, end);
    if (rest.n > 0 && rest.p[0] != ':')
        return fail(reason, "only :port may follow the bracket of an IPv6 address");
    if (rest.n > 0 && find_char(str_skip(rest, 1), ':') < rest.n - 1)
        return fail(reason, "an IPv6 address is written in brackets: [2001:db8::1]:80");
    if (host_parse(host, r, reason) < 0)
        return -EINVAL;
    return rest.n > 0 ? port_parse(str_skip(rest, 1), r, reason) : 0;
}

/* RFC 3986 2.3: unreserved characters mean the same encoded or not. */
static bool is_unreserved(int b)
{
    return b < 0x80 &&
           (ascii_is_alpha((char)b) || ascii_is_digit((char)b) || (b && strchr("-._~", b) != NULL));
}

/* One byte of a path in normal form (RFC 3986 6.2.2): unreserved as it is, a reserved one as it was
 * written, everything else percent-encoded in capitals. */
static size_t path_put(char out[4], int b, bool was_encoded)
{
    bool raw = is_unreserved(b) || (!was_encoded && b && strchr("!$&'()*+,;=:@/", b));
    return (size_t)snprintf(out, 4, raw ? "%c" : "%%%02X", b);
}

/* Has the path a segment that no request path has after normalisation? It begins and ends with a
 * slash. */
static bool has_bad_segment(struct str path)
{
    size_t start = 1;
    for (size_t i = 1; i < path.n; i++) {
        if (path.p[i] != '/')
            continue;
        struct str segment = {path.p + start, i - start};
        if (segment.n == 0 || str_eq(segment, STR(".")) || str_eq(segment, STR("..")))
            return true;
        start = i + 1;
    }
    return false;
}

static int path_is_long(char *reason)
{
    return fail(reason, "the path is too long: at most %d bytes with its final slash",
                ROUTE_PATH_MAX - 1);
}

static int http_path_parse(struct str s, struct route *r, char *reason)
{
    size_t n = 0;
    while (s.n > 0) {
        bool encoded = s.p[0] == '%';
        int b = take_byte(&s);
        if (b <= 0)
            return fail(reason, "in a path a %% is followed by two hex digits (%%25 is the percent "
                                "sign), which are not 00");
        char out[4];
        size_t size = path_put(out, b, encoded);
        if (n + size >= ROUTE_PATH_MAX)
            return path_is_long(reason);
        memcpy(r->path + n, out, size);
        n += size;
    }
    if (n == 0 || r->path[n - 1] != '/') {
        if (n + 1 >= ROUTE_PATH_MAX)
            return path_is_long(reason);
        r->path[n++] = '/';
    }
    r->path_len = (uint16_t)n;
    if (has_bad_segment((struct str){r->path, n}))
        return fail(reason, "the path has an empty, \".\" or \"..\" segment: write it as /a/b/");
    return 0;
}

static int postgres_path_parse(struct str s, struct route *r, char *reason)
{
    s = str_skip(s, 1);
    if (find_char(s, '/') < s.n)
        return fail(reason, "the path of postgres:// is one database: write a slash in it as %%2F");
    int n = decode_text(s, r->path, sizeof r->path);
    if (n < 0)
        return fail(reason, "the database name is too long, or has a %% without two hex digits");
    r->path_len = (uint16_t)n;
    return 0;
}

static int prefix_path_parse(struct str s, struct route *r, char *reason)
{
    int n = decode(str_skip(s, 1), r->path, sizeof r->path);
    if (n < 0)
        return fail(reason, "the prefix is too long, or has a %% without two hex digits");
    if (n == 0)
        return fail(reason, "prefix:// wants the first bytes of the connection behind the slash, "
                            "as in prefix://:7000/HELO%%20");
    r->path_len = (uint16_t)n;
    return 0;
}

static int path_parse(struct str s, struct route *r, char *reason)
{
    switch (r->scheme) {
    case SCHEME_HTTP:
        return http_path_parse(s, r, reason);
    case SCHEME_POSTGRES:
        return postgres_path_parse(s, r, reason);
    case SCHEME_PREFIX:
        return prefix_path_parse(s, r, reason);
    default:
        if (s.n <= 1)
            return 0;
        return fail(reason, "%s:// routes have no path: leave out what follows the port",
                    rules[r->scheme].name);
    }
}

static int word_parse(struct str value, char *out, size_t size, char *reason)
{
    int n = out[0] ? -EEXIST : decode_text(value, out, size);
    if (n == -EEXIST)
        return fail(reason, "alpn= and user= may be given once: write one route for each value");
    if (n > 0)
        return 0;
    value = clip(value);
    return fail(reason, "\"" STR_FMT "\" is empty, longer than %zu bytes or wrongly %%-encoded",
                STR_ARG(value), size - 1);
}

static int from_parse(struct str value, struct route *r, char *reason)
{
    char text[INET6_ADDRSTRLEN + 8];
    struct str shown = clip(value);
    if (r->from.family != AF_UNSPEC)
        return fail(reason, "from= may be given once: write one route for each source");
    int n = decode_text(value, text, sizeof text);
    if (n < 0 || prefix_parse((struct str){text, (size_t)n}, &r->from) < 0)
        return fail(reason,
                    "from=" STR_FMT " is no address prefix: write it as 192.168.0.0/16 (nothing "
                    "set behind the prefix) or as an address",
                    STR_ARG(shown));
    struct addr a = addr_make(r->from.family, r->from.ip, 0);
    if (r->from.family == AF_INET6 && r->from.bits >= 96 && addr_unmap(&a).sa.sa_family == AF_INET)
        return fail(reason, "from= with an IPv4 source is written as IPv4: 192.168.0.0/16");
    return 0;
}

static int option_parse(struct str s, struct route *r, char *reason)
{
    size_t equals = find_char(s, '=');
    struct str key = str_head(s, equals), value = str_skip(s, equals + 1);
    const struct scheme_rule *rule = &rules[r->scheme];
    if (r->scheme == SCHEME_PEER)
        return fail(reason, "peer:// routes have no options: who may dial is said where the "
                            "service is published");
    if (str_eq(key, STR("from")))
        return from_parse(value, r, reason);
    if (str_eq(key, STR("alpn")) && rule->alpn)
        return word_parse(value, r->alpn, sizeof r->alpn, reason);
    if (str_eq(key, STR("user")) && rule->user)
        return word_parse(value, r->user, sizeof r->user, reason);
    key = clip(key);
    return fail(reason, "%s:// knows no \"" STR_FMT "\": its options are from=%s%s", rule->name,
                STR_ARG(key), rule->alpn ? " and alpn=" : "", rule->user ? " and user=" : "");
}

static int query_parse(struct str s, struct route *r, char *reason)
{
    while (s.n > 0) {
        size_t end = find_char(s, '&');
        if (option_parse(str_head(s, end), r, reason) < 0)
            return -EINVAL;
        s = str_skip(s, end + 1);
    }
    return 0;
}

/* What is behind the "://". */
static int rest_parse(struct str s, struct route *r, char *reason)
{
    size_t question = find_char(s, '?');
    struct str query = str_skip(s, question + 1);
    s = str_head(s, question);
    size_t slash = find_char(s, '/');
    if (authority_parse(str_head(s, slash), r, reason) < 0 ||
        path_parse(str_skip(s, slash), r, reason) < 0)
        return -EINVAL;
    return query_parse(query, r, reason);
}

int route_parse(const char *text, struct route *ret_route, char reason[ROUTE_REASON_MAX])
{
    struct str all = str_of(text);
    const char *colon = strstr(text, "://");
    struct str shown = clip(all);
    if (!colon)
        return fail(reason,
                    "\"" STR_FMT "\" has no scheme: a route looks like http://blog.localhost:8080/",
                    STR_ARG(shown));
    if (all.n >= ROUTE_TEXT_MAX)
        return fail(reason, "a route has at most %d characters", ROUTE_TEXT_MAX - 1);
    if (find_char(all, '#') < all.n)
        return fail(reason, "no client sends what follows a #: leave it out, or write it as %%23");
    struct route r = {0};
    size_t scheme = (size_t)(colon - text);
    if (scheme_parse(str_head(all, scheme), &r, reason) < 0 ||
        rest_parse(str_skip(all, scheme + 3), &r, reason) < 0)
        return -EINVAL;
    char canonical[ROUTE_TEXT_MAX];
    if (!route_format(&r, canonical)[0])
        return fail(reason, "in its normal form the route has more than %d characters",
                    ROUTE_TEXT_MAX - 1);
    *ret_route = r;
    return 0;
}

int route_expand(const char *text, struct route ret_routes[2], char reason[ROUTE_REASON_MAX])
{
    if (strstr(text, "://"))
        return route_parse(text, &ret_routes[0], reason) < 0 ? -EINVAL : 1;
    struct str s = str_of(text), shown = clip(s);
    if (s.n == 0)
        return fail(reason, "the name is empty: write it as blog.localhost or as a whole route, "
                            "http://blog.localhost:8080/");
    if (find_char(s, '/') < s.n || find_char(s, '?') < s.n)
        return fail(reason,
                    "\"" STR_FMT "\" is more than a host: put the scheme in front, as in "
                    "http://blog.localhost/api/",
                    STR_ARG(shown));
    struct route r = {.scheme = SCHEME_HTTP, .path = "/", .path_len = 1};
    if (authority_parse(s, &r, reason) < 0)
        return -EINVAL;
    ret_routes[0] = ret_routes[1] = r;
    ret_routes[1].scheme = SCHEME_TLS;
    ret_routes[1].path[0] = 0;
    ret_routes[1].path_len = 0;
    return 2;
}
