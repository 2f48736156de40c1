/* struct route to its canonical text, and the question whether two routes are the same. Values in,
 * text out, into the caller's buffer. */
#include "share/route.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/wr.h"

static void put_text(struct wr *w, const char *text)
{
    wr_bytes(w, text, strlen(text));
}

/* Unreserved characters of RFC 3986 2.3 and those of `keep` as they are, the rest as %XX. */
static void put_encoded(struct wr *w, struct str s, const char *keep)
{
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i], code[4];
        bool raw =
            ascii_is_alpha(c) || ascii_is_digit(c) || (c && (strchr("-._~", c) || strchr(keep, c)));
        (void)snprintf(code, sizeof code, raw ? "%c" : "%%%02X", (uint8_t)c);
        put_text(w, code);
    }
}

static void put_ip(struct wr *w, int family, const void *ip)
{
    char text[INET6_ADDRSTRLEN];
    put_text(w, inet_ntop(family, ip, text, sizeof text) ? text : "?");
}

static void put_host(struct wr *w, const struct route *r)
{
    switch (r->kind) {
    case HOST_STRONG:
        put_text(w, "+");
        break;
    case HOST_LABEL:
        put_text(w, "*.");
        put_text(w, r->host);
        break;
    case HOST_NAME:
        put_text(w, r->host);
        break;
    case HOST_ADDR:
        if (r->addr.sa.sa_family == AF_INET6) {
            put_text(w, "[");
            put_ip(w, AF_INET6, &r->addr.v6.sin6_addr);
            put_text(w, "]");
        } else {
            put_ip(w, AF_INET, &r->addr.v4.sin_addr);
        }
        break;
    case HOST_WEAK:
        put_text(w, "*");
    }
}

static struct str path_of(const struct route *r)
{
    return (struct str){r->path, r->path_len < ROUTE_PATH_MAX ? r->path_len : ROUTE_PATH_MAX};
}

static void put_path(struct wr *w, const struct route *r)
{
    struct str path = path_of(r);
    if (r->scheme == SCHEME_HTTP) {
        wr_bytes(w, path.p, path.n);
    } else if (path.n > 0) {
        put_text(w, "/");
        put_encoded(w, path, r->scheme == SCHEME_PREFIX ? "/:@" : ":@");
    }
}

static void put_query(struct wr *w, const struct route *r)
{
    const char *joint = "?";
    if (r->alpn[0]) {
        put_text(w, "?alpn=");
        put_encoded(w, str_of(r->alpn), "/:@");
        joint = "&";
    }
    if (r->user[0]) {
        put_text(w, joint);
        put_text(w, "user=");
        put_encoded(w, str_of(r->user), "/:@");
        joint = "&";
    }
    if (r->from.family == AF_UNSPEC)
        return;
    char bits[8];
    (void)snprintf(bits, sizeof bits, "/%u", r->from.bits);
    put_text(w, joint);
    put_text(w, "from=");
    put_ip(w, r->from.family, r->from.ip);
    put_text(w, bits);
}

const char *route_format(const struct route *r, char buf[ROUTE_TEXT_MAX])
{
    struct wr w = wr_init(buf, ROUTE_TEXT_MAX);
    put_text(&w, route_scheme_name(r->scheme));
    put_text(&w, "://");
    put_host(&w, r);
    if (r->port) {
        char port[8];
        (void)snprintf(port, sizeof port, ":%u", r->port);
        put_text(&w, port);
    }
    put_path(&w, r);
    put_query(&w, r);
    wr_u8(&w, 0);
    if (!wr_ok(&w))
        buf[0] = 0;
    return buf;
}

static bool prefix_same(const struct prefix *a, const struct prefix *b)
{
    if (a->family != b->family)
        return false;
    return a->family == AF_UNSPEC ||
           (a->bits == b->bits && memcmp(a->ip, b->ip, a->family == AF_INET ? 4 : 16) == 0);
}

static bool host_same(const struct route *a, const struct route *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind != HOST_ADDR)
        return strcmp(a->host, b->host) == 0;
    struct addr x = addr_unmap(&a->addr), y = addr_unmap(&b->addr);
    addr_set_port(&x, 0);
    addr_set_port(&y, 0);
    return addr_equal(&x, &y);
}

bool route_same(const struct route *a, const struct route *b)
{
    return a->scheme == b->scheme && a->port == b->port && host_same(a, b) &&
           str_eq(path_of(a), path_of(b)) && strcmp(a->alpn, b->alpn) == 0 &&
           strcmp(a->user, b->user) == 0 && prefix_same(&a->from, &b->from);
}
