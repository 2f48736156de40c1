/* Makes offers. Calls and invitations come in; offers go back to remote.c, later when something is
 * worth being waited for. The machine that asks a server belongs to the offering, the fresh socket
 * to the list of sockets until punching.c takes it over. */
#include "peerd/offering.h"

#include <sodium.h>

#include "base/clock.h"
#include "base/log.h"
#include "peerd/path.h"
#include "peerd/peerd.h"
#include "peerd/remote.h"

/* For a server that we ask to register us; a call could not go out before. */
#define REGISTER_MS 1000
/* For what an answer of a server tells: its round trip, and this. */
#define MARGIN_MS  50
#define RTT_MAX_MS 1000

static struct net *net_of(const struct offering *o)
{
    return &o->remote->peerd->net;
}

/* Servers -------------------------------------------------------------------------------------- */

struct servers {
    bool registered, asked;
    uint32_t rtt_us; /* of the nearest */
};

static struct servers servers_look(const struct net *n)
{
    struct servers all = {.rtt_us = 0};
    for (uint32_t i = 0; n->presence && i < n->server_count; i++) {
        struct presence_server s;
        presence_server(n->presence, i, &s);
        all.asked |= s.reason == RDV_OK && !s.silent;
        if (s.state != PRESENCE_REGISTERED)
            continue;
        all.registered = true;
        if (all.rtt_us == 0 || s.rtt_us < all.rtt_us)
            all.rtt_us = s.rtt_us;
    }
    return all;
}

static uint64_t patience_ms(const struct servers *s)
{
    uint64_t ms = s->rtt_us / 1000 + 1;
    return (ms < RTT_MAX_MS ? ms : RTT_MAX_MS) + MARGIN_MS;
}

/* What is offered ------------------------------------------------------------------------------ */

static void candidate_first(struct offer *o, const struct addr *a)
{
    struct record_candidate first = {.kind = RECORD_REFLEXIVE, .transport = RECORD_UDP, .addr = *a};
    size_t at = 0;
    while (at < o->candidate_count &&
           (o->candidates[at].transport != RECORD_UDP || !addr_equal(&o->candidates[at].addr, a)))
        at++;
    if (at == o->candidate_count && at < OFFER_CANDIDATES_MAX)
        o->candidate_count++;
    else if (at == o->candidate_count)
        at--;
    memmove(&o->candidates[1], &o->candidates[0], at * sizeof o->candidates[0]);
    o->candidates[0] = first;
}

/* The fresh socket is the one that is offered: what is known of the usual one's port is not. */
static void candidates_at_port(struct offer *o, uint16_t port)
{
    size_t kept = 0;
    for (size_t i = 0; i < o->candidate_count; i++) {
        struct record_candidate c = o->candidates[i];
        if (c.transport == RECORD_UDP && c.addr.sa.sa_family == AF_INET) {
            if (c.kind != RECORD_HOST)
                continue;
            addr_set_port(&c.addr, port);
        }
        o->candidates[kept++] = c;
    }
    o->candidate_count = kept;
}

static void candidates_fill(struct offering *g, struct offer *o)
{
    struct net *n = net_of(g);
    const struct extra *x = sockets_find(n, g->remote, OFFERING_SOCKET(g->role), 0);
    struct addr sample = {.len = 0};
    o->candidate_count = net_candidates(n, o->candidates);
    if (g->gather && gather_has_samples(g->gather))
        sample = gather_result(g->gather).newest;
    else if (nat_counts(&g->nat))
        sample = n->gathering.result.newest;
    g->keeps = g->keeps && x && sample.len > 0;
    if (g->keeps)
        candidates_at_port(o, sockets_port(x));
    if (sample.len > 0)
        candidate_first(o, &sample);
}

static uint8_t log2_of(unsigned n)
{
    uint8_t log2 = 0;
    for (; n > 1; n >>= 1)
        log2++;
    return log2;
}

/* For the server, which cannot read the offer. */
static struct nat_print print_of(const struct nat *nat)
{
    struct nat_print p = {(uint8_t)nat->mapping, (uint8_t)nat->filtering, (uint8_t)nat->allocation,
                          0};
    if (nat->allocation == NAT_ALLOCATION_SEQUENCE)
        p.step = (uint8_t)nat->delta;
    if (nat->allocation == NAT_ALLOCATION_BLOCK)
        p.step = log2_of((unsigned)nat->delta);
    return p;
}

static void offer_fill(struct offering *g, struct offer *o)
{
    struct net *n = net_of(g);
    *o = (struct offer){.flags = n->no_guessing ? 0 : OFFER_MAY_GUESS};
    o->flags |= mapping_is_there(&n->mapping) ? OFFER_MAPS : 0;
    o->flags |= mapping_is_asked(&n->mapping) ? OFFER_ASKS : 0;
    g->nat = gathering_nat(&n->gathering);
    candidates_fill(g, o);
    randombytes_buf(o->secret, sizeof o->secret);
    o->mapping = (uint8_t)g->nat.mapping;
    o->allocation = (uint8_t)g->nat.allocation;
    o->delta = g->nat.delta;
    o->filtering = (uint8_t)g->nat.filtering;
    const struct nat_print print = print_of(&g->nat);
    if (n->presence)
        presence_nat(n->presence, &print);
}

