/* Carries out what the machine wants, with sockets that are closed when it is done. */
#include "peerd/gathering.h"

#include <sodium.h>

#include "base/clock.h"
#include "base/log.h"
#include "peerd/net.h"
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

static void end(struct gathering *g)
{
    char text[NAT_TEXT_MAX];
    g->result = gather_result(g->machine);
    g->known = true;
    gather_free(g->machine);
    g->machine = NULL;
    loop_untimer(&g->timer);
    sockets_close(g->net, NULL, 0);
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
    *g = (struct gathering){.net = n, .timer.fire = timer_fired};
}

void gathering_done(struct gathering *g)
{
    loop_untimer(&g->timer);
    gather_free(g->machine);
    g->machine = NULL;
    sockets_close(g->net, NULL, 0);
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

void gathering_look(struct gathering *g, const struct addr *server, const struct addr *seen)
{
    struct gather_config c = {
        .servers = {*server}, .server_count = 1, .fresh = GATHER_FRESH_MAX, .filtering = true};
    bool same = g->seen.len && addr_equal(&g->seen, seen);
    if (g->machine || same || server->sa.sa_family != AF_INET || addr_is_loopback(server))
        return;
    g->seen = *seen;
    c.local = own_address(g->net, server);
    randombytes_buf(&c.seed, sizeof c.seed);
    g->machine = gather_new(&c);
    if (g->machine)
        run(g);
}

bool gathering_input(struct gathering *g, const void *bytes, size_t n)
{
    if (!g->machine || gather_input(g->machine, (struct str){bytes, n}, clock_now_us()) < 0)
        return false;
    run(g);
    return true;
}
