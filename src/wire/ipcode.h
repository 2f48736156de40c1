#pragma once
/* An IPv4 or IPv6 address in a message between peers and servers: family 4 or 6, port, 4 or 16
 * bytes. No scope: it means nothing to another host. */

#include "base/addr.h"
#include "base/rd.h"
#include "base/wr.h"

static inline void ip_encode(struct wr *w, const struct addr *a)
{
    bool v6 = a->sa.sa_family == AF_INET6;
    wr_u8(w, v6 ? 6 : 4);
    wr_u16(w, addr_port(a));
    if (v6)
        wr_bytes(w, &a->v6.sin6_addr, 16);
    else
        wr_bytes(w, &a->v4.sin_addr, 4);
}

/* Another family is the sticky error. */
static inline struct addr ip_decode(struct rd *r)
{
    uint8_t family = rd_u8(r);
    uint16_t port = rd_u16(r);
    struct str ip = rd_bytes(r, family == 6 ? 16 : 4);
    if (family != 4 && family != 6)
        r->failed = true;
    if (!rd_ok(r))
        return (struct addr){.len = 0};
    return addr_make(family == 6 ? AF_INET6 : AF_INET, ip.p, port);
}
