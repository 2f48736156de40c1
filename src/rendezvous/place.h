#pragma once
/* Where a peer is: its address, and by which socket or connection it came, so that what is for it
 * can be sent the same way. Small, and compared byte by byte. */

#include "base/addr.h"

/* How a message came; the numbers are those of who serves the sockets. */
struct rdv_via {
    uint64_t connection; /* 0: a datagram; otherwise TCP, which proves the address */
    uint8_t thread;      /* which took it */
    uint8_t socket;
    uint8_t local; /* the address of ours that a datagram was sent to; 0: not known */
};

/* Instead of a thread: a peer that is registered at another server. Its address is where that one
 * sees it, and `connection` is the name of that server's thread (nodemsg.h). */
#define PLACE_ELSEWHERE 255

struct place {
    uint64_t connection;
    uint8_t ip[16];
    uint16_t port;
    uint8_t family; /* 4 or 6; 0: nowhere */
    uint8_t thread, socket, local;
    uint16_t scope; /* IPv6, link-local: by which interface */
};
_Static_assert(sizeof(struct place) == 32, "a place has no holes");

static inline struct place place_make(const struct addr *from, const struct rdv_via *via)
{
    struct place p = {.connection = via->connection,
                      .port = addr_port(from),
                      .family = from->sa.sa_family == AF_INET6 ? 6 : 4,
                      .thread = via->thread,
                      .socket = via->socket,
                      .local = via->local};
    if (p.family == 6) {
        memcpy(p.ip, &from->v6.sin6_addr, 16);
        p.scope = (uint16_t)from->v6.sin6_scope_id;
        return p;
    }
    memcpy(p.ip, &from->v4.sin_addr, 4);
    return p;
}

static inline bool place_is_elsewhere(const struct place *p)
{
    return p->thread == PLACE_ELSEWHERE;
}

static inline struct addr place_addr(const struct place *p)
{
    return addr_make(p->family == 6 ? AF_INET6 : AF_INET, p->ip, p->port);
}

/* The same connection, or the same address and port; our own side does not matter. */
static inline bool place_equal(const struct place *a, const struct place *b)
{
    if (a->connection || b->connection)
        return a->connection == b->connection && a->thread == b->thread;
    return a->port == b->port && a->family == b->family && a->scope == b->scope &&
           memcmp(a->ip, b->ip, 16) == 0;
}
