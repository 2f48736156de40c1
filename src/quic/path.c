/* Our paths and those of the library, which tells paths apart by both addresses. The local one is
 * made up: its address is the number of the way out, its port the epoch, which counts the moves.
 *
 * The epoch is there because 0.12 of the library does not move to a path with the same local
 * address, and because as a server it goes on checking the path that was left, for seconds, and
 * meanwhile does not go back to it. A move brings a new connection ID, so the server sees a new
 * path each time. */
#include <arpa/inet.h>

#include "quic/internal.h"

bool path_equal(const struct quic_path *a, const struct quic_path *b)
{
    return a->id == b->id && addr_equal(&a->remote, &b->remote);
}

void path_to_lib(const struct quic_path *p, uint16_t epoch, ngtcp2_path_storage *ret_ps)
{
    struct sockaddr_in local = {
        .sin_family = AF_INET,
        .sin_port = epoch,
        .sin_addr.s_addr = htonl(p->id),
    };
    ngtcp2_path_storage_init(ret_ps, (const struct sockaddr *)&local, sizeof local, &p->remote.sa,
                             p->remote.len, NULL);
}

struct quic_path path_from_lib(const ngtcp2_path *p)
{
    struct quic_path path = {.remote = addr_from(p->remote.addr, p->remote.addrlen)};
    struct addr local = addr_from(p->local.addr, p->local.addrlen);
    path.id = ntohl(local.v4.sin_addr.s_addr);
    return path;
}

/* Where the peer moves we see its new ID; where we move we know ourselves. */
uint16_t path_epoch(struct quic_conn *c, const struct quic_path *from, struct cid *by)
{
    if (!c->client) {
        if (!by->seen && c->phase == CONN_OPEN)
            by->epoch = ++c->epoch;
        by->seen = true;
        return by->epoch;
    }
    for (uint16_t back = 0; back < EPOCHS_KEPT && back <= c->epoch; back++) {
        uint16_t epoch = c->epoch - back;
        if (path_equal(&c->recent[epoch % EPOCHS_KEPT], from))
            return epoch;
    }
    return c->epoch;
}
