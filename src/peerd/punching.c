/* Sends what the machine says, feeds it what comes, and tells path.c what it has proven. The
 * machine is told of UDP only; TCP connections are made by tcpway.c, with the same secrets. */
#include "peerd/punching.h"

#include <sodium.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/siphash.h"
#include "peerd/path.h"
#include "peerd/peerd.h"
#include "peerd/remote.h"
#include "peerd/sockets.h"
#include "peerd/tcpguess.h"
#include "peerd/tcpway.h"

/* The machine answers checks so long: the other side may be later. */
#define LIFE_MS 12000
/* When checks have failed and nothing has come of it by then, there is only the relay. */
#define IN_VAIN_MS 3000
/* So often the checks of one call begin: once, and again when the other side missed its half. */
#define STARTS_MAX 3
/* A server that says more is not believed: no two peers are so far apart. */
#define WAIT_MAX_US 2000000u

static void mac(const uint8_t key[PUNCH_KEY], const void *bytes, size_t n,
                uint8_t ret_tag[PROBE_TAG])
{
    siphash128(key, bytes, n, ret_tag);
}

static void machine_end(struct punching *g)
{
    struct session_stats s = {.streams = 0};
    if (!g->machine)
        return;
    attempt_end(g->remote, g->role);
    alarm_done(&g->alarm);
    if (g->guessing_at.len)
        guess_book_leave(&g->remote->peerd->net.guesses, &g->guessing_at);
    punch_free(g->machine);
    g->machine = NULL;
    if (g->remote->session)
        session_stat(g->remote->session, &s);
    sockets_close(&g->remote->peerd->net, g->remote, g->role, s.quic.path.id);
}

/* Of IPv4 a fresh one may stand for the usual socket. */
static struct extra *socket_of(const struct punching *g, unsigned number, const struct addr *to)
{
    if (to->sa.sa_family != AF_INET)
        return NULL;
    return sockets_find(&g->remote->peerd->net, g->remote, g->role, number);
}

static void send_out(struct punching *g, const struct punch_action *a)
{
    struct net *n = &g->remote->peerd->net;
    struct extra *x = socket_of(g, a->socket, &a->to);
    if (x)
        sockets_send(x, &a->to, a->bytes, PROBE_SIZE, a->ttl);
    else if (a->socket == 0)
        udp_send_ttl(&n->udp, &a->to, a->bytes, PROBE_SIZE, a->ttl);
}

static void open_some(struct punching *g, const struct punch_action *a)
{
    guess_spend(&g->remote->peerd->net.guesses_spent, a->count, clock_now_us());
    for (unsigned i = a->socket; i < a->socket + a->count; i++)
        if (sockets_open(&g->remote->peerd->net, g->remote, g->role, i) < 0)
            punch_lost(g->machine, i);
}

void punching_worked(struct remote *r, unsigned role, enum technique technique)
{
    struct presence *presence = r->peerd->net.presence;
    if (role == PUNCHING_CALLER && presence)
        presence_worked(presence, r->punchings[role].call, technique);
}

static void proven(struct punching *g, const struct punch_path *p)
{
    char text[ADDR_TEXT_MAX];
    struct quic_path path = {NET_PATH_UDP, p->remote};
    struct extra *x = socket_of(g, p->socket, &p->remote);
    trail_add(&g->remote->trail, "%s answered a check after %.1f ms (%s)",
              addr_format(&p->remote, text), (double)p->rtt_us / 1000,
              candidate_kind_word(p->kind));
    if (x)
        path = sockets_path(x, &p->remote);
    punching_worked(g->remote, g->role, p->technique);
    if (x || p->socket == 0)
        path_checked(g->remote, &path, p->kind, p->rtt_us);
}

static void failed(struct punching *g, enum punch_reason reason)
{
    struct punch_tried tried[CANDIDATES_MAX];
    char text[ADDR_TEXT_MAX];
    size_t n = punch_tried(g->machine, tried, CANDIDATES_MAX);
    g->reason = reason;
    for (size_t i = 0; i < n; i++)
        trail_add(&g->remote->trail, "%s: %u checks sent, %u of its heard",
                  addr_format(&tried[i].candidate.addr, text), tried[i].sent, tried[i].heard);
    trail_add(&g->remote->trail, "no direct path: %s", punch_reason_sentence(reason));
}

