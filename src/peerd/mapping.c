/* Decides whether and whom to ask, drives the machines of punch/portmap.h on a socket for each
 * port, and sees to it that sessions which go over the relay look again when a port has come or
 * gone. */
#include "peerd/mapping.h"

#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "peerd/path.h"
#include "peerd/peerd.h"
#include "peerd/remote.h"

#define ROUTES_MAX 65536
/* Each server may see another port; one sees another when the router has forgotten everything. */
#define LOOK_MS 60000
/* What needs no mapped port has found its way by then, and UDP and TCP are mapped by then, too. */
#define RETRY_MS     300
#define RETRIES_MOST 50

static const char *const port_words[MAPPING_PORTS] = {"udp", "tcp"};
/* Which of two states says more. */
static const uint8_t ranks[PORTMAP_STATE_END] = {[PORTMAP_MAPPED] = 4,
                                                 [PORTMAP_ASKING] = 3,
                                                 [PORTMAP_USELESS] = 2,
                                                 [PORTMAP_REFUSED] = 1,
                                                 [PORTMAP_SILENT] = 0};

/* What is known ------------------------------------------------------------------------------- */

static enum portmap_state better(enum portmap_state a, enum portmap_state b)
{
    return ranks[a] >= ranks[b] ? a : b;
}

enum portmap_state mapping_state(const struct mapping *m, unsigned which)
{
    const struct mapping_port *p = &m->ports[which];
    return better(p->fd >= 0 ? p->machine.state : PORTMAP_SILENT, m->upnp.ports[which].state);
}

const char *mapping_word(const struct mapping *m)
{
    static const char *const words[] = {[MAPPING_OFF] = "off",
                                        [MAPPING_WAITING] = "waiting",
                                        [MAPPING_NO_NAT] = "no-nat",
                                        [MAPPING_NO_GATEWAY] = "no-gateway"};
    if (m->stage != MAPPING_ASKED)
        return words[m->stage];
    return portmap_state_word(better(mapping_state(m, MAPPING_UDP), mapping_state(m, MAPPING_TCP)));
}

static struct mapping_told now_told(const struct mapping *m)
{
    struct mapping_told t = {.external = {{{.len = 0}}}};
    for (unsigned i = 0; i < MAPPING_PORTS; i++) {
        const struct mapping_port *p = &m->ports[i];
        t.state[i] = mapping_state(m, i);
        if (p->fd >= 0 && p->machine.state == PORTMAP_MAPPED)
            t.external[i][0] = p->machine.external;
        if (m->upnp.ports[i].state == PORTMAP_MAPPED)
            t.external[i][1] = m->upnp.ports[i].external;
    }
    return t;
}

static bool same(const struct addr *a, const struct addr *b)
{
    return a->len == 0 || b->len == 0 ? a->len == b->len : addr_equal(a, b);
}

size_t mapping_candidates(const struct mapping *m, struct record_candidate *ret, size_t max)
{
    static const enum record_transport transports[] = {RECORD_UDP, RECORD_TCP};
    size_t n = 0;
    for (unsigned i = 0; i < MAPPING_PORTS; i++)
        for (unsigned k = 0; k < 2 && n < max; k++) {
            const struct addr *a = &m->told.external[i][k];
            if (a->len && (k == 0 || !same(a, &m->told.external[i][0])))
                ret[n++] = (struct record_candidate){
                    .kind = RECORD_MAPPED, .transport = transports[i], .addr = *a};
        }
    return n;
}

bool mapping_is_there(const struct mapping *m)
{
    struct record_candidate c;
    return mapping_candidates(m, &c, 1) > 0;
}

bool mapping_is_asked(const struct mapping *m)
{
    return m->stage == MAPPING_ASKED && mapping_state(m, MAPPING_UDP) == PORTMAP_ASKING;
}

/* Who is to hear of it ------------------------------------------------------------------------- */

/* Whether it has to be looked at again: a call that is under way tells nothing of the port. */
static bool remote_retry(struct remote *r)
{
    if (!r->session || path_is_best(r))
        return false;
    if (r->calling || r->path.stage == PATH_TRYING || r->path.stage == PATH_FALLING)
        return true;
    if (session_is_client(r->session))
        path_retry(r);
    else
        callback_want(r);
    return false;
}

static void retry_fires(struct timer *t)
{
    struct mapping *m = container_of(t, struct mapping, retry);
    struct peerd *p = m->net->peerd;
    bool again = false;
    list_for_each(r, &p->remotes, struct remote, link) again |= remote_retry(r);
    if (again && m->retries++ < RETRIES_MOST)
        loop_timer(&p->loop, t, RETRY_MS);
}

