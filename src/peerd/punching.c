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
#include "peerd/tcpway.h"

/* The machine answers checks so long: the other side may be later. */
#define LIFE_MS 12000
/* Over TCP, when no check over UDP has been answered by then. */
#define TCP_AFTER_MS 1000
/* A server that says more is not believed: no two peers are so far apart. */
#define WAIT_MAX_US 2000000u
/* In the sequence of a probe: it is a greeting. */
#define GREETING 0x80000000u

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
    loop_untimer(&g->timer);
    if (g->guessing_at.len)
        guess_book_leave(&g->remote->peerd->net.guesses, &g->guessing_at);
    punch_free(g->machine);
    g->machine = NULL;
    if (g->remote->session)
        session_stat(g->remote->session, &s);
    sockets_close(&g->remote->peerd->net, g->remote, s.quic.path.id);
}

static void send_out(struct punching *g, const struct punch_action *a)
{
    struct net *n = &g->remote->peerd->net;
    struct extra *x = a->socket ? sockets_find(n, g->remote, g->role, a->socket) : NULL;
    if (x)
        sockets_send(x, &a->to, a->bytes, PROBE_SIZE, a->ttl);
    else if (a->socket == 0)
        udp_send_ttl(&n->udp, &a->to, a->bytes, PROBE_SIZE, a->ttl);
}

static void open_some(struct punching *g, const struct punch_action *a)
{
    for (unsigned i = a->socket; i < a->socket + a->count; i++)
        if (sockets_open(&g->remote->peerd->net, g->remote, g->role, i) < 0)
            punch_lost(g->machine, i, clock_now_us());
}