static enum path_hope hope_after(const struct punching *g, enum punch_reason reason)
{
    enum guess_plan plan = punch_plan(g->machine);
    if (reason == PUNCH_BOTH_SYMMETRIC)
        return g->theirs.flags & OFFER_ASKS ? PATH_ROUTER_HOPE : PATH_NO_HOPE;
    if (plan != GUESS_PROBE && plan != GUESS_SOCKETS)
        return PATH_HOPE;
    return g->hint == TECHNIQUE_RELAY ? PATH_LITTLE_HOPE : PATH_GUESS_HOPE;
}

/* Whoever made the session moves it, also when the other side has called since. */
static bool chooses(const struct remote *r)
{
    return r->session && session_is_client(r->session);
}

/* False when the machine has ended. */
static bool act(struct punching *g, const struct punch_action *a)
{
    enum path_hope hope;
    switch (a->type) {
    case PUNCH_SEND:
        send_out(g, a);
        return true;
    case PUNCH_OPEN:
        open_some(g, a);
        return true;
    case PUNCH_PROVEN:
        tcpways_enough(g->remote, g->role);
        if (g->role == PUNCHING_CALLER || chooses(g->remote))
            proven(g, &a->path);
        return true;
    case PUNCH_DONE:
        return true;
    case PUNCH_FAILED:
        failed(g, a->reason);
        hope = hope_after(g, a->reason);
        machine_end(g);
        loop_timer(&g->remote->peerd->loop, &g->timer, IN_VAIN_MS);
        /* What is guessed over TCP takes longer. */
        if (g->role == PUNCHING_CALLER && !g->tcpguess)
            path_not_found(g->remote, hope);
        return false;
    }
    return true;
}

static void run(struct punching *g)
{
    struct punch_action a;
    while (g->machine && punch_poll(g->machine, clock_now_us(), &a))
        if (!act(g, &a))
            return;
    if (!g->machine)
        return;
    uint64_t end_us = g->end_ms * 1000, next_us = punch_next(g->machine);
    if (clock_now_us() >= end_us)
        machine_end(g);
    else
        alarm_set(&g->alarm, 1000 * (next_us < end_us ? next_us : end_us));
}

static void alarm_rings(struct alarm *a)
{
    run(container_of(a, struct punching, alarm));
}

void punching_guess_end(struct punching *g)
{
    tcpguess_free(g->tcpguess);
    g->tcpguess = NULL;
}

void punching_guessed(struct punching *g)
{
    punching_guess_end(g);
    if (g->role == PUNCHING_CALLER && !g->machine)
        path_not_found(g->remote, PATH_LITTLE_HOPE);
}

/* Nothing by TCP either, and nothing more is tried for now. */
static void in_vain(const struct punching *g)
{
    if (g->remote->session && !path_is_direct(g->remote))
        punching_worked(g->remote, g->role, TECHNIQUE_RELAY);
}

static void timer_fired(struct timer *t)
{
    in_vain(container_of(t, struct punching, timer));
}

void punchings_init(struct remote *r)
{
    for (unsigned i = 0; i < PUNCHING_ROLES; i++)
        r->punchings[i] = (struct punching){
            .remote = r, .role = i, .alarm.fd = -EBADF, .timer.fire = timer_fired};
}

void punchings_done(struct remote *r)
{
    for (unsigned i = 0; i < PUNCHING_ROLES; i++) {
        machine_end(&r->punchings[i]);
        loop_untimer(&r->punchings[i].timer);
    }
    tcpways_close(r);
    for (unsigned i = 0; i < PUNCHING_ROLES; i++)
        sockets_close(&r->peerd->net, r, i, 0);
}

void punchings_forget(struct remote *r)
{
    for (unsigned i = 0; i < PUNCHING_ROLES; i++)
        r->punchings[i].reason = PUNCH_NO_REASON;
}

void punching_own(struct remote *r, unsigned role, uint64_t call,
                  const uint8_t secret[OFFER_SECRET])
{
    struct punching *g = &r->punchings[role];
    g->known = g->known && g->call == call;
    g->call = call;
    g->greetings = (struct greetings){.made = g->greetings.made};
    memcpy(g->secret, secret, sizeof g->secret);
}

