/* Makes pairs of connected TCP sockets. Only the connection that was made here is accepted: any
 * local process may connect to a listening socket. */
#include "ipc/pair.h"

#include <netinet/tcp.h>

#define STRANGERS_MAX 16

struct addr pair_address(const struct key *key)
{
    const uint8_t ip[4] = {127, (uint8_t)(64 | (key->b[0] & 63)), key->b[1],
                           (uint8_t)(1 + key->b[2] % 254)};
    return addr_make(AF_INET, ip, 0);
}

static int bound(const struct addr *a, struct addr *ret_name)
{
    const int one = 1;
    CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof ret_name->v4;
    if (fd < 0)
        return -errno;
    /* Ports of connections that have just ended are to be had again. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, &a->sa, a->len) < 0 || getsockname(fd, &ret_name->sa, &len) < 0)
        return -errno;
    ret_name->len = len;
    return fd_take(&fd);
}

static int accept_own(int listener, const struct addr *own)
{
    for (int i = 0; i < STRANGERS_MAX; i++) {
        struct addr from;
        socklen_t len = sizeof from.v4;
        CLEANUP_FD int fd = accept4(listener, &from.sa, &len, SOCK_CLOEXEC);
        if (fd < 0)
            return -errno;
        from.len = len;
        if (addr_equal(&from, own))
            return fd_take(&fd);
    }
    return -ECONNABORTED;
}

int pair_make(const struct addr *from, const struct addr *at, struct pair *ret_pair)
{
    const int one = 1;
    struct pair p = {-EBADF, -EBADF, .ours_addr = *from};
    CLEANUP_FD int listener = bound(at, &p.theirs_addr);
    CLEANUP_FD int ours = bound(from, &p.ours_addr);
    if (listener < 0 || ours < 0)
        return listener < 0 ? listener : ours;
    if (listen(listener, STRANGERS_MAX) < 0 ||
        connect(ours, &p.theirs_addr.sa, p.theirs_addr.len) < 0)
        return -errno;
    int theirs = accept_own(listener, &p.ours_addr);
    if (theirs < 0)
        return theirs;
    (void)setsockopt(ours, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    p.ours = fd_take(&ours);
    p.theirs = theirs;
    *ret_pair = p;
    return 0;
}
