/* Carries out what the machine wants, with sockets that are closed when it is done. Servers'
 * addresses come in; what is known of the NAT goes to offering.c, first what its answers tell and
 * then, when silence has told of its filter, the whole. */
#include "peerd/gathering.h"

#include <sodium.h>

#include "base/clock.h"
#include "base/log.h"
#include "keys/place.h"
#include "peerd/net.h"
#include "peerd/offering.h"
#include "peerd/peerd.h"
#include "peerd/sockets.h"

static void send_out(struct gathering *g, const struct gather_action *a)
{
    struct extra *x = a->socket ? sockets_find(g->net, NULL, 0, a->socket) : NULL;
    if (x)
        sockets_send(x, &a->to, a->bytes, a->n, 0);
    else if (a->socket == 0)
        udp_send(&g->net->udp, &a->to, a->bytes, a->n, a->n);
}

static void open_some(struct gathering *g, const struct gather_action *a)
{
    for (unsigned i = 1; i <= a->count; i++)
        if (sockets_open(g->net, NULL, 0, i) == 0)
            gather_opened(g->machine, i, sockets_port(sockets_find(g->net, NULL, 0, i)));
}

/* The address that the kernel would use on the way there, with our port. */
static struct addr own_address(const struct net *n, const struct addr *server)
{
    struct addr own = {.len = 0};
    struct sockaddr_in6 name;
    socklen_t len = sizeof name;
    CLEANUP_FD int fd = socket(server->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &server->sa, server->len) < 0 ||
        getsockname(fd, (struct sockaddr *)&name, &len) < 0)
        return own;
    own = addr_from((struct sockaddr *)&name, len);
    addr_set_port(&own, n->udp.port);
    return own;
}

/* Beside the user's key, for the next time that we are on this network. */
static void remember(struct gathering *g)
{
    struct network network = {
        .seen = g->result.seen, .nat = g->result.nat, .at_s = net_unix_ms() / 1000};
    struct addr own = own_address(g->net, &g->server);
    if (g->result.seen.len == 0 || own.len == 0)
        return;
    network_here(&network.id, &own);
    if (networks_note(&g->networks, &network) && networks_save(&g->networks) < 0)
        log_warn("what is known of this network is not written");
}

static void recall(struct gathering *g)
{
    struct network_id id;
    char text[NAT_TEXT_MAX];
    struct addr own = own_address(g->net, &g->server);
    if (own.len == 0)
        return;
    network_here(&id, &own);
    const struct network *known = networks_find(&g->networks, &id, net_unix_ms() / 1000);
    if (!known)
        return;
    g->result = (struct gather_result){.nat = known->nat, .seen = known->seen};
    g->known = true;
    log_info("nat remembered=%s", nat_format(&g->result.nat, text));
}

/* While the filter is not known again, what was remembered of it is likelier than nothing. */
static void result_take(struct gathering *g)
{
    struct gather_result r = gather_result(g->machine);
    bool same = g->known && r.nat.mapping == g->result.nat.mapping &&
                r.nat.allocation == g->result.nat.allocation;
    if (r.nat.filtering == NAT_FILTERING_UNKNOWN && same)
        r.nat.filtering = g->result.nat.filtering;
    g->result = r;
    g->known = g->heard = true;
    tcpseen_nat_known(&g->net->tcpseen);
    offerings_nat_known(g->net->peerd);
}

static void stop(struct gathering *g)
{
    gather_free(g->machine);
    g->machine = NULL;
    loop_untimer(&g->timer);
    sockets_close(g->net, NULL, 0, 0);
}

static void end(struct gathering *g)
{
    char text[NAT_TEXT_MAX];
    result_take(g);
    stop(g);
    remember(g);
    log_info("nat behaves=%s", nat_format(&g->result.nat, text));
}

static void run(struct gathering *g)
{
    struct gather_action a;
    while (g->machine && gather_poll(g->machine, clock_now_us(), &a)) {
        if (a.type == GATHER_SEND)
            send_out(g, &a);
        else if (a.type == GATHER_OPEN)
            open_some(g, &a);
        else
            end(g);
    }
    if (!g->machine)
        return;
    if (!g->heard && gather_has_samples(g->machine))
        result_take(g);
    uint64_t now = clock_now_us(), next = gather_next(g->machine);
    if (next != UINT64_MAX)
        loop_timer(&g->net->peerd->loop, &g->timer, next > now ? (next - now) / 1000 : 0);
}

static void timer_fired(struct timer *t)
{
    run(container_of(t, struct gathering, timer));
}

void gathering_init(struct gathering *g, struct net *n)
{
    char path[4096];
    *g = (struct gathering){.net = n, .timer.fire = timer_fired};
    int r = key_place("networks", path, sizeof path);
    if (r == 0)
        r = networks_load(&g->networks, path);
    if (r < 0)
        log_warn("what was known of networks is not known err=%s", strerror(-r));
}

void gathering_done(struct gathering *g)
{
    stop(g);
    networks_done(&g->networks);
}

static void start(struct gathering *g, const struct addr *server)
{
    struct gather_config c = {
        .servers = {*server}, .server_count = 1, .fresh = GATHER_FRESH_MAX, .filtering = true};
    if (server->sa.sa_family != AF_INET || addr_is_loopback(server))
        return;
    stop(g);
    g->server = *server;
    g->heard = false;
    if (!g->known)
        recall(g);
    c.local = own_address(g->net, server);
    randombytes_buf(&c.seed, sizeof c.seed);
    g->machine = gather_new(&c);
    if (g->machine)
        run(g);
}

void gathering_begin(struct gathering *g, const struct addr *server)
{
    if (!g->machine && !g->heard)
        start(g, server);
}

/* What was asked first may be an address at which nobody is. */
void gathering_answers(struct gathering *g, const struct addr *server)
{
    bool deaf = g->machine ? !g->heard : g->result.nat.mapping == NAT_MAPPING_BLOCKED;
    if (!addr_equal(&g->server, server) && (g->server.len == 0 || deaf))
        start(g, server);
    else if (!g->machine && deaf)
        start(g, server);
}

void gathering_seen(struct gathering *g, const struct addr *server, const struct addr *seen)
{
    const struct addr *before = g->seen.len ? &g->seen : &g->result.seen;
    bool other = before->len && !addr_equal(before, seen);
    g->seen = *seen;
    if (!g->machine && (other || !g->heard))
        start(g, server);
}

void gathering_network_changed(struct gathering *g)
{
    stop(g);
    g->result = (struct gather_result){.seen = {.len = 0}};
    g->known = g->heard = false;
    g->server.len = g->seen.len = 0;
}

bool gathering_input(struct gathering *g, const void *bytes, size_t n)
{
    if (!g->machine || gather_input(g->machine, (struct str){bytes, n}, clock_now_us()) < 0)
        return false;
    run(g);
    return true;
}

bool gathering_is_over(const struct gathering *g)
{
    return g->heard && !g->machine;
}

struct nat gathering_nat(const struct gathering *g)
{
    struct nat nat = g->result.nat;
    if (net_udp_blocked(g->net) && !g->heard)
        nat.mapping = NAT_MAPPING_BLOCKED;
    return nat;
}
