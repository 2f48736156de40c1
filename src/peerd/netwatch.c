/* Listens to the kernel's news about addresses. News come in; one call goes out when the addresses
 * by which others can reach us are not what they were, or one of them has gone in between: the same
 * address may be back on another network. */
#include "peerd/netwatch.h"

#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* Addresses of one network come and go together. */
#define SETTLE_MS 500

static uint64_t hash_add(uint64_t h, const void *bytes, size_t n)
{
    const uint8_t *b = bytes;
    /* FNV-1a: differences are wanted, not secrecy. */
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 1099511628211ull;
    return h;
}

static uint64_t address_hash(const struct ifaddrs *i)
{
    const struct sockaddr *sa = i->ifa_addr;
    uint64_t h = hash_add(14695981039346656037ull, i->ifa_name, strlen(i->ifa_name));
    if (!sa || (i->ifa_flags & (IFF_UP | IFF_LOOPBACK)) != IFF_UP)
        return 0;
    if (sa->sa_family == AF_INET)
        return hash_add(h, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
    const struct in6_addr *ip = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
    if (sa->sa_family != AF_INET6 || IN6_IS_ADDR_LINKLOCAL(ip))
        return 0;
    return hash_add(h, ip, sizeof *ip);
}

/* Their order means nothing. */
static uint64_t addresses_hash(void)
{
    struct ifaddrs *all = NULL;
    uint64_t sum = 0;
    if (getifaddrs(&all) < 0)
        return 0;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next)
        sum += address_hash(i);
    freeifaddrs(all);
    return sum;
}

static void settled(struct timer *t)
{
    struct netwatch *w = container_of(t, struct netwatch, settle);
    uint64_t now = addresses_hash();
    bool other = w->lost || now != w->seen;
    w->lost = false;
    w->seen = now;
    if (other)
        w->changed(w);
}

/* One that only its own link knows is no loss: containers come and go. */
static bool is_loss(const struct nlmsghdr *h)
{
    const struct ifaddrmsg *a = NLMSG_DATA(h);
    return h->nlmsg_type == RTM_DELADDR && a->ifa_scope < RT_SCOPE_LINK;
}

static void ready(struct watch *watch, uint32_t events)
{
    struct netwatch *w = container_of(watch, struct netwatch, watch);
    _Alignas(struct nlmsghdr) char buf[8192];
    ssize_t n;
    (void)events;
    while ((n = recv(w->fd, buf, sizeof buf, MSG_DONTWAIT)) > 0) {
        const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)buf;
        for (size_t left = (size_t)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
            w->lost = w->lost || is_loss(h);
    }
    loop_timer(w->loop, &w->settle, SETTLE_MS);
}

int netwatch_start(struct netwatch *w, struct loop *loop, void (*changed)(struct netwatch *w))
{
    const struct sockaddr_nl to = {.nl_family = AF_NETLINK,
                                   .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
    *w = (struct netwatch){.loop = loop, .changed = changed, .watch.fd = -EBADF};
    w->watch.ready = ready;
    w->settle.fire = settled;
    w->seen = addresses_hash();
    w->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (w->fd < 0)
        return -errno;
    if (bind(w->fd, (const struct sockaddr *)&to, sizeof to) < 0)
        return -errno;
    return loop_watch(loop, &w->watch, w->fd, EPOLLIN);
}

void netwatch_stop(struct netwatch *w)
{
    loop_unwatch(w->loop, &w->watch);
    loop_untimer(&w->settle);
    w->fd = fd_close(w->fd);
}
