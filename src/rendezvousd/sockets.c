/* Opens the sockets of the threads. Addresses come in; whoever asked owns the descriptors. */
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdio.h>

#include "rendezvousd/thread.h"

#define UDP_BUFFER (8 << 20)
#define CHOICES    32
#define BACKLOG    1024

static int set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

/* Replies leave from the address that was asked, which a socket bound to all of them must be told.
 */
static int udp_options(int fd, const struct addr *a)
{
    if (set(fd, SOL_SOCKET, SO_RCVBUFFORCE, UDP_BUFFER) < 0)
        (void)set(fd, SOL_SOCKET, SO_RCVBUF, UDP_BUFFER);
    if (set(fd, SOL_SOCKET, SO_SNDBUFFORCE, UDP_BUFFER) < 0)
        (void)set(fd, SOL_SOCKET, SO_SNDBUF, UDP_BUFFER);
    /* Where there is none, each packet comes alone. */
    (void)set(fd, SOL_UDP, UDP_GRO, 1);
    if (!addr_is_wildcard(a))
        return 0;
    return a->sa.sa_family == AF_INET6 ? set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
                                       : set(fd, IPPROTO_IP, IP_PKTINFO, 1);
}

/* Connections take the second one over: what is relayed in small packets is not to wait until the
 * other side has acknowledged the one before, which takes it 40 ms. */
static int tcp_options(int fd)
{
    int r = set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    return r < 0 ? r : set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

static int open_one(const struct addr *a, int type, bool shared)
{
    CLEANUP_FD int fd = socket(a->sa.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int r = a->sa.sa_family == AF_INET6 ? set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) : 0;
    if (r == 0 && type == SOCK_STREAM)
        r = tcp_options(fd);
    if (r == 0 && shared)
        r = set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (r == 0 && type == SOCK_DGRAM)
        r = udp_options(fd, a);
    if (r == 0 && bind(fd, &a->sa, a->len) < 0)
        r = -errno;
    if (r == 0 && shared && type == SOCK_STREAM && listen(fd, BACKLOG) < 0)
        r = -errno;
    return r < 0 ? r : fd_take(&fd);
}

/* Alone on the port? Without SO_REUSEPORT a stranger is found out. */
static int probe(struct addr *a, bool tcp)
{
    CLEANUP_FD int udp = open_one(a, SOCK_DGRAM, false);
    struct addr bound = *a;
    if (udp < 0 || getsockname(udp, &bound.sa, &bound.len) < 0)
        return udp < 0 ? udp : -errno;
    CLEANUP_FD int stream = tcp ? open_one(&bound, SOCK_STREAM, false) : -EBADF;
    if (tcp && stream < 0)
        return stream;
    *a = bound;
    return 0;
}

int sockets_choose(struct addr *a, bool tcp)
{
    int r = probe(a, tcp);
    for (int i = 0; r == -EADDRINUSE && addr_port(a) == 0 && i < CHOICES; i++)
        r = probe(a, tcp);
    return r;
}

static int choose(struct addr *a, bool tcp, struct addr *ret_busy)
{
    int r = sockets_choose(a, tcp);
    if (r < 0)
        *ret_busy = *a;
    return r;
}

static int four_once(struct addr at[2][2], struct addr *ret_busy)
{
    int r = choose(&at[0][0], true, ret_busy);
    if (r == 0)
        r = choose(&at[1][1], false, ret_busy);
    if (r < 0)
        return r;
    *ret_busy = at[1][1];
    /* RFC 5780 6: the ports differ as the addresses do. */
    if (addr_port(&at[0][0]) == addr_port(&at[1][1]))
        return -EADDRINUSE;
    at[0][1] = at[0][0];
    at[1][0] = at[1][1];
    addr_set_port(&at[0][1], addr_port(&at[1][1]));
    addr_set_port(&at[1][0], addr_port(&at[0][0]));
    r = choose(&at[0][1], false, ret_busy);
    return r < 0 ? r : choose(&at[1][0], false, ret_busy);
}

int sockets_choose_four(struct addr at[2][2], struct addr *ret_busy)
{
    const struct addr first = at[0][0], other = at[1][1];
    bool chosen = addr_port(&first) == 0 || addr_port(&other) == 0;
    int r = four_once(at, ret_busy);
    for (int i = 0; r == -EADDRINUSE && chosen && i < CHOICES; i++) {
        at[0][0] = first;
        at[1][1] = other;
        r = four_once(at, ret_busy);
    }
    return r;
}

int sockets_open(struct sockets *s, const struct addr *addrs, size_t tcp_count, size_t udp_count)
{
    int r = 0;
    s->udp_count = s->tcp_count = 0;
    for (size_t i = 0; r >= 0 && i < udp_count; i++) {
        r = open_one(&addrs[i], SOCK_DGRAM, true);
        if (r >= 0)
            s->udp[s->udp_count++] = r;
    }
    for (size_t i = 0; r >= 0 && i < tcp_count; i++) {
        r = open_one(&addrs[i], SOCK_STREAM, true);
        if (r >= 0)
            s->tcp[s->tcp_count++] = r;
    }
    if (r < 0)
        sockets_close(s);
    return r < 0 ? r : 0;
}

void sockets_close(struct sockets *s)
{
    while (s->udp_count > 0)
        (void)fd_close(s->udp[--s->udp_count]);
    while (s->tcp_count > 0)
        (void)fd_close(s->tcp[--s->tcp_count]);
}