static void proven(struct punching *g, const struct punch_path *p)
{
    struct net *n = &g->remote->peerd->net;
    char text[ADDR_TEXT_MAX];
    struct quic_path path = {NET_PATH_UDP, p->remote};
    struct extra *x = p->socket ? sockets_find(n, g->remote, g->role, p->socket) : NULL;
    trail_add(&g->remote->trail, "%s answered a check after %.1f ms (%s)",
              addr_format(&p->remote, text), (double)p->rtt_us / 1000,
              candidate_kind_word(p->kind));
    if (x)
        path = sockets_path(x, &p->remote);
    if (p->transport == CANDIDATE_UDP && (x || p->socket == 0))
        path_found(g->remote, &path, p->kind);
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

/* False when the machine has ended. */
static bool act(struct punching *g, const struct punch_action *a)
{
    switch (a->type) {
    case PUNCH_SEND:
        send_out(g, a);
        return true;
    case PUNCH_OPEN:
        open_some(g, a);
        return true;
    case PUNCH_CONNECT:
        punch_lost(g->machine, a->socket, clock_now_us());
        return true;
    case PUNCH_PROVEN:
        if (g->role == PUNCHING_CALLER)
            proven(g, &a->path);
        return true;
    case PUNCH_DONE:
        return true;
    case PUNCH_FAILED:
        failed(g, a->reason);
        machine_end(g);
        if (g->role == PUNCHING_CALLER)
            path_not_found(g->remote, a->reason == PUNCH_BOTH_SYMMETRIC);
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
    uint64_t now = clock_now_us(), next = punch_next(g->machine), ms = clock_now_ms();
    if (ms >= g->end_ms) {
        machine_end(g);
        return;
    }
    uint64_t wait = next == UINT64_MAX ? g->end_ms - ms : next > now ? (next - now) / 1000 : 0;
    loop_timer(&g->remote->peerd->loop, &g->timer, wait < g->end_ms - ms ? wait : g->end_ms - ms);
}

static void timer_fired(struct timer *t)
{
    run(container_of(t, struct punching, timer));
}

static void tcp_fires(struct timer *t)
{
    struct punching *g = container_of(t, struct punching, tcp);
    if (!g->remote->session || !path_is_direct(g->remote))
        tcpways_connect(g->remote, g->role, &g->theirs);
}

void punchings_init(struct remote *r)
{
    for (unsigned i = 0; i < PUNCHING_ROLES; i++)
        r->punchings[i] = (struct punching){
            .remote = r, .role = i, .timer.fire = timer_fired, .tcp.fire = tcp_fires};
}

void punchings_done(struct remote *r)
{
    for (unsigned i = 0; i < PUNCHING_ROLES; i++) {
        machine_end(&r->punchings[i]);
        loop_untimer(&r->punchings[i].tcp);
    }
    tcpways_close(r);
    sockets_close(&r->peerd->net, r, 0);
}

void punching_own(struct remote *r, unsigned role, uint64_t call,
                  const uint8_t secret[OFFER_SECRET])
{
    struct punching *g = &r->punchings[role];
    g->known = g->known && g->call == call;
    g->call = call;
    g->greeted = 0;
    memcpy(g->secret, secret, sizeof g->secret);
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
    if (seen->len && addr_port(seen)) {
        c->peer_seen = *seen;
        (void)candidates_add(&c->remote, CANDIDATE_REFLEXIVE, CANDIDATE_UDP, seen);
    }
    c->own = g->remote->peerd->net.gathering.result.nat;
    c->peer = nat_from_wire(g->theirs.mapping, g->theirs.allocation, g->theirs.delta, seen);
    randombytes_buf(&c->seed, sizeof c->seed);
}

void punching_start(struct remote *r, unsigned role, const struct addr *seen, uint32_t wait_us)
{
    struct punching *g = &r->punchings[role];
    struct punch_config c = {.again = g->reason != PUNCH_NO_REASON};
    if (!g->known)
        return;
    machine_end(g);
    config_fill(g, &c, seen);
    c.start_us = clock_now_us() + (wait_us < WAIT_MAX_US ? wait_us : WAIT_MAX_US);
    c.may_guess = seen->len && guess_book_enter(&r->peerd->net.guesses, seen);
    g->guessing_at = c.may_guess ? *seen : (struct addr){.len = 0};
    g->machine = punch_new(&c);
    g->end_ms = clock_now_ms() + wait_us / 1000 + LIFE_MS;
    loop_timer(&r->peerd->loop, &g->tcp,
               wait_us / 1000 + (net_udp_blocked(&r->peerd->net) ? 0 : TCP_AFTER_MS));
    if (!g->machine)
        return;
    trail_add(&r->trail, "checks begin in %.1f ms: %zu addresses, %s", (double)wait_us / 1000,
              c.remote.count, guess_plan_word(punch_plan(g->machine)));
    run(g);
}

bool punching_input(struct remote *r, unsigned role, unsigned number, const struct addr *from,
                    const void *bytes, size_t n)
{
    struct punching *g = &r->punchings[role];
    if (!g->machine || !probe_looks(bytes, n) ||
        punch_input(g->machine, number, from, (struct str){bytes, n}, clock_now_us()) < 0)
        return false;
    run(g);
    return true;
}

/* Greetings ------------------------------------------------------------------------------------ */

void punching_greet(struct remote *r, unsigned role, const struct probe *as,
                    uint8_t ret[PROBE_SIZE])
{
    struct punching *g = &r->punchings[role];
    struct probe p = {.type = as->type,
                      .from_caller = role == PUNCHING_CALLER,
                      .attempt = g->call,
                      .sequence = as->sequence ? as->sequence : GREETING | ++g->greeting};
    if (probe_encode(&p, ret, PROBE_SIZE) == PROBE_SIZE)
        mac(g->theirs.secret, ret, PROBE_SIGNED, ret + PROBE_SIGNED);
}

bool punching_greeted(struct remote *r, unsigned role, const uint8_t bytes[PROBE_SIZE],
                      struct probe *ret_probe)
{
    struct punching *g = &r->punchings[role];
    uint8_t tag[PROBE_TAG];
    struct probe p;
    if (probe_decode(&p, bytes, PROBE_SIZE) < 0 || !g->known || p.attempt != g->call ||
        p.from_caller == (role == PUNCHING_CALLER) || !(p.sequence & GREETING) ||
        clock_now_ms() >= g->end_ms)
        return false;
    mac(g->secret, bytes, PROBE_SIGNED, tag);
    if (sodium_memcmp(tag, p.tag, sizeof tag) != 0 ||
        (p.type == PROBE_PING && p.sequence <= g->greeted))
        return false;
    if (p.type == PROBE_PING)
        g->greeted = p.sequence;
    *ret_probe = p;
    return true;
}
