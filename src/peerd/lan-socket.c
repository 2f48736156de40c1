/* The sockets of the local network, for IPv4 and IPv6: one each that is in the group on every
 * interface, and one each that asks and gets the answers. Datagrams come in and go out; the
 * descriptors are the struct's. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdlib.h>

#include "peerd/lan-internal.h"

static struct addr group_addr(int family)
{
    uint8_t ip[16];
    (void)inet_pton(family, family == AF_INET ? LAN_GROUP4 : LAN_GROUP6, ip);
    return addr_make(family, ip, LAN_PORT);
}

static void receive(struct lan_sockets *s, int fd)
{
    uint8_t bytes[LANMSG_MAX + 1];
    struct sockaddr_in6 from;
    /* A few, so that a flood does not keep everything else waiting. */
    for (int i = 0; i < 16; i++) {
        socklen_t len = sizeof from;
        ssize_t n = recvfrom(fd, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
        if (n < 0)
            return;
        struct addr a = addr_from((struct sockaddr *)&from, len);
        lan_input(s->lan, &a, bytes, (size_t)n);
    }
}

static void group_ready(struct watch *w, uint32_t events)
{
    struct lan_sockets *s = container_of(w, struct lan_sockets, group);
    (void)events;
    receive(s, s->group_fd);
}

static void own_ready(struct watch *w, uint32_t events)
{
    struct lan_sockets *s = container_of(w, struct lan_sockets, own);
    (void)events;
    receive(s, s->own_fd);
}

/* Bound to the group's address, so that nothing else for this port comes; a group of one link
 * cannot be bound for all links at once. Several users of one host listen at once. */
static int group_bind(int fd, int family)
{
    const int on = 1;
    struct addr a = group_addr(family);
    if (family == AF_INET6)
        a.v6.sin6_addr = in6addr_any;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return -errno;
    return bind(fd, &a.sa, a.len) < 0 ? -errno : 0;
}

static int sockets_open(struct lan_sockets *s, struct lan *l, int family)
{
    const int kind = SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    s->lan = l;
    s->group.ready = group_ready;
    s->own.ready = own_ready;
    s->group_fd = socket(family, kind, 0);
    s->own_fd = socket(family, kind, 0);
    if (s->group_fd < 0 || s->own_fd < 0)
        return -errno;
    const int on = 1;
    if (family == AF_INET6)
        (void)setsockopt(s->group_fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    int r = group_bind(s->group_fd, family);
    if (r == 0)
        r = loop_watch(l->loop, &s->group, s->group_fd, EPOLLIN);
    if (r == 0)
        r = loop_watch(l->loop, &s->own, s->own_fd, EPOLLIN);
    return r;
}

static void sockets_close(struct lan_sockets *s)
{
    loop_unwatch(s->lan->loop, &s->group);
    loop_unwatch(s->lan->loop, &s->own);
    s->group_fd = fd_close(s->group_fd);
    s->own_fd = fd_close(s->own_fd);
    s->joined_count = 0;
}

static int join(struct lan_sockets *s, int family, unsigned index)
{
    if (family == AF_INET) {
        struct ip_mreqn m = {.imr_ifindex = (int)index};
        (void)inet_pton(AF_INET, LAN_GROUP4, &m.imr_multiaddr);
        return setsockopt(s->group_fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof m);
    }
    struct ipv6_mreq m = {.ipv6mr_interface = index};
    (void)inet_pton(AF_INET6, LAN_GROUP6, &m.ipv6mr_multiaddr);
    return setsockopt(s->group_fd, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &m, sizeof m);
}

/* A membership that was there already is as good; the kernel drops those of interfaces that go. */
static void join_new(struct lan_sockets *s, int family, unsigned index)
{
    for (unsigned i = 0; i < s->joined_count; i++)
        if (s->joined[i] == index)
            return;
    if (s->group_fd < 0 || s->joined_count == LAN_INTERFACES_MAX)
        return;
    if (join(s, family, index) == 0 || errno == EADDRINUSE)
        s->joined[s->joined_count++] = index;
}

static void forget_gone(struct lan_sockets *s)
{
    char name[IF_NAMESIZE];
    unsigned kept = 0;
    for (unsigned i = 0; i < s->joined_count; i++)
        if (if_indextoname(s->joined[i], name))
            s->joined[kept++] = s->joined[i];
    s->joined_count = kept;
}

void lan_sockets_join(struct lan *l)
{
    const unsigned want = IFF_UP | IFF_MULTICAST;
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0)
        return;
    forget_gone(&l->v4);
    forget_gone(&l->v6);
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        unsigned index = if_nametoindex(i->ifa_name);
        int family = i->ifa_addr ? i->ifa_addr->sa_family : AF_UNSPEC;
        if ((i->ifa_flags & want) != want || index == 0)
            continue;
        if (family == AF_INET)
            join_new(&l->v4, AF_INET, index);
        if (family == AF_INET6)
            join_new(&l->v6, AF_INET6, index);
    }
    freeifaddrs(all);
}

int lan_sockets_open(struct lan *l)
{
    l->v4.lan = l->v6.lan = l;
    l->v4.group_fd = l->v4.own_fd = l->v6.group_fd = l->v6.own_fd = -EBADF;
    l->v4.group.fd = l->v4.own.fd = l->v6.group.fd = l->v6.own.fd = -EBADF;
    int r4 = sockets_open(&l->v4, l, AF_INET);
    if (r4 < 0)
        sockets_close(&l->v4);
    int r6 = sockets_open(&l->v6, l, AF_INET6);
    if (r6 < 0)
        sockets_close(&l->v6);
    if (r4 < 0 && r6 < 0)
        return r4;
    lan_sockets_join(l);
    return l->v4.joined_count + l->v6.joined_count > 0 ? 0 : -ENODEV;
}

void lan_sockets_close(struct lan *l)
{
    sockets_close(&l->v4);
    sockets_close(&l->v6);
}

static void say4(struct lan_sockets *s, const void *bytes, size_t n)
{
    const struct addr to = group_addr(AF_INET);
    for (unsigned i = 0; i < s->joined_count; i++) {
        const struct ip_mreqn m = {.imr_ifindex = (int)s->joined[i]};
        if (setsockopt(s->own_fd, IPPROTO_IP, IP_MULTICAST_IF, &m, sizeof m) == 0)
            (void)!sendto(s->own_fd, bytes, n, MSG_DONTWAIT, &to.sa, to.len);
    }
}

static void say6(struct lan_sockets *s, const void *bytes, size_t n)
{
    struct addr to = group_addr(AF_INET6);
    for (unsigned i = 0; i < s->joined_count; i++) {
        to.v6.sin6_scope_id = s->joined[i];
        (void)!sendto(s->own_fd, bytes, n, MSG_DONTWAIT, &to.sa, to.len);
    }
}

void lan_sockets_say(struct lan *l, const void *bytes, size_t n)
{
    say4(&l->v4, bytes, n);
    say6(&l->v6, bytes, n);
}

void lan_sockets_answer(struct lan *l, const struct addr *to, const void *bytes, size_t n)
{
    const struct lan_sockets *s = to->sa.sa_family == AF_INET ? &l->v4 : &l->v6;
    if (s->own_fd >= 0)
        (void)!sendto(s->own_fd, bytes, n, MSG_DONTWAIT, &to->sa, to->len);
}
