/* What is offered to another peer: where servers see us, ports that the router has mapped, and our
 * own addresses with the ports of the UDP socket and of the TCP listener. */
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

/* A port that the router keeps open may be one at which a server sees us: then it is known once, as
 * what it is. */
static size_t mapped_add(const struct net *n, struct record_candidate *c, size_t count,
                         enum record_transport transport)
{
    struct record_candidate mapped[2 * MAPPING_PORTS];
    size_t found = mapping_candidates(&n->mapping, mapped, 2 * MAPPING_PORTS);
    for (size_t i = 0; i < found; i++) {
        if (mapped[i].transport != transport)
            continue;
        size_t at = 0;
        while (at < count &&
               !(c[at].transport == transport && addr_equal(&c[at].addr, &mapped[i].addr)))
            at++;
        if (at < NET_ADDRS_MAX)
            c[at] = mapped[i];
        count += at == count && at < NET_ADDRS_MAX;
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

static bool is_over_tls(const struct net *n, uint32_t i, bool *ret_own_port)
{
    struct link_status s;
    link_status(n->link, i, &s);
    *ret_own_port = s.own_port;
    return s.transport == LINK_TLS;
}

static size_t tcp_add_one(struct record_candidate *c, size_t udp, size_t count,
                          enum record_kind kind, const struct addr *a)
{
    if (count == NET_ADDRS_MAX || is_there(c + udp, count - udp, a))
        return count;
    c[count] = (struct record_candidate){.kind = kind, .transport = RECORD_TCP, .addr = *a};
    return count + 1;
}

/* Where servers see the port that is listened at. One that is connected from another port shows the
 * address at least: a NAT that translates addresses, but not ports, has it open. */
static size_t tcp_seen_add(const struct net *n, struct record_candidate *c, size_t udp,
                           size_t count)
{
    const struct addr *seen = tcpseen_now(&n->tcpseen);
    if (seen->len)
        count = tcp_add_one(c, udp, count, RECORD_REFLEXIVE, seen);
    for (uint32_t i = 0; n->presence && i < n->server_count; i++) {
        struct addr a;
        bool own_port;
        if (!server_seen(n, i, &a) || !is_over_tls(n, i, &own_port))
            continue;
        if (!own_port)
            addr_set_port(&a, n->tcpways.port);
        count = tcp_add_one(c, udp, count, RECORD_REFLEXIVE, &a);
    }
    return count;
}

/* The same hosts over TCP. */
static size_t tcp_add(const struct net *n, struct record_candidate *c, size_t udp)
{
    if (n->tcpways.port == 0)
        return udp;
    size_t mapped = mapped_add(n, c, udp, RECORD_TCP), count = tcp_seen_add(n, c, udp, mapped);
    bool seen = count > mapped;
    for (size_t i = 0; i < udp; i++) {
        struct addr a = c[i].addr;
        enum record_kind kind = c[i].kind == RECORD_MAPPED ? RECORD_REFLEXIVE : c[i].kind;
        addr_set_port(&a, n->tcpways.port);
        if (kind == RECORD_HOST || !seen)
            count = tcp_add_one(c, udp, count, kind, &a);
    }
    return count;
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
        bool own_port;
        if (!server_seen(n, i, &seen) || is_over_tls(n, i, &own_port) || addr_port(&seen) == 0 ||
            is_there(ret, count, &seen))
            continue;
        ret[count++] = (struct record_candidate){
            .kind = RECORD_REFLEXIVE, .transport = RECORD_UDP, .addr = seen};
    }
    /* Reached over TLS although UDP passes: a packet was lost. */
    if (count == 0 && n->gathering.heard && n->gathering.result.seen.len)
        ret[count++] = (struct record_candidate){
            .kind = RECORD_REFLEXIVE, .transport = RECORD_UDP, .addr = n->gathering.result.seen};
    count = mapped_add(n, ret, count, RECORD_UDP);
    if (net_is_local(n))
        count = hosts_add(n, ret, count, true);
    return tcp_add(n, ret, hosts_add(n, ret, count, false));
}