/* Asking --------------------------------------------------------------------------------------- */

static void gather_stop(struct offering *g)
{
    gather_free(g->gather);
    g->gather = NULL;
}

static void socket_drop(struct offering *g)
{
    sockets_close(net_of(g), g->remote, OFFERING_SOCKET(g->role), 0);
}

static void gather_run(struct offering *g)
{
    struct gather_action a;
    while (g->gather && gather_poll(g->gather, clock_now_us(), &a)) {
        const struct extra *x = sockets_find(net_of(g), g->remote, OFFERING_SOCKET(g->role), 0);
        if (x && a.type == GATHER_SEND)
            sockets_send(x, &a.to, a.bytes, a.n, 0);
        else if (x && a.type == GATHER_OPEN)
            gather_opened(g->gather, 1, sockets_port(x));
    }
}

static bool has_mapping(const struct net *n)
{
    struct record_candidate c[NET_ADDRS_MAX];
    size_t count = net_candidates((struct net *)n, c);
    for (size_t i = 0; i < count; i++)
        if (c[i].kind == RECORD_MAPPED && c[i].transport == RECORD_UDP)
            return true;
    return false;
}

/* After a failure what NATs keep of the usual socket may be what is in the way. */
static bool wants_socket(const struct offering *g, const struct nat *nat)
{
    enum punch_reason failed = g->remote->punchings[g->role].reason;
    return failed != PUNCH_NO_REASON && failed != PUNCH_BOTH_SYMMETRIC &&
           failed != PUNCH_UDP_BLOCKED && nat->mapping != NAT_MAPPING_NONE &&
           !has_mapping(net_of(g));
}

static bool peer_is_blocked(const struct offering *g)
{
    const struct punching *p = &g->remote->punchings[g->role];
    return g->role == PUNCHING_CALLEE ? g->invite.offer.mapping == NAT_MAPPING_BLOCKED
                                      : p->known && p->theirs.mapping == NAT_MAPPING_BLOCKED;
}

/* TCP is all that is left where the other side's UDP is blocked. Where ours is, a server is
 * connected from our port. */
static void ask_tcp(struct offering *g)
{
    struct net *n = net_of(g);
    struct nat nat = gathering_nat(&n->gathering);
    bool wanted = peer_is_blocked(g) && nat.mapping != NAT_MAPPING_BLOCKED &&
                  nat.mapping != NAT_MAPPING_NONE && n->gathering.server.len > 0;
    int r = wanted ? tcpseen_ask(&n->tcpseen, &n->gathering.server) : -ENODATA;
    g->asks_tcp = r == 0 || r == -EALREADY;
}

/* Ours is predicted by a side that does not let in what comes from another port. The caller knows
 * what the callee said last, and believes it until something fails. */
static bool wants_sample(const struct offering *g, const struct nat *nat)
{
    const struct punching *p = &g->remote->punchings[g->role];
    bool callee = g->role == PUNCHING_CALLEE;
    const struct offer *o = callee ? &g->invite.offer : &p->theirs;
    if (!nat_counts(nat) || p->reason != PUNCH_NO_REASON || !(callee || p->known))
        return nat_counts(nat);
    struct nat theirs = punching_nat(o, NULL);
    enum guess_plan plan = guess_plan(&theirs, nat);
    return plan == GUESS_PREDICT || plan == GUESS_LOCKSTEP;
}

static void ask(struct offering *g)
{
    struct net *n = net_of(g);
    struct nat nat = gathering_nat(&n->gathering);
    struct gather_config c = {.servers = {n->gathering.server}, .server_count = 1, .fresh = 1};
    socket_drop(g);
    g->keeps = wants_socket(g, &nat);
    if ((!g->keeps && !wants_sample(g, &nat)) || n->gathering.server.len == 0 ||
        nat.mapping == NAT_MAPPING_BLOCKED)
        return;
    if (sockets_open(n, g->remote, OFFERING_SOCKET(g->role), 0) < 0)
        return;
    randombytes_buf(&c.seed, sizeof c.seed);
    g->gather = gather_new(&c);
    gather_run(g);
}

/* Stages --------------------------------------------------------------------------------------- */

static void finish(struct offering *g)
{
    struct offer o;
    offer_fill(g, &o);
    gather_stop(g);
    if (!g->keeps)
        socket_drop(g);
    g->made = true;
    g->stale = false;
    g->stage = OFFERING_NOTHING;
    loop_untimer(&g->timer);
    if (g->role == PUNCHING_CALLER)
        remote_offered(g->remote, &o);
    else
        remote_answers(g->remote, &g->invite, &o);
}

