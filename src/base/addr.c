/* Addresses as text and as sockaddr; which address covers which. Values in, values out. */
#include "base/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static int port_parse(const char *text, uint16_t *ret_port)
{
    if (!ascii_is_digit(text[0]) || strlen(text) > 5)
        return -EINVAL;
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (*end || v > UINT16_MAX)
        return -EINVAL;
    *ret_port = (uint16_t)v;
    return 0;
}

static int unix_parse(const char *path, struct addr *ret_addr)
{
    size_t n = strlen(path);
    struct addr a = {.un.sun_family = AF_UNIX};
    if (n == 0 || n >= sizeof a.un.sun_path)
        return -EINVAL;
    memcpy(a.un.sun_path, path, n + 1);
    a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    *ret_addr = a;
    return 0;
}

int addr_parse(const char *text, struct addr *ret_addr)
{
    if (strncmp(text, "unix:", 5) == 0)
        return unix_parse(text + 5, ret_addr);
    const char *colon = strrchr(text, ':');
    uint16_t port;
    if (!colon || port_parse(colon + 1, &port) < 0)
        return -EINVAL;
    char host[INET6_ADDRSTRLEN + 2];
    size_t n = (size_t)(colon - text);
    if (n >= sizeof host)
        return -EINVAL;
    memcpy(host, text, n);
    host[n] = 0;
    uint8_t ip[16] = {0};
    if (strcmp(host, "*") == 0 || n == 0) {
        *ret_addr = addr_make(AF_INET, ip, port);
        return 0;
    }
    if (host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = 0;
        if (inet_pton(AF_INET6, host + 1, ip) != 1)
            return -EINVAL;
        *ret_addr = addr_make(AF_INET6, ip, port);
        return 0;
    }
    if (inet_pton(AF_INET, host, ip) != 1)
        return -EINVAL;
    *ret_addr = addr_make(AF_INET, ip, port);
    return 0;
}

const char *addr_format(const struct addr *a, char buf[ADDR_TEXT_MAX])
{
    char ip[INET6_ADDRSTRLEN];
    switch (a->sa.sa_family) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &a->v4.sin_addr, ip, sizeof ip);
        (void)snprintf(buf, ADDR_TEXT_MAX, "%s:%u", ip, addr_port(a));
        break;
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &a->v6.sin6_addr, ip, sizeof ip);
        (void)snprintf(buf, ADDR_TEXT_MAX, "[%s]:%u", ip, addr_port(a));
        break;
    case AF_UNIX:
        (void)snprintf(buf, ADDR_TEXT_MAX, "unix:%s", a->un.sun_path);
        break;
    default:
        (void)snprintf(buf, ADDR_TEXT_MAX, "?");
    }
    return buf;
}

struct addr addr_make(int family, const void *ip, uint16_t port)
{
    struct addr a = {0};
    if (family == AF_INET) {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons(port);
        memcpy(&a.v4.sin_addr, ip, 4);
        a.len = sizeof a.v4;
    } else if (family == AF_INET6) {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons(port);
        memcpy(&a.v6.sin6_addr, ip, 16);
        a.len = sizeof a.v6;
    }
    return a;
}

struct addr addr_from(const struct sockaddr *sa, socklen_t len)
{
    struct addr a = {0};
    if (len < sizeof sa->sa_family || len > sizeof a.un)
        return a;
    bool ok = (sa->sa_family == AF_INET && len >= sizeof a.v4) ||
              (sa->sa_family == AF_INET6 && len >= sizeof a.v6) || sa->sa_family == AF_UNIX;
    if (!ok)
        return a;
    memcpy(&a.sa, sa, len);
    a.len = len;
    if (sa->sa_family == AF_UNIX)
        a.un.sun_path[sizeof a.un.sun_path - 1] = 0;
    return a;
}

uint16_t addr_port(const struct addr *a)
{
    if (a->sa.sa_family == AF_INET)
        return ntohs(a->v4.sin_port);
    return a->sa.sa_family == AF_INET6 ? ntohs(a->v6.sin6_port) : 0;
}

void addr_set_port(struct addr *a, uint16_t port)
{
    if (a->sa.sa_family == AF_INET)
        a->v4.sin_port = htons(port);
    else if (a->sa.sa_family == AF_INET6)
        a->v6.sin6_port = htons(port);
}

