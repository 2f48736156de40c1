/* Opens what waits, or sends what guesses, at the pace of punch/guess.h. Connections that stand go
 * to tcpway.c. A guess belongs to its punching and is told to end when there is a way; when it ends
 * by itself punching.c hears of it. Nothing is left behind: a socket in SYN_SENT is closed without
 * a word. */
#include "peerd/tcpguess.h"

#include <netinet/tcp.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/clock.h"
#include "peerd/remote.h"
#include "peerd/tcpport.h"
#include "peerd/tcpway-internal.h"

/* What needs no guess has its answer on the way by then. */
#define DELAY_US 60000u
/* The last of 1,000 probes goes 1.25 s after the first. Then it is quiet for a second, so that the
 * next guess's and these are not more in any second, either. */
#define LASTS_US  2500000u
#define SECOND_US 1000000u
/* A probe waits for its answer so long, and one and a half round trips; but not until the kernel
 * would repeat it. */
#define ANSWER_US     100000u
#define ANSWER_MAX_US 900000u
/* What waits is repeated once, after a second: its first packet, or the guess, may have been lost.
 */
#define SYN_REPEATS 1
/* So many descriptors are given back when there are no more: others need some. */
#define SPARE 16
/* In a block many are met before the first is greeted. */
#define CONNECTIONS_MAX 8

struct slot {
    struct tcpguess *guess;
    int fd; /* owned */
    struct watch watch;
    struct addr to;
    uint64_t until_us;
};

struct tcpguess {
    struct tcpways *all;
    struct punching *punching;
    enum guess_plan plan;
    struct addr seen; /* in the book of guesses */
    struct addr to;   /* where what waits connects to */
    struct guess ports;
    uint64_t start_us, answer_us;
    struct slot slots[GUESS_SOCKETS_MAX];
    unsigned first, next; /* those in use, counted without end: the oldest and behind the newest */
    unsigned met;         /* connections */
    bool waits;           /* what is to be guessed is open */
    struct timer timer;
};

static struct slot *slot_at(struct tcpguess *t, unsigned number)
{
    return &t->slots[number % GUESS_SOCKETS_MAX];
}

static void slot_close(struct slot *s)
{
    loop_unwatch(tcpway_loop(s->guess->all), &s->watch);
    if (s->fd >= 0)
        budget_give(&s->guess->all->net->budget);
    s->fd = fd_close(s->fd);
}

static void ready(struct watch *watch, uint32_t events)
{
    struct slot *s = container_of(watch, struct slot, watch);
    struct tcpguess *t = s->guess;
    (void)events;
    if (tcpport_result(s->fd) < 0 || t->met == CONNECTIONS_MAX) {
        slot_close(s);
        return;
    }
    loop_unwatch(tcpway_loop(t->all), &s->watch);
    t->met++;
    /* What it led to counts by itself. */
    budget_give(&t->all->net->budget);
    tcpway_stands(t->punching->remote, t->punching->role, &s->to, fd_take(&s->fd));
}

static int open_within(struct tcpguess *t, uint16_t port, const struct addr *to, uint64_t until_us)
{
    struct slot *s = slot_at(t, t->next);
    const int repeats = SYN_REPEATS;
    int fd = tcpport_connect(port, to);
    if (fd < 0)
        return fd;
    *s = (struct slot){t, -EBADF, {-EBADF, ready}, *to, until_us};
    int r = loop_watch(tcpway_loop(t->all), &s->watch, fd, EPOLLOUT);
    if (r < 0) {
        (void)fd_close(fd);
        return r;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &repeats, sizeof repeats);
    s->fd = fd;
    t->next++;
    return 0;
}

static int slot_open(struct tcpguess *t, uint16_t port, const struct addr *to, uint64_t until_us)
{
    if (!budget_take(&t->all->net->budget, BUDGET_ATTEMPT))
        return -EMFILE;
    int r = open_within(t, port, to, until_us);
    if (r < 0)
        budget_give(&t->all->net->budget);
    return r;
}

/* There are no more descriptors. */
static void give_back(struct tcpguess *t)
{
    for (unsigned i = 0; i < SPARE && t->first < t->next; i++)
        slot_close(slot_at(t, t->first++));
}

/* All at once, each with a port that its NAT will choose. */
static void wait_with_many(struct tcpguess *t)
{
    struct guess_spent *spent = &t->all->net->guesses_spent;
    uint64_t now_us = clock_now_us();
    const struct nat *own = &t->punching->remote->offerings[t->punching->role].nat;
    unsigned count = guess_socket_count(own, guess_spent(spent, now_us));
    int r = 0;
    while (r == 0 && t->next < count)
        r = slot_open(t, 0, &t->to, UINT64_MAX);
    if (r < 0)
        give_back(t);
    t->waits = true;
    guess_spend(spent, t->next, now_us);
    trail_add(&t->punching->remote->trail, "waits over TCP with %u ports, to be guessed",
              t->next - t->first);
}