struct nat punching_nat(const struct offer *o, const struct addr *seen)
{
    static const struct addr nowhere = {.len = 0};
    struct nat nat = nat_from_wire(o->mapping, o->allocation, o->delta, seen ? seen : &nowhere);
    if (o->filtering < NAT_FILTERING_END)
        nat.filtering = (enum nat_filtering)o->filtering;
    return nat;
}

void punching_theirs(struct remote *r, unsigned role, uint64_t call, const struct offer *o)
{
    struct punching *g = &r->punchings[role];
    g->call = call;
    g->theirs = *o;
    g->known = true;
    if (!g->machine)
        g->end_ms = clock_now_ms() + LIFE_MS;
}

/* A port that it has named itself at this host, which is the better one; or NULL. */
static const struct addr *offered_at(const struct candidates *list, const struct addr *seen)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->at[i].kind == CANDIDATE_REFLEXIVE && candidate_same_ip(&list->at[i].addr, seen))
            return &list->at[i].addr;
    return NULL;
}

/* A peer that is at the server over TCP is seen without a port. */
static void seen_fill(struct punch_config *c, const struct addr *seen)
{
    const struct addr *offered = seen->len ? offered_at(&c->remote, seen) : NULL;
    if (seen->len && addr_port(seen))
        c->peer_seen = *seen;
    else if (offered)
        c->peer_seen = *offered;
    if (!offered && c->peer_seen.len)
        (void)candidates_add(&c->remote, CANDIDATE_REFLEXIVE, CANDIDATE_UDP, &c->peer_seen);
}

/* With the consent of both. */
static bool may_guess(const struct punching *g, const struct addr *seen)
{
    struct net *n = &g->remote->peerd->net;
    return seen->len && !n->no_guessing && (g->theirs.flags & OFFER_MAY_GUESS) &&
           guess_book_enter(&n->guesses, seen);
}

/* Not when there is a TCP connection: it would come to nothing better. */
static void guess_by_tcp(struct punching *g, enum guess_plan plan, const struct punch_config *c,
                         const struct addr *seen, uint32_t wait_us)
{
    if (plan != GUESS_NOTHING && !path_is_over_tcp(g->remote) && may_guess(g, seen))
        g->tcpguess = tcpguess_begin(g, plan, &c->peer, seen, wait_us);
    if (g->tcpguess)
        g->plan = plan;
}

/* Its other addresses are nobody's word but its own. Loopback is this host. */
static bool is_spent(struct punching *g, size_t i, const struct addr *seen, uint64_t now_ms)
{
    const struct record_candidate *c = g->theirs.candidates;
    if (candidate_same_ip(&c[i].addr, seen) || addr_is_loopback(&c[i].addr))
        return false;
    return !targets_take(&g->remote->peerd->net.targets, &c[i].addr, now_ms);
}

/* One that was offered too often, by whomever, is passed over with all its ports. */
static void theirs_limit(struct punching *g, const struct addr *seen)
{
    struct record_candidate *c = g->theirs.candidates;
    uint64_t now_ms = clock_now_ms();
    bool spent[OFFER_CANDIDATES_MAX];
    size_t kept = 0;
    for (size_t i = 0; i < g->theirs.candidate_count; i++) {
        size_t first = 0;
        while (!candidate_same_ip(&c[first].addr, &c[i].addr))
            first++;
        spent[i] = first < i ? spent[first] : is_spent(g, i, seen, now_ms);
    }
    for (size_t i = 0; i < g->theirs.candidate_count; i++)
        if (!spent[i])
            c[kept++] = c[i];
    g->theirs.candidate_count = kept;
}

