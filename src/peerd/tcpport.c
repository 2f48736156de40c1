/* Makes sockets of one TCP port. The descriptors are the caller's. */
#include "peerd/tcpport.h"

#include <netinet/tcp.h>

#define BACKLOG 32
/* What every path of IPv6 carries, and all of IPv4 but the oddest: where larger packets vanish and
 * nobody says so, TCP does not find out. Both sides keep to it. */
#define SEGMENT (1280 - 60)

static void option(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

/* A connection ends by RST: what it carried is repeated elsewhere, and one that remained in
 * TIME_WAIT would keep the next one between the same two ports from being made. Those that are
 * accepted inherit it. */
static void linger_not(int fd)
{
    const struct linger hard = {1, 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

/* SO_REUSEPORT comes after bind(): where somebody listens already this one has to fail, and
 * the connections that are made from here later need it of the listener. */
static int listen_at(int fd, const struct addr *a, struct addr *ret_name)
{
    struct addr name;
    socklen_t len = sizeof name.v6;
    option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (a->sa.sa_family == AF_INET6)
        option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (bind(fd, &a->sa, a->len) < 0)
        return -errno;
    option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    option(fd, IPPROTO_TCP, TCP_MAXSEG, SEGMENT);
    linger_not(fd);
    if (listen(fd, BACKLOG) < 0 || getsockname(fd, &name.sa, &len) < 0)
        return -errno;
    name.len = len;
    *ret_name = name;
    return fd;
}

static struct addr any_address(int family, uint16_t port)
{
    static const uint8_t any[16] = {0};
    return addr_make(family, any, port);
}

int tcpport_listen(bool v6, uint16_t port, struct addr *ret_name)
{
    struct addr a = any_address(v6 ? AF_INET6 : AF_INET, port);
    int fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int r = listen_at(fd, &a, ret_name);
    if (r < 0)
        (void)fd_close(fd);
    return r;
}

static int connect_from(int fd, uint16_t port, const struct addr *to)
{
    struct addr a = any_address(to->sa.sa_family, port);
    linger_not(fd);
    option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    option(fd, IPPROTO_TCP, TCP_MAXSEG, SEGMENT);
    if (bind(fd, &a.sa, a.len) < 0)
        return -errno;
    return connect(fd, &to->sa, to->len) < 0 && errno != EINPROGRESS ? -errno : 0;
}

int tcpport_connect(uint16_t port, const struct addr *to)
{
    int fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int r = connect_from(fd, port, to);
    if (r == 0)
        return fd;
    (void)fd_close(fd);
    return r;
}

uint16_t tcpport_of(int fd)
{
    struct addr name;
    socklen_t len = sizeof name.v6;
    return getsockname(fd, &name.sa, &len) == 0 ? addr_port(&name) : 0;
}

bool tcpport_is_answered(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
           info.tcpi_state != TCP_SYN_SENT;
}

int tcpport_result(int fd)
{
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 ? -errno : -error;
}