/* Those that are too old make room. */
static void slots_expire(struct tcpguess *t, uint64_t now_us)
{
    while (t->first < t->next && slot_at(t, t->first)->until_us <= now_us)
        slot_close(slot_at(t, t->first++));
}

static bool has_room(const struct tcpguess *t)
{
    return t->next - t->first < GUESS_SOCKETS_MAX;
}

static void probe_some(struct tcpguess *t, uint64_t now_us)
{
    slots_expire(t, now_us);
    while (has_room(t) && guess_due_us(&t->ports) <= now_us) {
        struct addr to = t->seen;
        addr_set_port(&to, guess_next(&t->ports, now_us));
        t->all->guessed_us = now_us;
        /* One that is not opened is a guess that has missed. */
        if (slot_open(t, t->all->port, &to, now_us + t->answer_us) == -EMFILE)
            give_back(t);
    }
}

static void missed(struct tcpguess *t)
{
    struct punching *g = t->punching;
    trail_add(&g->remote->trail, "no port was met over TCP: %u guessed, %u connections",
              t->ports.sent, t->met);
    punching_guessed(g);
}

static uint64_t earlier(uint64_t a_us, uint64_t b_us)
{
    return a_us < b_us ? a_us : b_us;
}

static uint64_t due_us(struct tcpguess *t)
{
    uint64_t due = t->start_us + LASTS_US;
    if (t->plan == GUESS_SOCKETS)
        return t->waits ? due : t->start_us;
    if (t->first < t->next)
        due = earlier(due, slot_at(t, t->first)->until_us);
    return has_room(t) ? earlier(due, guess_due_us(&t->ports)) : due;
}

static void timer_set(struct tcpguess *t)
{
    uint64_t now = clock_now_us(), due = due_us(t);
    loop_timer(tcpway_loop(t->all), &t->timer, due > now ? (due - now + 999) / 1000 : 0);
}

static void fires(struct timer *timer)
{
    struct tcpguess *t = container_of(timer, struct tcpguess, timer);
    uint64_t now_us = clock_now_us();
    if (now_us >= t->start_us + LASTS_US) {
        missed(t);
        return;
    }
    if (t->plan == GUESS_PROBE)
        probe_some(t, now_us);
    else if (!t->waits)
        wait_with_many(t);
    timer_set(t);
}

/* The one that a server sees: only the peer itself is written to. */
static bool port_of(const struct offer *o, const struct addr *seen, struct addr *ret_to)
{
    for (size_t i = 0; i < o->candidate_count; i++) {
        const struct record_candidate *c = &o->candidates[i];
        if (c->transport != RECORD_TCP || c->kind != RECORD_REFLEXIVE ||
            !candidate_same_ip(&c->addr, seen) || !candidate_is_usable(&c->addr))
            continue;
        *ret_to = c->addr;
        return true;
    }
    return false;
}

static struct tcpguess *guess_new(struct punching *g, enum guess_plan plan, const struct addr *seen)
{
    struct tcpways *all = &g->remote->peerd->net.tcpways;
    struct addr to = *seen;
    if (seen->sa.sa_family != AF_INET || all->port == 0 || all->guess_count == TCPGUESSES_MAX ||
        (plan == GUESS_SOCKETS && !port_of(&g->theirs, seen, &to)))
        return NULL;
    struct tcpguess *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    *t = (struct tcpguess){
        .all = all, .punching = g, .plan = plan, .seen = *seen, .to = to, .timer.fire = fires};
    all->guess_count++;
    return t;
}

/* Not together with what a guess that was broken off has sent in the last second. */
static uint64_t pace_begins_us(const struct tcpguess *t)
{
    uint64_t free_us = t->all->guessed_us ? t->all->guessed_us + SECOND_US : 0;
    return free_us > t->start_us ? free_us : t->start_us;
}

struct tcpguess *tcpguess_begin(struct punching *g, enum guess_plan plan, const struct nat *peer,
                                const struct addr *seen, uint32_t wait_us)
{
    struct tcpguess *t = guess_new(g, plan, seen);
    uint64_t seed;
    if (!t) {
        guess_book_leave(&g->remote->peerd->net.guesses, seen);
        return NULL;
    }
    randombytes_buf(&seed, sizeof seed);
    t->start_us = clock_now_us() + wait_us + DELAY_US;
    guess_init(&t->ports, peer, seed, pace_begins_us(t));
    t->answer_us = 1500 * tcpway_rtt_most_ms(t->all->net, wait_us) + ANSWER_US;
    if (t->answer_us > ANSWER_MAX_US)
        t->answer_us = ANSWER_MAX_US;
    timer_set(t);
    return t;
}

void tcpguess_free(struct tcpguess *t)
{
    if (!t)
        return;
    while (t->first < t->next)
        slot_close(slot_at(t, t->first++));
    loop_untimer(&t->timer);
    guess_book_leave(&t->all->net->guesses, &t->seen);
    t->all->guess_count--;
    free(t);
}
