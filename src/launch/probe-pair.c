/* Two TCP sockets that are connected to each other. They go out; the listener between them does not
 * outlive the call. */
#include <poll.h>

#include "launch/probe.h"

/* Anybody may connect to a listener of the machine's own address meanwhile: those are turned away.
 */
#define STRANGERS_MAX 16
#define WAIT_MS       50

static int listener_open(struct addr *ret_at)
{
    struct addr at = addr_make(AF_INET, (uint8_t[]){127, 0, 0, 1}, 0);
    CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, &at.sa, at.len) < 0 || listen(fd, STRANGERS_MAX) < 0 ||
        getsockname(fd, &at.sa, &at.len) < 0)
        return -errno;
    *ret_at = at;
    return fd_take(&fd);
}

/* Loopback takes no time, but the kernel may be busy. */
static bool wait_for(int fd, short events)
{
    struct pollfd p = {.fd = fd, .events = events};
    return poll(&p, 1, WAIT_MS) == 1;
}

static int connect_to(const struct addr *at, struct addr *ret_own)
{
    int err = 0;
    socklen_t len = sizeof err;
    struct addr own = {.len = sizeof own.un};
    CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || (connect(fd, &at->sa, at->len) < 0 && errno != EINPROGRESS))
        return -errno;
    if (!wait_for(fd, POLLOUT))
        return -ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 ||
        getsockname(fd, &own.sa, &own.len) < 0)
        return -errno;
    if (err != 0)
        return -err;
    *ret_own = own;
    return fd_take(&fd);
}

/* Blocking, and without any option set, as a program's own accept() would give it. */
static int accept_from(int listener, const struct addr *peer)
{
    for (int i = 0; i < STRANGERS_MAX && wait_for(listener, POLLIN); i++) {
        struct addr from = {.len = sizeof from.un};
        CLEANUP_FD int fd = accept4(listener, &from.sa, &from.len, SOCK_CLOEXEC);
        if (fd < 0)
            return -errno;
        if (addr_equal(&from, peer))
            return fd_take(&fd);
    }
    return -ETIMEDOUT;
}

int probe_tcp_pair(int *ret_ours, int *ret_theirs)
{
    struct addr at, own;
    CLEANUP_FD int listener = listener_open(&at);
    if (listener < 0)
        return listener;
    CLEANUP_FD int ours = connect_to(&at, &own);
    if (ours < 0)
        return ours;
    int theirs = accept_from(listener, &own);
    if (theirs < 0)
        return theirs;
    *ret_ours = fd_take(&ours);
    *ret_theirs = theirs;
    return 0;
}
