/* Listens to the kernel's news about addresses, default routes and carriers. News come in; one call
 * goes out when the addresses by which others can reach us, or the way to the Internet, are not
 * what they were, or one of them had gone in between: the same address may be back on another
 * network. */
#include "peerd/netwatch.h"

#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "peerd/netroute.h"

/* Addresses and routes of one network come and go together. */
#define SETTLE_MS 200
/* Routes as wide as this are the way to the Internet: some cover it by two halves. */
#define WIDE_BITS 1

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

/* Does the link go nowhere at the moment? */
static bool is_cut(const struct ifaddrs *all, int link)
{
    char name[IF_NAMESIZE];
    if (link == 0 || !if_indextoname((unsigned)link, name))
        return false;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next)
        if (strcmp(i->ifa_name, name) == 0)
            return !(i->ifa_flags & IFF_RUNNING);
    return false;
}

static bool way_is_cut(const struct netwatch *w)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0)
        return false;
    bool cut = is_cut(all, w->links[0] ? w->links[0] : w->links[1]);
    freeifaddrs(all);
    return cut;
}

/* Without a carrier there is nothing to be done yet: its return is news, too. */
static void settled(struct timer *t)
{
    struct netwatch *w = container_of(t, struct netwatch, settle);
    struct netroute route = netroute_now();
    uint64_t now = addresses_hash() ^ route.hash;
    bool other = w->lost || now != w->seen;
    memcpy(w->links, route.links, sizeof w->links);
    if (!other || way_is_cut(w))
        return;
    w->lost = false;
    w->seen = now;
    w->changed(w);
}

static bool is_of_way(const struct netwatch *w, const struct ifinfomsg *i)
{
    return i->ifi_index == w->links[0] || i->ifi_index == w->links[1];
}

/* An address that only its own link knows is no loss: containers come and go. */
static bool is_loss(const struct netwatch *w, const struct nlmsghdr *h)
{
    const struct ifaddrmsg *a = NLMSG_DATA(h);
    const struct ifinfomsg *i = NLMSG_DATA(h);
    if (h->nlmsg_type == RTM_NEWLINK)
        return is_of_way(w, i) && !(i->ifi_flags & IFF_RUNNING);
    return h->nlmsg_type == RTM_DELADDR && a->ifa_scope < RT_SCOPE_LINK;
}

/* Links and routes of containers are none. */
static bool is_news(const struct netwatch *w, const struct nlmsghdr *h)
{
    const struct rtmsg *r = NLMSG_DATA(h);
    if (h->nlmsg_type == RTM_NEWROUTE || h->nlmsg_type == RTM_DELROUTE)
        return r->rtm_dst_len <= WIDE_BITS && r->rtm_table != RT_TABLE_LOCAL;
    if (h->nlmsg_type == RTM_NEWLINK || h->nlmsg_type == RTM_DELLINK)
        return is_of_way(w, NLMSG_DATA(h));
    return true;
}

static void ready(struct watch *watch, uint32_t events)
{
    struct netwatch *w = container_of(watch, struct netwatch, watch);
    _Alignas(struct nlmsghdr) char buf[8192];
    ssize_t n;
    bool news = false;
    (void)events;
    while ((n = recv(w->fd, buf, sizeof buf, MSG_DONTWAIT)) > 0) {
        const struct nlmsghdr *h = (const struct nlmsghdr *)(const void *)buf;
        for (size_t left = (size_t)n; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            w->lost = w->lost || is_loss(w, h);
            news = news || is_news(w, h);
        }
    }
    /* Some were lost when there were too many (ENOBUFS). */
    if (news || (n < 0 && errno != EAGAIN))
        loop_timer(w->loop, &w->settle, SETTLE_MS);
}

int netwatch_start(struct netwatch *w, struct loop *loop, void (*changed)(struct netwatch *w))
{
    const struct sockaddr_nl to = {.nl_family = AF_NETLINK,
                                   .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                                RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE |
                                                RTMGRP_LINK};
    struct netroute route = netroute_now();
    *w = (struct netwatch){.loop = loop, .changed = changed, .watch.fd = -EBADF};
    w->watch.ready = ready;
    w->settle.fire = settled;
    w->seen = addresses_hash() ^ route.hash;
    memcpy(w->links, route.links, sizeof w->links);
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