bool addr_is_wildcard(const struct addr *a)
{
    if (a->sa.sa_family == AF_INET)
        return a->v4.sin_addr.s_addr == htonl(INADDR_ANY);
    return a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->v6.sin6_addr);
}

bool addr_is_loopback(const struct addr *a)
{
    struct addr u = addr_unmap(a);
    if (u.sa.sa_family == AF_INET)
        return ntohl(u.v4.sin_addr.s_addr) >> 24 == 127;
    if (u.sa.sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&u.v6.sin6_addr);
    return u.sa.sa_family == AF_UNIX;
}

static bool ip_equal(const struct addr *a, const struct addr *b)
{
    if (a->sa.sa_family != b->sa.sa_family)
        return false;
    if (a->sa.sa_family == AF_INET)
        return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
    if (a->sa.sa_family == AF_INET6)
        return memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, 16) == 0;
    return a->sa.sa_family == AF_UNIX && strcmp(a->un.sun_path, b->un.sun_path) == 0;
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
    return addr_port(a) == addr_port(b) && ip_equal(a, b);
}

struct addr addr_unmap(const struct addr *a)
{
    if (a->sa.sa_family != AF_INET6 || memcmp(&a->v6.sin6_addr, mapped_prefix, 12) != 0)
        return *a;
    return addr_make(AF_INET, (const uint8_t *)&a->v6.sin6_addr + 12, addr_port(a));
}

/* A dual-stack wildcard stands for both families. */
static bool is_dual(const struct addr *a, bool v6only)
{
    return a->sa.sa_family == AF_INET6 && !v6only && addr_is_wildcard(a);
}

bool addr_covers(const struct addr *bound, bool v6only, const struct addr *local)
{
    struct addr l = addr_unmap(local), b = addr_unmap(bound);
    if (addr_port(&b) != addr_port(&l))
        return false;
    if (ip_equal(&b, &l))
        return true;
    if (!addr_is_wildcard(&b))
        return false;
    return b.sa.sa_family == l.sa.sa_family || (is_dual(&b, v6only) && l.sa.sa_family == AF_INET);
}

bool addr_overlap(const struct addr *a, bool a_v6only, const struct addr *b, bool b_v6only)
{
    if (addr_covers(a, a_v6only, b) || addr_covers(b, b_v6only, a))
        return true;
    return addr_port(a) == addr_port(b) && ((is_dual(a, a_v6only) && b->sa.sa_family == AF_INET) ||
                                            (is_dual(b, b_v6only) && a->sa.sa_family == AF_INET));
}

static bool host_bits_clear(const struct prefix *p)
{
    size_t size = p->family == AF_INET ? 4 : 16;
    for (size_t bit = p->bits; bit < size * 8; bit++)
        if (p->ip[bit / 8] & 0x80 >> bit % 8)
            return false;
    return true;
}

int prefix_parse(struct str text, struct prefix *ret_prefix)
{
    char buf[INET6_ADDRSTRLEN + 4];
    if (text.n == 0 || text.n >= sizeof buf)
        return -EINVAL;
    memcpy(buf, text.p, text.n);
    buf[text.n] = 0;
    char *slash = strchr(buf, '/');
    if (slash)
        *slash++ = 0;
    struct prefix p = {.family = strchr(buf, ':') ? AF_INET6 : AF_INET};
    uint16_t bits = p.family == AF_INET ? 32 : 128, max = bits;
    if (inet_pton(p.family, buf, p.ip) != 1 || (slash && port_parse(slash, &bits) < 0) ||
        bits > max)
        return -EINVAL;
    p.bits = (uint8_t)bits;
    if (!host_bits_clear(&p))
        return -EINVAL;
    *ret_prefix = p;
    return 0;
}

bool prefix_matches(const struct prefix *p, const struct addr *a)
{
    if (p->family == AF_UNSPEC)
        return true;
    struct addr u = addr_unmap(a);
    if (u.sa.sa_family != p->family)
        return false;
    const uint8_t *ip =
        p->family == AF_INET ? (const uint8_t *)&u.v4.sin_addr : (const uint8_t *)&u.v6.sin6_addr;
    size_t whole = p->bits / 8, rest = p->bits % 8;
    if (memcmp(ip, p->ip, whole) != 0)
        return false;
    return rest == 0 || ((ip[whole] ^ p->ip[whole]) & (0xff << (8 - rest) & 0xff)) == 0;
}
