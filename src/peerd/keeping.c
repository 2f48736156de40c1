/* Gives the machine its sockets, finds a server for it, and tells presence how often the NAT wants
 * a packet. Sessions ask for themselves. */
#include "peerd/keeping.h"

#include <sodium.h>

#include "base/clock.h"
#include "base/log.h"
#include "peerd/net.h"
#include "peerd/peerd.h"
#include "peerd/remote.h"

#define DATAGRAM_MAX 512
#define READ_BURST   16
/* After a server that went away in the middle of it. */
#define AGAIN_MS 600000

/* Who needs it --------------------------------------------------------------------------------- */

static bool is_wanted(const struct net *n)
{
    const struct peerd *p = n->peerd;
    if (p->state.publication_count > 0)
        return true;
    list_for_each(r, &p->remotes, struct remote, link) if (path_is_direct(r)) return true;
    return false;
}

/* On loopback and with TLS alone there is no NAT's mapping to be kept. */
static bool server_fits(const struct net *n, uint32_t i, struct link_status *ret_link,
                        struct presence_server *ret_server)
{
    presence_server(n->presence, i, ret_server);
    link_status(n->link, i, ret_link);
    return ret_server->state == PRESENCE_REGISTERED && !ret_server->silent &&
           ret_link->transport == LINK_UDP && ret_link->addr.sa.sa_family == AF_INET &&
           ret_server->seen.len > 0 && !addr_is_loopback(&ret_link->addr);
}

static bool has_server(const struct net *n)
{
    struct link_status l;
    struct presence_server s;
    for (uint32_t i = 0; n->presence && i < n->server_count; i++)
        if (server_fits(n, i, &l, &s))
            return true;
    return false;
}

uint32_t keeping_interval_ms(const struct keeping *k)
{
    return lifetime_interval_ms(&k->result);
}

static void tell(struct keeping *k)
{
    uint32_t ms = is_wanted(k->net) && has_server(k->net) ? keeping_interval_ms(k) : 0;
    if (ms == k->told_ms || !k->net->presence)
        return;
    k->told_ms = ms;
    presence_keep(k->net->presence, ms);
    net_kick(k->net);
}

/* Sockets ---------------------------------------------------------------------------------------
 */

static void sockets_shut(struct keeping *k)
{
    for (size_t i = 0; i < LIFETIME_SOCKETS; i++) {
        loop_unwatch(&k->net->peerd->loop, &k->sockets[i].watch);
        k->sockets[i].fd = fd_close(k->sockets[i].fd);
    }
}

static void stop(struct keeping *k)
{
    loop_untimer(&k->timer);
    lifetime_free(k->machine);
    k->machine = NULL;
    sockets_shut(k);
}

static void end(struct keeping *k)
{
    stop(k);
    log_info("nat keeps alive_ms=%u dead_ms=%u inbound=%s interval_ms=%u packets=%u",
             k->result.alive_ms, k->result.dead_ms, lifetime_inbound_word(k->result.inbound),
             keeping_interval_ms(k), k->result.sent);
    if (k->result.state != LIFETIME_CUT_OFF)
        return;
    k->again_ms = clock_now_ms() + AGAIN_MS;
    k->asked = 0;
}

static void run(struct keeping *k)
{
    struct lifetime_send s;
    while (lifetime_poll(k->machine, clock_now_us(), &s))
        if (sendto(k->sockets[s.socket].fd, s.bytes, s.n, MSG_DONTWAIT | MSG_NOSIGNAL,
                   &k->server.sa, k->server.len) < 0)
            log_debug("not sent err=%d", errno);
    k->result = lifetime_result(k->machine);
    uint64_t now = clock_now_us(), next = lifetime_next(k->machine);
    if (next == UINT64_MAX)
        end(k);
    else
        loop_timer(&k->net->peerd->loop, &k->timer, next > now ? (next - now) / 1000 + 1 : 1);
    tell(k);
}

static void timer_fired(struct timer *t)
{
    run(container_of(t, struct keeping, timer));
}

