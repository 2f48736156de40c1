#pragma once
/* An IP address in a message: family, port, 16 bytes, scope. A Unix path has a form of its own. */

#include "base/addr.h"
#include "base/rd.h"
#include "base/wr.h"

static inline void addr_encode(struct wr *w, const struct addr *a)
{
    uint8_t ip[16] = {0};
    if (a->sa.sa_family == AF_INET)
        memcpy(ip, &a->v4.sin_addr, 4);
    else if (a->sa.sa_family == AF_INET6)
        memcpy(ip, &a->v6.sin6_addr, 16);
    wr_u8(w, (uint8_t)a->sa.sa_family);
    wr_u16(w, addr_port(a));
    wr_bytes(w, ip, sizeof ip);
    wr_u32(w, a->sa.sa_family == AF_INET6 ? a->v6.sin6_scope_id : 0);
}

/* A Unix address comes back without its path: who receives it needs only the family. */
static inline void addr_decode(struct rd *r, struct addr *ret_addr)
{
    uint8_t family = rd_u8(r);
    uint16_t port = rd_u16(r);
    struct str ip = rd_bytes(r, 16);
    uint32_t scope = rd_u32(r);
    struct addr a = {0};
    if (rd_ok(r) && (family == AF_INET || family == AF_INET6))
        a = addr_make(family, ip.p, port);
    if (a.sa.sa_family == AF_INET6)
        a.v6.sin6_scope_id = scope;
    if (family == AF_UNIX) {
        a.un.sun_family = AF_UNIX;
        a.len = sizeof a.un.sun_family;
    }
    *ret_addr = a;
}
