/* Connects to the TCP addresses of a peer's offer from the port that is listened at, while the peer
 * does the same: SYNs that cross become one connection of both (simultaneous open, RFC 9293 3.5),
 * also through NATs that let in only what was asked for. tcptry.c says when; a connection that
 * stands goes to tcpway.c. A making belongs to the list of its tcpways. */
#include <netinet/tcp.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/clock.h"
#include "peerd/path.h"
#include "peerd/remote.h"
#include "peerd/tcpport.h"
#include "peerd/tcpway-internal.h"
#include "rendezvous/instant.h"

#define MAKINGS_MAX 128
/* The kernel repeats a SYN so often, the first time after a second. */
#define SYN_REPEATS 1
/* After UDP, where a NAT counts its ports. */
#define COUNTED_MS 400

struct making;

struct opening {
    struct making *making;
    int fd; /* owned */
    struct watch watch;
    int error; /* of the last try */
};

struct making {
    struct list link;
    struct tcpways *all;
    struct remote *remote;
    unsigned role;
    uint16_t port; /* that is connected from; 0: one that will be chosen */
    struct tcptries tries;
    struct opening openings[TCPTRY_MAX];
    struct timer timer;
};

static struct making *making_find(const struct remote *r, unsigned role)
{
    list_for_each(m, &r->peerd->net.tcpways.makings, struct making,
                  link) if (m->remote == r && m->role == role) return m;
    return NULL;
}

static void opening_close(struct opening *o)
{
    loop_unwatch(tcpway_loop(o->making->all), &o->watch);
    if (o->fd >= 0)
        budget_give(&o->making->all->net->budget);
    o->fd = fd_close(o->fd);
}

static int opening_open(struct opening *o, const struct addr *to)
{
    struct budget *b = &o->making->all->net->budget;
    if (!budget_take(b, BUDGET_ATTEMPT))
        return -EMFILE;
    int fd = tcpport_connect(o->making->port, to);
    int r = fd < 0 ? fd : loop_watch(tcpway_loop(o->making->all), &o->watch, fd, EPOLLOUT);
    if (r < 0) {
        (void)fd_close(fd);
        budget_give(b);
        return r;
    }
    o->fd = fd;
    return 0;
}

/* What it led to counts by itself. */
static int opening_take(struct opening *o)
{
    budget_give(&o->making->all->net->budget);
    return fd_take(&o->fd);
}

static void making_free(struct making *m)
{
    for (size_t i = 0; i < m->tries.count; i++)
        opening_close(&m->openings[i]);
    loop_untimer(&m->timer);
    list_remove(&m->link);
    m->all->making_count--;
    free(m);
}

static void timer_set(struct making *m)
{
    uint64_t now = clock_now_ms(), due = tcptries_due(&m->tries);
    if (due == UINT64_MAX)
        loop_untimer(&m->timer);
    else
        loop_timer(tcpway_loop(m->all), &m->timer, due > now ? due - now : 0);
}

/* What can never be is given up; the rest may be a matter of time. */
static void failed(struct making *m, size_t i, int error)
{
    m->openings[i].error = error;
    attempt_tcp(m->remote, m->role, &m->tries.at[i].to, ATTEMPT_NOT_CONNECTED, error);
    if (error == -ENETUNREACH || error == -EAFNOSUPPORT || error == -EINVAL || error == -EACCES)
        tcptries_end(&m->tries, i);
    else
        tcptries_refused(&m->tries, i, clock_now_ms());
}

void tcpway_stands(struct remote *r, unsigned role, const struct addr *to, int consumed_fd)
{
    struct tcpway *w = tcpway_new(&r->peerd->net.tcpways, to, consumed_fd, r);
    if (!w)
        return;
    w->role = role;
    if (!tcpway_greet(w))
        tcpway_refuse(w);
}

static void stands(struct making *m, size_t i)
{
    struct opening *o = &m->openings[i];
    loop_unwatch(tcpway_loop(m->all), &o->watch);
    tcptries_stands(&m->tries, i);
    tcpway_stands(m->remote, m->role, &m->tries.at[i].to, opening_take(o));
}