static void ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct keeping_socket *s = container_of(w, struct keeping_socket, watch);
    struct keeping *k = s->keeping;
    char bytes[DATAGRAM_MAX];
    for (int i = 0; i < READ_BURST && k->machine; i++) {
        struct sockaddr_in6 name;
        socklen_t len = sizeof name;
        ssize_t n =
            recvfrom(s->fd, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&name, &len);
        if (n < 0)
            return;
        struct addr from = addr_from((struct sockaddr *)&name, len);
        if (!addr_equal(&from, &k->server))
            continue;
        lifetime_input(k->machine, s->which, (struct str){bytes, (size_t)n}, clock_now_us());
        run(k);
    }
}

static int socket_open(struct keeping_socket *s)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&any, sizeof any) < 0)
        return -errno;
    return loop_watch(&s->keeping->net->peerd->loop, &s->watch, s->fd, EPOLLIN);
}

/* Beginning -------------------------------------------------------------------------------------
 */

static void begin(struct keeping *k, const struct addr *server, const struct addr *seen)
{
    uint64_t seed;
    randombytes_buf(&seed, sizeof seed);
    k->machine = lifetime_new(seed);
    k->server = *server;
    k->seen = *seen;
    k->result = (struct lifetime_result){.state = LIFETIME_MEASURING};
    int r = k->machine ? 0 : -ENOMEM;
    for (size_t i = 0; r >= 0 && i < LIFETIME_SOCKETS; i++)
        r = socket_open(&k->sockets[i]);
    if (r < 0) {
        log_debug("lifetimes are not measured err=%d", r);
        stop(k);
        k->again_ms = clock_now_ms() + AGAIN_MS;
        return;
    }
    run(k);
}

/* The first that is there and was not asked yet: should it come to nothing another one is asked. */
static void begin_somewhere(struct keeping *k)
{
    struct net *n = k->net;
    for (uint32_t i = 0; n->presence && i < n->server_count; i++) {
        struct link_status l;
        struct presence_server s;
        if (k->asked & 1u << i || !server_fits(n, i, &l, &s))
            continue;
        k->asked |= 1u << i;
        k->at = i;
        begin(k, &l.addr, &s.seen);
        return;
    }
}

/* Does the server that was asked see us at another address than then? */
static bool has_moved(const struct keeping *k)
{
    struct presence_server s;
    struct addr seen = k->seen;
    if (k->seen.len == 0 || !k->net->presence)
        return false;
    presence_server(k->net->presence, k->at, &s);
    addr_set_port(&seen, addr_port(&s.seen));
    return s.seen.len > 0 && !addr_equal(&seen, &s.seen);
}

void keeping_look(struct keeping *k)
{
    if (has_moved(k))
        keeping_network_changed(k);
    tell(k);
    if (k->machine || k->result.state == LIFETIME_MEASURED || clock_now_ms() < k->again_ms)
        return;
    if (is_wanted(k->net))
        begin_somewhere(k);
}

void keeping_network_changed(struct keeping *k)
{
    stop(k);
    k->result = (struct lifetime_result){.state = LIFETIME_MEASURING};
    k->seen = (struct addr){.len = 0};
    k->asked = 0;
    k->again_ms = 0;
}

/* What is measured of this network stays. */
void keeping_servers_changed(struct keeping *k)
{
    struct lifetime_result known = k->result;
    bool measured = !k->machine && known.state == LIFETIME_MEASURED;
    keeping_network_changed(k);
    k->told_ms = 0;
    if (measured)
        k->result = known;
}

void keeping_init(struct keeping *k, struct net *n)
{
    *k = (struct keeping){.net = n, .timer.fire = timer_fired};
    for (size_t i = 0; i < LIFETIME_SOCKETS; i++)
        k->sockets[i] = (struct keeping_socket){
            .keeping = k, .which = (enum lifetime_socket)i, .fd = -EBADF, .watch = {-EBADF, ready}};
}

void keeping_done(struct keeping *k)
{
    stop(k);
}

const char *keeping_word(const struct keeping *k)
{
    if (k->machine)
        return "measuring";
    return k->result.state == LIFETIME_MEASURED     ? "measured"
           : k->result.state == LIFETIME_IMPOSSIBLE ? "impossible"
                                                    : "unknown";
}