static void log_port(const struct mapping *m, unsigned which)
{
    char text[ADDR_TEXT_MAX] = "";
    for (unsigned k = 0; k < 2; k++)
        if (m->told.external[which][k].len)
            (void)addr_format(&m->told.external[which][k], text);
    log_info("port mapping protocol=%s state=%s addr=%s", port_words[which],
             portmap_state_word(mapping_state(m, which)), text);
}

static void changed(struct mapping *m)
{
    struct mapping_told old = m->told;
    m->told = now_told(m);
    bool other = false;
    for (unsigned i = 0; i < MAPPING_PORTS; i++) {
        bool here = !same(&old.external[i][0], &m->told.external[i][0]) ||
                    !same(&old.external[i][1], &m->told.external[i][1]);
        if (here || (old.state[i] != m->told.state[i] && m->told.state[i] != PORTMAP_ASKING))
            log_port(m, i);
        other |= here;
    }
    if (!other)
        return;
    m->retries = 0;
    loop_timer(&m->net->peerd->loop, &m->retry, RETRY_MS);
}

static void upnp_changed(struct upnp *u)
{
    changed(container_of(u, struct mapping, upnp));
}

/* PCP and NAT-PMP ------------------------------------------------------------------------------ */

static void port_run(struct mapping_port *p)
{
    struct portmap_action a;
    while (p->fd >= 0 && portmap_poll(&p->machine, clock_now_us(), &a)) {
        if (a.changed)
            changed(p->mapping);
        else
            (void)!send(p->fd, a.bytes, a.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

static void run(struct mapping *m)
{
    uint64_t next = UINT64_MAX, now = clock_now_us();
    for (unsigned i = 0; i < MAPPING_PORTS; i++) {
        port_run(&m->ports[i]);
        if (m->ports[i].fd >= 0 && portmap_next(&m->ports[i].machine) < next)
            next = portmap_next(&m->ports[i].machine);
    }
    if (next != UINT64_MAX)
        loop_timer(&m->net->peerd->loop, &m->timer, next > now ? (next - now) / 1000 + 1 : 0);
}

static void timer_fired(struct timer *t)
{
    run(container_of(t, struct mapping, timer));
}

/* Errors are those of the packets before: the router has no such service, which its silence says,
 * too. */
static void port_ready(struct watch *w, uint32_t events)
{
    struct mapping_port *p = container_of(w, struct mapping_port, watch);
    char bytes[PCP_ANSWER_MAX + 1];
    (void)events;
    ssize_t n = recv(p->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n <= 0 || portmap_input(&p->machine, (struct str){bytes, (size_t)n}, clock_now_us()) < 0)
        return;
    run(p->mapping);
}

/* RFC 6887 11.2: the same nonce each time, also of a berth-peer that comes after this one and finds
 * its port still mapped; and nobody else's. */
static uint64_t nonce_seed(const struct mapping *m)
{
    const struct identity *id = &m->net->peerd->id;
    static const uint8_t purpose[] = "berth port mapping 1";
    uint64_t seed;
    crypto_generichash_state h;
    (void)crypto_generichash_init(&h, purpose, sizeof purpose, sizeof seed);
    (void)crypto_generichash_update(&h, id->secret, sizeof id->secret);
    (void)crypto_generichash_final(&h, (uint8_t *)&seed, sizeof seed);
    return seed;
}

static uint16_t port_of(const struct mapping *m, unsigned which)
{
    return which == MAPPING_UDP ? m->net->udp.port : m->net->tcpways.port;
}

static void port_stop(struct mapping_port *p)
{
    struct mapping *m = p->mapping;
    struct portmap_action a;
    if (p->fd < 0)
        return;
    portmap_close(&p->machine, clock_now_us());
    while (portmap_poll(&p->machine, clock_now_us(), &a))
        if (!a.changed)
            (void)!send(p->fd, a.bytes, a.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    loop_unwatch(&m->net->peerd->loop, &p->watch);
    p->fd = fd_close(p->fd);
}

static void port_start(struct mapping *m, unsigned which)
{
    struct mapping_port *p = &m->ports[which];
    struct portmap_config c = {.gateway = m->gateway, .client = m->own, .seed = nonce_seed(m)};
    c.protocol = which == MAPPING_UDP ? IPPROTO_UDP : IPPROTO_TCP;
    addr_set_port(&c.client, port_of(m, which));
    if (port_of(m, which) == 0)
        return;
    p->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (p->fd < 0)
        return;
    if (connect(p->fd, &c.gateway.sa, c.gateway.len) < 0 ||
        loop_watch(&m->net->peerd->loop, &p->watch, p->fd, EPOLLIN) < 0)
        p->fd = fd_close(p->fd);
    else
        portmap_init(&p->machine, &c, clock_now_us());
}

/* Whom to ask ---------------------------------------------------------------------------------- */

static int gateway_read(struct addr *ret_gateway)
{
    static const char place[] = "/proc/self/net/route";
    char routes[ROUTES_MAX];
    size_t n = 0;
    CLEANUP_FD int fd = open(place, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    /* The kernel shows it page by page. */
    for (ssize_t r; n < sizeof routes && (r = read(fd, routes + n, sizeof routes - n)) > 0;)
        n += (size_t)r;
    return portmap_gateway((struct str){routes, n}, ret_gateway);
}

static void stop(struct mapping *m)
{
    for (unsigned i = 0; i < MAPPING_PORTS; i++)
        port_stop(&m->ports[i]);
    upnp_give_back(&m->upnp);
    loop_untimer(&m->timer);
    m->gateway = m->own = (struct addr){.len = 0};
}

static void begin(struct mapping *m)
{
    char text[ADDR_TEXT_MAX];
    const uint16_t ports[] = {port_of(m, MAPPING_UDP), port_of(m, MAPPING_TCP)};
    m->stage = MAPPING_ASKED;
    log_debug("asking for ports gateway=%s", addr_format(&m->gateway, text));
    for (unsigned i = 0; i < MAPPING_PORTS; i++)
        port_start(m, i);
    upnp_ask(&m->upnp, ports);
    run(m);
}

/* The same router: what it has mapped stays until it says otherwise. */
static void renew(struct mapping *m)
{
    const uint16_t ports[] = {port_of(m, MAPPING_UDP), port_of(m, MAPPING_TCP)};
    for (unsigned i = 0; i < MAPPING_PORTS; i++)
        if (m->ports[i].fd >= 0)
            portmap_renew(&m->ports[i].machine, clock_now_us());
    upnp_ask(&m->upnp, ports);
    run(m);
}

static void gateway_look(struct mapping *m)
{
    struct addr gateway = {.len = 0}, own = {.len = 0};
    bool found = gateway_read(&gateway) == 0 && udp_own_address(&gateway, &own) == 0;
    if (found && same(&gateway, &m->gateway) && same(&own, &m->own)) {
        renew(m);
        return;
    }
    stop(m);
    m->gateway = gateway;
    m->own = own;
    if (found)
        begin(m);
    else
        m->stage = MAPPING_NO_GATEWAY;
    changed(m);
}

void mapping_look(struct mapping *m, const struct addr *server, const struct addr *seen)
{
    struct addr own;
    uint64_t now = clock_now_ms();
    bool known = m->seen.len && candidate_same_ip(&m->seen, seen) &&
                 (addr_equal(&m->seen, seen) || now - m->looked_ms < LOOK_MS);
    if (m->stage == MAPPING_OFF || known || udp_own_address(server, &own) < 0)
        return;
    /* A NAT of IPv4 may be there beside an IPv6 that needs none. */
    if (seen->sa.sa_family != AF_INET) {
        if (m->stage == MAPPING_WAITING)
            m->stage = MAPPING_NO_NAT;
        return;
    }
    m->seen = *seen;
    m->looked_ms = now;
    if (!candidate_same_ip(&own, seen)) {
        gateway_look(m);
        return;
    }
    stop(m);
    m->stage = MAPPING_NO_NAT;
    changed(m);
}

void mapping_network_changed(struct mapping *m)
{
    m->seen = (struct addr){.len = 0};
    if (m->stage == MAPPING_ASKED || m->stage == MAPPING_NO_GATEWAY)
        gateway_look(m);
}

void mapping_init(struct mapping *m, struct net *n, bool wanted)
{
    *m = (struct mapping){.net = n, .upnp.fd = -EBADF, .upnp.watch.fd = -EBADF};
    m->timer.fire = timer_fired;
    m->retry.fire = retry_fires;
    m->stage = wanted ? MAPPING_WAITING : MAPPING_OFF;
    for (unsigned i = 0; i < MAPPING_PORTS; i++)
        m->ports[i] = (struct mapping_port){
            .mapping = m, .fd = -EBADF, .watch = {.fd = -EBADF, .ready = port_ready}};
    int r = wanted ? upnp_start(&m->upnp) : 0;
    if (r == 0)
        r = upnp_watch(&m->upnp, &n->peerd->loop, upnp_changed);
    if (r < 0)
        log_warn("no UPnP err=%s", strerror(-r));
}

void mapping_done(struct mapping *m)
{
    stop(m);
    loop_untimer(&m->retry);
    upnp_stop(&m->upnp);
}
