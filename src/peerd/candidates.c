/* What is offered to another peer: our own addresses with the ports of the UDP socket and of the
 * TCP listener, and where servers see us. */
#include <ifaddrs.h>
#include <net/if.h>

#include "peerd/net.h"

/* The rest of an offer is for TCP. */
#define UDP_MAX 11

static bool is_offered(const struct ifaddrs *i)
{
    const struct sockaddr *sa = i->ifa_addr;
    if (!sa || !(i->ifa_flags & IFF_UP) || (sa->sa_family != AF_INET && sa->sa_family != AF_INET6))
        return false;
    /* A link-local address means nothing without the interface, which is the other side's. */
    return sa->sa_family != AF_INET6 ||
           !IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
}

static bool is_there(const struct record_candidate *c, size_t n, const struct addr *a)
{
    for (size_t i = 0; i < n; i++)
        if (addr_equal(&c[i].addr, a))
            return true;
    return false;
}

static size_t hosts_add(struct net *n, struct record_candidate *c, size_t count, bool loopback)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0)
        return count;
    for (struct ifaddrs *i = all; i && count < UDP_MAX; i = i->ifa_next) {
        if (!is_offered(i))
            continue;
        bool v6 = i->ifa_addr->sa_family == AF_INET6;
        struct addr a =
            addr_from(i->ifa_addr, v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
        addr_set_port(&a, n->udp.port);
        if (addr_is_loopback(&a) != loopback || (v6 && !n->udp.v6) || is_there(c, count, &a))
            continue;
        c[count++] =
            (struct record_candidate){.kind = RECORD_HOST, .transport = RECORD_UDP, .addr = a};
    }
    freeifaddrs(all);
    return count;
}

/* The same hosts over TCP. A server that is connected over TCP does not see our listener's port;
 * one that translates addresses but not ports has it open. */
static size_t tcp_add(const struct net *n, struct record_candidate *c, size_t count)
{
    size_t udp = count;
    for (size_t i = 0; n->tcpways.port && i < udp && count < NET_ADDRS_MAX; i++) {
        struct addr a = c[i].addr;
        addr_set_port(&a, n->tcpways.port);
        if (!is_there(c + udp, count - udp, &a))
            c[count++] =
                (struct record_candidate){.kind = c[i].kind, .transport = RECORD_TCP, .addr = a};
    }
    return count;
}

static bool server_seen(const struct net *n, uint32_t i, struct addr *ret_seen)
{
    struct presence_server s;
    presence_server(n->presence, i, &s);
    *ret_seen = s.seen;
    return s.seen.len > 0;
}

bool net_is_local(const struct net *n)
{
    struct addr seen;
    for (uint32_t i = 0; n->presence && i < n->server_count; i++)
        if (server_seen(n, i, &seen) && addr_is_loopback(&seen))
            return true;
    return false;
}

/* Loopback is offered only where a server is seen on loopback: then both may be on one machine. */
size_t net_candidates(struct net *n, struct record_candidate ret[NET_ADDRS_MAX])
{
    size_t count = 0;
    for (uint32_t i = 0; n->presence && i < n->server_count && count < UDP_MAX; i++) {
        struct addr seen;
        if (!server_seen(n, i, &seen) || addr_port(&seen) == 0 || is_there(ret, count, &seen))
            continue;
        ret[count++] = (struct record_candidate){
            .kind = RECORD_REFLEXIVE, .transport = RECORD_UDP, .addr = seen};
    }
    if (net_is_local(n))
        count = hosts_add(n, ret, count, true);
    return tcp_add(n, ret, hosts_add(n, ret, count, false));
}
