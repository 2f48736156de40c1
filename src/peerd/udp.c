/* One UDP socket, for IPv4 and IPv6 where there is both. Datagrams come in by recvmmsg() with GRO
 * and go out with GSO. Addresses come in and go out as what they are: a mapped one is never seen
 * outside of this file. */
#include "peerd/udp.h"

#include <linux/in6.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdlib.h>

#include "base/log.h"

#define SOCKET_BUFFER (4 << 20)

static void option(int fd, int level, int name, int value)
{
    if (setsockopt(fd, level, name, &value, sizeof value) < 0)
        log_debug("socket option level=%d name=%d err=%d", level, name, errno);
}

static void options_set(struct udp *u)
{
    option(u->fd, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER);
    option(u->fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER);
    option(u->fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER);
    option(u->fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER);
    option(u->fd, SOL_UDP, UDP_GRO, 1);
    /* RFC 9000 14: datagrams of QUIC are never fragmented. */
    option(u->fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    if (u->v6)
        option(u->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
}

static int try_family(struct udp *u, int family, uint16_t port)
{
    static const uint8_t any[16] = {0};
    struct addr a = addr_make(family, any, port), got;
    socklen_t len = sizeof got.v6;
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (family == AF_INET6)
        option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (bind(fd, &a.sa, a.len) < 0 || getsockname(fd, &got.sa, &len) < 0) {
        int r = -errno;
        (void)fd_close(fd);
        return r;
    }
    got.len = len;
    u->fd = fd;
    u->v6 = family == AF_INET6;
    u->port = addr_port(&got);
    return 0;
}

static struct addr outside(const struct udp *u, const struct addr *a)
{
    if (!u->v6 || a->sa.sa_family != AF_INET)
        return *a;
    uint8_t ip[16] = {[10] = 0xff, [11] = 0xff};
    memcpy(ip + 12, &a->v4.sin_addr, 4);
    return addr_make(AF_INET6, ip, addr_port(a));
}

union gro_control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

static size_t segment_size(struct msghdr *m, size_t n)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        int size = 0;
        if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO)
            continue;
        memcpy(&size, CMSG_DATA(c), sizeof size);
        return size > 0 ? (size_t)size : n;
    }
    return n;
}

static int batch_read(struct udp *u)
{
    struct mmsghdr messages[UDP_BATCH];
    struct iovec iov[UDP_BATCH];
    union gro_control control[UDP_BATCH];
    struct sockaddr_in6 from[UDP_BATCH];
    for (size_t i = 0; i < UDP_BATCH; i++) {
        iov[i] = (struct iovec){u->buffer + i * UDP_BYTES, UDP_BYTES};
        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &from[i],
                                                   .msg_namelen = sizeof from[i],
                                                   .msg_iov = &iov[i],
                                                   .msg_iovlen = 1,
                                                   .msg_control = &control[i],
                                                   .msg_controllen = sizeof control[i]}};
    }
    int n = recvmmsg(u->fd, messages, UDP_BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < n && u->fd >= 0; i++) {
        struct msghdr *m = &messages[i].msg_hdr;
        struct addr raw = addr_from((struct sockaddr *)&from[i], m->msg_namelen);
        struct addr a = addr_unmap(&raw);
        size_t size = messages[i].msg_len;
        if (size > 0)
            u->input(u->ctx, &a, iov[i].iov_base, size, segment_size(m, size));
    }
    return n;
}

static void ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct udp *u = container_of(w, struct udp, watch);
    for (int i = 0; i < UDP_ROUNDS && u->fd >= 0; i++)
        if (batch_read(u) < UDP_BATCH)
            return;
}

int udp_open(struct udp *u, uint16_t port)
{
    int r = try_family(u, AF_INET6, port);
    if (r < 0 && r != -EADDRINUSE)
        r = try_family(u, AF_INET, port);
    if (r < 0)
        return r;
    options_set(u);
    u->buffer = malloc((size_t)UDP_BATCH * UDP_BYTES);
    u->watch.ready = ready;
    u->watch.fd = -EBADF;
    return u->buffer ? loop_watch(u->loop, &u->watch, u->fd, EPOLLIN) : -ENOMEM;
}

void udp_close(struct udp *u)
{
    if (u->fd < 0)
        return;
    loop_unwatch(u->loop, &u->watch);
    u->fd = fd_close(u->fd);
    free(u->buffer);
    u->buffer = NULL;
}

union gso_control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(uint16_t))];
};

static int send_one(struct udp *u, const struct addr *to, struct iovec iov, uint16_t segment)
{
    union gso_control control = {0};
    struct msghdr m = {
        .msg_name = (void *)&to->sa, .msg_namelen = to->len, .msg_iov = &iov, .msg_iovlen = 1};
    if (segment > 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_UDP;
        c->cmsg_type = UDP_SEGMENT;
        c->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(c), &segment, sizeof segment);
    }
    return sendmsg(u->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void send_each(struct udp *u, const struct addr *to, struct iovec all, size_t segment)
{
    uint8_t *p = all.iov_base;
    for (size_t at = 0; at < all.iov_len; at += segment) {
        size_t n = all.iov_len - at < segment ? all.iov_len - at : segment;
        if (send_one(u, to, (struct iovec){p + at, n}, 0) < 0)
            u->dropped++;
    }
}

/* EIO and EINVAL: the device or its checksums do not go with GSO (udp(7)). */
static void send_burst(struct udp *u, const struct addr *to, struct iovec all, size_t segment)
{
    bool one = all.iov_len <= segment;
    if (!one && !u->no_gso) {
        int r = send_one(u, to, all, (uint16_t)segment);
        if (r == 0)
            return;
        if (r != -EIO && r != -EINVAL) {
            u->dropped += all.iov_len / segment;
            return;
        }
        u->no_gso = r == -EIO;
    }
    send_each(u, to, all, segment);
}

void udp_send(struct udp *u, const struct addr *to, const void *bytes, size_t n, size_t segment)
{
    struct addr a = outside(u, to);
    if (u->fd < 0 || n == 0 || (!u->v6 && a.sa.sa_family != AF_INET))
        return;
    if (segment == 0 || segment > n)
        segment = n;
    size_t burst = segment * UDP_BURST < 65000 ? segment * UDP_BURST : 65000 / segment * segment;
    for (size_t at = 0; at < n; at += burst) {
        struct iovec part = {(uint8_t *)bytes + at, n - at < burst ? n - at : burst};
        send_burst(u, &a, part, segment);
    }
}

void udp_send_ttl(struct udp *u, const struct addr *to, const void *bytes, size_t n, unsigned ttl)
{
    if (ttl)
        option(u->fd, IPPROTO_IP, IP_TTL, (int)ttl);
    udp_send(u, to, bytes, n, n);
    if (ttl)
        option(u->fd, IPPROTO_IP, IP_TTL, -1);
}

int udp_own_address(const struct addr *to, struct addr *ret_own)
{
    struct sockaddr_in6 name;
    socklen_t len = sizeof name;
    CLEANUP_FD int fd = socket(to->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &to->sa, to->len) < 0 ||
        getsockname(fd, (struct sockaddr *)&name, &len) < 0)
        return -errno;
    *ret_own = addr_from((struct sockaddr *)&name, len);
    addr_set_port(ret_own, 0);
    return 0;
}