/* The time that is there begins anew when a server has registered us: then its round trip is known.
 */
static enum offering_stage step_knowing(struct offering *g, uint64_t now_ms)
{
    const struct net *n = net_of(g);
    struct servers s = servers_look(n);
    bool learns = n->gathering.machine && !n->gathering.known && !net_udp_blocked(n);
    if (s.registered && !g->registered) {
        g->registered = true;
        g->until_ms = now_ms + patience_ms(&s);
    }
    if (now_ms < g->until_ms && (s.registered ? learns : s.asked))
        return OFFERING_KNOWING;
    ask(g);
    ask_tcp(g);
    /* A connection takes a round trip before it asks. */
    g->until_ms = now_ms + (g->asks_tcp ? 2 : 1) * patience_ms(&s);
    return OFFERING_ASKING;
}

static enum offering_stage step_asking(struct offering *g, uint64_t now_ms)
{
    bool asks_udp = g->gather && !gather_has_samples(g->gather);
    bool asks_tcp = g->asks_tcp && net_of(g)->tcpseen.waits;
    if ((asks_udp || asks_tcp) && now_ms < g->until_ms)
        return OFFERING_ASKING;
    return OFFERING_NOTHING;
}

static void run(struct offering *g)
{
    uint64_t now_ms = clock_now_ms();
    enum offering_stage before = g->stage;
    if (g->stage == OFFERING_KNOWING)
        g->stage = step_knowing(g, now_ms);
    if (g->stage == OFFERING_ASKING)
        g->stage = step_asking(g, now_ms);
    if (g->stage != OFFERING_NOTHING)
        loop_timer(&g->remote->peerd->loop, &g->timer,
                   g->until_ms > now_ms ? g->until_ms - now_ms : 0);
    else if (before != OFFERING_NOTHING)
        finish(g);
}

static void timer_fired(struct timer *t)
{
    run(container_of(t, struct offering, timer));
}

static void forget(struct offering *g)
{
    loop_untimer(&g->timer);
    gather_stop(g);
    socket_drop(g);
    g->stage = OFFERING_NOTHING;
}

static void begin(struct offering *g)
{
    forget(g);
    g->registered = false;
    g->stage = OFFERING_KNOWING;
    g->until_ms = clock_now_ms() + REGISTER_MS;
    run(g);
}

/* For remote.c --------------------------------------------------------------------------------- */

void offerings_init(struct remote *r)
{
    for (unsigned i = 0; i < PUNCHING_ROLES; i++)
        r->offerings[i] = (struct offering){.remote = r, .role = i, .timer.fire = timer_fired};
}

void offerings_done(struct remote *r)
{
    for (unsigned i = 0; i < PUNCHING_ROLES; i++)
        forget(&r->offerings[i]);
}

void offering_call(struct remote *r)
{
    begin(&r->offerings[PUNCHING_CALLER]);
}

void offering_answer(struct remote *r, const struct presence_invite *i)
{
    struct offering *g = &r->offerings[PUNCHING_CALLEE];
    g->invite = *i;
    begin(g);
}

void offering_input(struct remote *r, unsigned role, const void *bytes, size_t n)
{
    struct offering *g = &r->offerings[role];
    if (!g->gather || gather_input(g->gather, (struct str){bytes, n}, clock_now_us()) < 0)
        return;
    gather_run(g);
    run(g);
}

/* What is known now would have made another plan. */
static bool is_stale(const struct offering *g, const struct nat *now)
{
    bool depends = nat_is_symmetric(now), blocked = now->mapping == NAT_MAPPING_BLOCKED;
    return g->made && (depends != nat_is_symmetric(&g->nat) ||
                       blocked != (g->nat.mapping == NAT_MAPPING_BLOCKED) ||
                       (depends && now->allocation != g->nat.allocation));
}

void offering_renew(struct remote *r)
{
    struct offering *g = &r->offerings[PUNCHING_CALLER];
    if (!g->stale || r->calling || !r->session || !session_is_up(r->session))
        return;
    g->stale = false;
    path_retry(r);
}

void offerings_look(struct peerd *p)
{
    list_for_each(r, &p->remotes, struct remote, link) for (unsigned i = 0; i < PUNCHING_ROLES; i++)
        run(&r->offerings[i]);
}

void offerings_nat_known(struct peerd *p)
{
    struct nat nat = gathering_nat(&p->net.gathering);
    list_for_each(r, &p->remotes, struct remote, link)
    {
        struct offering *g = &r->offerings[PUNCHING_CALLER];
        g->stale = g->stage == OFFERING_NOTHING && is_stale(g, &nat);
        offering_renew(r);
        /* What was answered would have been another offer. */
        if (is_stale(&r->offerings[PUNCHING_CALLEE], &nat))
            callback_want(r);
    }
    offerings_look(p);
}