static void ready(struct watch *watch, uint32_t events)
{
    struct opening *o = container_of(watch, struct opening, watch);
    struct making *m = o->making;
    size_t i = (size_t)(o - m->openings);
    (void)events;
    int r = tcpport_result(o->fd);
    if (r == 0) {
        stands(m, i);
    } else {
        opening_close(o);
        failed(m, i, r);
    }
    timer_set(m);
}

static void begin(struct making *m, size_t i)
{
    struct opening *o = &m->openings[i];
    const int repeats = SYN_REPEATS;
    attempt_tcp(m->remote, m->role, &m->tries.at[i].to, ATTEMPT_CONNECTING, 0);
    int r = opening_open(o, &m->tries.at[i].to);
    if (r < 0) {
        failed(m, i, r);
        return;
    }
    if (m->port == 0)
        m->port = tcpport_of(o->fd);
    (void)setsockopt(o->fd, IPPROTO_TCP, TCP_SYNCNT, &repeats, sizeof repeats);
}

static void given_up(struct making *m, size_t i)
{
    char text[ADDR_TEXT_MAX];
    int error = m->openings[i].error ? m->openings[i].error : -ETIMEDOUT;
    attempt_tcp(m->remote, m->role, &m->tries.at[i].to, ATTEMPT_NOT_CONNECTED, error);
    trail_add(&m->remote->trail, "%s: no TCP connection: %s", addr_format(&m->tries.at[i].to, text),
              strerror(-error));
}

static void fires(struct timer *t)
{
    struct making *m = container_of(t, struct making, timer);
    uint64_t now = clock_now_ms();
    for (int i; (i = tcptries_next(&m->tries, now)) >= 0;) {
        bool over = m->tries.at[i].state == TCPTRY_OVER;
        /* One that is begun anew then would be reset by the other side, which knows the first. */
        if (!over && m->openings[i].fd >= 0 && tcpport_is_answered(m->openings[i].fd))
            continue;
        opening_close(&m->openings[i]);
        if (over)
            given_up(m, (size_t)i);
        else
            begin(m, (size_t)i);
    }
    timer_set(m);
}

/* Loopback means this host only to somebody who may be on it. */
static bool is_usable(const struct net *n, const struct addr *a)
{
    return candidate_is_usable(a) || (addr_is_loopback(a) && net_is_local(n));
}

/* From the port that is connected from nothing can be made to the same address once more. */
static bool stands_already(const struct making *m, const struct addr *to)
{
    struct quic_path ways[TCPWAYS_REMOTE_MAX];
    size_t n = tcpways_standing(m->remote, ways, TCPWAYS_REMOTE_MAX);
    for (size_t i = 0; i < n; i++)
        if (addr_equal(&ways[i].remote, to))
            return true;
    return false;
}

/* Of a NAT that counts its ports the sample tells which come next, to the side that has it. */
static void target_add(struct making *m, const struct nat *nat, const struct record_candidate *c,
                       uint64_t at_ms)
{
    struct addr a = c->addr;
    bool predicted = c->kind == RECORD_REFLEXIVE && nat_counts(nat);
    if (!predicted && !stands_already(m, &a))
        (void)tcptries_add(&m->tries, &a, at_ms);
    for (unsigned k = 1; predicted && k <= GUESS_WINDOW; k++) {
        addr_set_port(&a, guess_predict(addr_port(&c->addr), nat->delta, k));
        (void)tcptries_add(&m->tries, &a, at_ms);
    }
}

/* First those that servers have seen: a NAT that counts gives the next port to the first. */
static void targets_add(struct making *m, const struct offer *o, uint64_t at_ms)
{
    struct nat nat = punching_nat(o, NULL);
    /* What is predicted is guessed: with the consent of both. */
    if (!(o->flags & OFFER_MAY_GUESS) || m->all->net->no_guessing)
        nat.allocation = NAT_ALLOCATION_UNKNOWN;
    for (int hosts = 0; hosts <= 1; hosts++) {
        for (size_t i = 0; i < o->candidate_count; i++) {
            const struct record_candidate *c = &o->candidates[i];
            if (c->transport == RECORD_TCP && (c->kind == RECORD_HOST) == hosts &&
                is_usable(m->all->net, &c->addr))
                target_add(m, &nat, c, at_ms);
        }
    }
}