static void config_fill(struct punching *g, struct punch_config *c, const struct addr *seen)
{
    struct record_candidate own[NET_ADDRS_MAX];
    size_t n = net_candidates(&g->remote->peerd->net, own);
    c->caller = g->role == PUNCHING_CALLER;
    c->attempt = g->call;
    c->mac = mac;
    memcpy(c->own_key, g->secret, sizeof c->own_key);
    memcpy(c->peer_key, g->theirs.secret, sizeof c->peer_key);
    for (size_t i = 0; i < n; i++)
        if (own[i].transport == RECORD_UDP)
            (void)candidates_add(&c->local, (enum candidate_kind)own[i].kind, CANDIDATE_UDP,
                                 &own[i].addr);
    for (size_t i = 0; i < g->theirs.candidate_count; i++)
        if (g->theirs.candidates[i].transport == RECORD_UDP)
            (void)candidates_add(&c->remote, (enum candidate_kind)g->theirs.candidates[i].kind,
                                 CANDIDATE_UDP, &g->theirs.candidates[i].addr);
    seen_fill(c, seen);
    /* Both sides plan by the same words. */
    c->own = g->remote->offerings[g->role].nat;
    c->peer = punching_nat(&g->theirs, seen);
    c->ports_spent = guess_spent(&g->remote->peerd->net.guesses_spent, clock_now_us());
    randombytes_buf(&c->seed, sizeof c->seed);
}

static struct punch *machine_new(struct punching *g, const struct punch_config *c)
{
    struct punch *machine = punch_new(c);
    if (machine && alarm_init(&g->alarm, &g->remote->peerd->loop, alarm_rings) == 0)
        return machine;
    punch_free(machine);
    return NULL;
}

static void socket_keep(struct punching *g)
{
    struct extra *x = sockets_find(&g->remote->peerd->net, g->remote, g->role, 0);
    if (x)
        x->role = OFFERING_SOCKET(g->role);
}

void punching_start(struct remote *r, unsigned role, const struct addr *seen, uint32_t wait_us,
                    enum technique hint)
{
    struct punching *g = &r->punchings[role];
    struct punch_config c = {.again = g->reason != PUNCH_NO_REASON, .hint = hint};
    if (!g->known)
        return;
    g->starts = g->started == g->call ? g->starts : 0;
    if (g->starts == STARTS_MAX)
        return;
    g->starts++;
    loop_untimer(&g->timer);
    /* Both fire again when one of them has missed it: at the addresses that were offered then. */
    if (g->machine && g->started == g->call)
        socket_keep(g);
    machine_end(g);
    sockets_hand_over(&r->peerd->net, r, OFFERING_SOCKET(role), role);
    g->started = g->call;
    g->hint = hint;
    theirs_limit(g, seen);
    config_fill(g, &c, seen);
    if (hint != TECHNIQUE_UNKNOWN)
        trail_add(&r->trail, "most often between such NATs: %s", technique_word(hint));
    wait_us = wait_us < WAIT_MAX_US ? wait_us : WAIT_MAX_US;
    c.start_us = clock_now_us() + wait_us;
    /* One kind of guess at a time. */
    enum guess_plan by_tcp = guess_tcp_plan(&c.own, &c.peer);
    c.may_guess = by_tcp == GUESS_NOTHING && may_guess(g, seen);
    g->guessing_at = c.may_guess ? *seen : (struct addr){.len = 0};
    g->machine = machine_new(g, &c);
    g->end_ms = clock_now_ms() + wait_us / 1000 + LIFE_MS;
    g->plan = g->machine ? punch_plan(g->machine) : GUESS_NOTHING;
    tcpways_connect(r, role, &g->theirs, wait_us);
    guess_by_tcp(g, by_tcp, &c, seen, wait_us);
    if (!g->machine)
        return;
    trail_add(&r->trail, "checks begin in %.1f ms: %zu address%s, %s", (double)wait_us / 1000,
              c.remote.count, c.remote.count == 1 ? "" : "es", guess_plan_word(g->plan));
    attempt_checks(r, role);
    run(g);
}

bool punching_input(struct remote *r, unsigned role, unsigned number, const struct addr *from,
                    const void *bytes, size_t n)
{
    struct punching *g = &r->punchings[role];
    /* Where a fresh one stands for the usual socket, nothing was asked by that. */
    if (number == PUNCHING_USUAL && socket_of(g, 0, from))
        return false;
    number = number == PUNCHING_USUAL ? 0 : number;
    if (!g->machine || !probe_looks(bytes, n) ||
        punch_input(g->machine, number, from, (struct str){bytes, n}, clock_now_us()) < 0)
        return false;
    run(g);
    return true;
}
