/* PROXY headers, written: two addresses and what berth adds come in, the bytes that stand in front
 * of a connection go out. */
#include "wire/proxy.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/wr.h"

enum { V2_PROXY = 0x21, V2_UNSPEC = 0x00, V2_TCP4 = 0x11, V2_TCP6 = 0x21 };

static const void *ip_of(const struct addr *a)
{
    return a->sa.sa_family == AF_INET ? (const void *)&a->v4.sin_addr
                                      : (const void *)&a->v6.sin6_addr;
}

/* The family of both, or AF_UNSPEC. */
static int family_of(const struct addr *src, const struct addr *dst)
{
    int family = src->sa.sa_family;
    bool inet = family == AF_INET || family == AF_INET6;
    return inet && dst->sa.sa_family == family ? family : AF_UNSPEC;
}

static void v1_encode(struct wr *w, const struct addr *src, const struct addr *dst)
{
    char line[128], from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
    int family = family_of(src, dst), n;
    if (family == AF_UNSPEC || !inet_ntop(family, ip_of(src), from, sizeof from) ||
        !inet_ntop(family, ip_of(dst), to, sizeof to))
        n = snprintf(line, sizeof line, "PROXY UNKNOWN\r\n");
    else
        n = snprintf(line, sizeof line, "PROXY TCP%c %s %s %u %u\r\n",
                     family == AF_INET ? '4' : '6', from, to, addr_port(src), addr_port(dst));
    wr_bytes(w, line, (size_t)n);
}

static void v2_encode(struct wr *w, const struct addr *src, const struct addr *dst,
                      const struct proxy_header *h)
{
    uint8_t body[PROXY_MAX];
    struct wr b = wr_init(body, sizeof body);
    int family = family_of(src, dst);
    size_t ip = family == AF_INET ? 4 : 16;
    if (family != AF_UNSPEC) {
        wr_bytes(&b, ip_of(src), ip);
        wr_bytes(&b, ip_of(dst), ip);
        wr_u16(&b, addr_port(src));
        wr_u16(&b, addr_port(dst));
    }
    for (size_t i = 0; i < h->tlv_count; i++) {
        wr_u8(&b, h->tlvs[i].type);
        wr_vec16(&b, h->tlvs[i].value);
    }
    w->failed |= !wr_ok(&b);
    wr_bytes(w, "\r\n\r\n\0\r\nQUIT\n", 12);
    wr_u8(w, V2_PROXY);
    wr_u8(w, family == AF_INET ? V2_TCP4 : family == AF_INET6 ? V2_TCP6 : V2_UNSPEC);
    wr_vec16(w, (struct str){(const char *)body, b.used});
}

int proxy_encode(unsigned version, const struct proxy_header *h, void *buf, size_t size)
{
    struct wr w = wr_init(buf, size);
    struct addr src = addr_unmap(&h->src), dst = addr_unmap(&h->dst);
    if (version == 1)
        v1_encode(&w, &src, &dst);
    else
        v2_encode(&w, &src, &dst, h);
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}
