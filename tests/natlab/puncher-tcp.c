/* TCP sockets for simultaneous open: listener and connections have the same local port, and a
 * server says where it sees that. Each descriptor is the caller's. */
#include "puncher-tcp.h"

#include "wire/rdvmsg.h"

#include <errno.h>
#include <sys/time.h>
#include <unistd.h>

/* SO_LINGER of zero: a connection that nobody needs any more leaves no TIME_WAIT on the port. */
static int tcp_socket(uint16_t port, int flags)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct linger hard = {1, 0};
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0 &&
        bind(fd, (struct sockaddr *)&at, sizeof at) == 0)
        return fd;
    int r = -errno;
    (void)close(fd);
    return r;
}

int tcp_listen(uint16_t *ret_port)
{
    struct sockaddr_in at;
    socklen_t len = sizeof at;
    int fd = tcp_socket(0, SOCK_NONBLOCK);
    if (fd < 0)
        return fd;
    if (listen(fd, 16) < 0 || getsockname(fd, (struct sockaddr *)&at, &len) < 0) {
        int r = -errno;
        (void)close(fd);
        return r;
    }
    *ret_port = ntohs(at.sin_port);
    return fd;
}

int tcp_accept(int listener, struct addr *ret_from)
{
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    int fd = accept4(listener, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return -errno;
    *ret_from = addr_from((struct sockaddr *)&from, len);
    return fd;
}

int tcp_connect(uint16_t port, const struct addr *to)
{
    int fd = tcp_socket(port, SOCK_NONBLOCK);
    if (fd < 0 || connect(fd, &to->sa, to->len) == 0 || errno == EINPROGRESS)
        return fd;
    int r = -errno;
    (void)close(fd);
    return r;
}

int tcp_result(int fd)
{
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? -errno : -error;
}

/* HELLO is answered with the address that it came from. */
static int ask_seen(int fd, struct addr *ret_seen)
{
    uint8_t bytes[2 + RDVMSG_MAX];
    struct rdvmsg m = {.type = RDVMSG_HELLO, .transaction = 1, .pad_to = 64};
    int n = rdvmsg_encode(&m, bytes + 2, RDVMSG_MAX);
    if (n < 0)
        return n;
    bytes[0] = (uint8_t)(n >> 8);
    bytes[1] = (uint8_t)n;
    if (send(fd, bytes, (size_t)n + 2, MSG_NOSIGNAL) != n + 2)
        return -EPIPE;
    ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    if (got < 2 || rdvmsg_decode(&m, bytes + 2, (size_t)got - 2) < 0 || m.type != RDVMSG_COOKIE_IS)
        return -EBADMSG;
    *ret_seen = m.addr;
    return 0;
}

int tcp_seen(uint16_t port, const struct addr *server, struct addr *ret_seen)
{
    struct timeval limit = {2, 0};
    int fd = tcp_socket(port, 0);
    if (fd < 0)
        return fd;
    int r = -ETIMEDOUT;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
        connect(fd, &server->sa, server->len) == 0)
        r = ask_seen(fd, ret_seen);
    (void)close(fd);
    return r;
}
