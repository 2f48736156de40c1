/* Our paths and those of the library. It tells paths apart by both addresses and refuses to move to
 * one with the same local address, so the number of the way out becomes a made-up local one. */
#include <arpa/inet.h>

#include "quic/internal.h"

void path_to_lib(const struct quic_path *p, ngtcp2_path_storage *ret_ps)
{
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(p->id)};
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