/* A NAT that counts gives UDP and TCP ports in one order: where UDP can do, its checks, which are
 * sent to predicted ports, come first. Both sides know both NATs, and wait alike. */
static uint64_t delay_ms(const struct net *n, const struct offer *o)
{
    const struct nat theirs = punching_nat(o, NULL);
    const struct nat own = gathering_nat(&n->gathering);
    if (own.mapping == NAT_MAPPING_BLOCKED || theirs.mapping == NAT_MAPPING_BLOCKED)
        return 0;
    return nat_counts(&theirs) || nat_counts(&own) ? COUNTED_MS : 0;
}

/* Our way to the nearest server and the other side's, of which the wait tells when it is the longer
 * one. */
uint64_t tcpway_rtt_most_ms(const struct net *n, uint32_t wait_us)
{
    uint64_t own_us = 0;
    for (uint32_t i = 0; n->presence && i < n->server_count; i++) {
        struct presence_server s;
        presence_server(n->presence, i, &s);
        if (s.rtt_us && (own_us == 0 || s.rtt_us < own_us))
            own_us = s.rtt_us;
    }
    uint64_t fire_us = wait_us + own_us / 2;
    uint64_t longer_us = fire_us > INSTANT_SLACK_US ? 2 * (fire_us - INSTANT_SLACK_US) : 0;
    return (own_us + (longer_us > own_us ? longer_us : own_us)) / 1000;
}

static struct making *making_new(struct remote *r, unsigned role, uint32_t wait_us)
{
    struct tcpways *t = &r->peerd->net.tcpways;
    struct making *m = t->making_count < MAKINGS_MAX ? calloc(1, sizeof *m) : NULL;
    uint64_t seed;
    if (!m)
        return NULL;
    randombytes_buf(&seed, sizeof seed);
    *m = (struct making){.all = t, .remote = r, .role = role, .timer.fire = fires};
    for (size_t i = 0; i < TCPTRY_MAX; i++)
        m->openings[i] = (struct opening){m, -EBADF, {-EBADF, ready}, 0};
    tcptries_init(&m->tries, tcpway_rtt_most_ms(t->net, wait_us), seed);
    list_append(&t->makings, &m->link);
    t->making_count++;
    return m;
}

void tcpways_connect(struct remote *r, unsigned role, const struct offer *o, uint32_t wait_us)
{
    tcpways_enough(r, role);
    if (r->peerd->net.tcpways.port == 0 || path_is_over_tcp(r))
        return;
    struct making *m = making_new(r, role, wait_us);
    if (!m)
        return;
    /* A NAT that counts gives the next port to a new one only: between the same two ports it goes
     * on with what it gave in the last attempt, which the other side does not know. */
    const struct nat own = gathering_nat(&m->all->net->gathering);
    m->port = nat_counts(&own) ? 0 : m->all->port;
    targets_add(m, o, clock_now_ms() + wait_us / 1000 + delay_ms(m->all->net, o));
    trail_add(&r->trail, "tried over TCP: %zu addresses", m->tries.count);
    timer_set(m);
}

void tcpways_enough(struct remote *r, unsigned role)
{
    struct making *m = making_find(r, role);
    if (m)
        making_free(m);
    punching_guess_end(&r->punchings[role]);
}

void tcpway_make_again(struct remote *r, unsigned role, const struct addr *to)
{
    struct making *m = making_find(r, role);
    for (size_t i = 0; m && i < m->tries.count; i++) {
        if (m->tries.at[i].state != TCPTRY_STANDS || !addr_equal(&m->tries.at[i].to, to))
            continue;
        failed(m, i, -ECONNRESET);
        timer_set(m);
    }
}
