/* Port guessing: two NATs come in, a plan goes out, and then ports, one after the other and not too
 * fast. Pure. */
#include "punch/guess.h"

#include "punch/candidate.h"

#include <assert.h>

#define PORT_LOWEST      1024
#define SPACING_US       500u
#define PERIOD_US        1000000u
#define BLOCK_PERIOD_US  250000u
#define LOCKSTEP_PER_SUM 4 /* tries for each number of ports that others may have taken */

static const char *const plan_words[GUESS_PLAN_END] = {
    [GUESS_NOTHING] = "plain",
    [GUESS_PREDICT] = "predict",
    [GUESS_LOCKSTEP] = "lockstep",
    [GUESS_PROBE] = "birthday-probe",
    [GUESS_SOCKETS] = "birthday-sockets",
    [GUESS_HOPELESS] = "relay",
};

const char *guess_plan_word(enum guess_plan plan)
{
    return plan_words[plan];
}

/* Every port of a host that has been sent to. */
static bool lets_in(const struct nat *nat)
{
    return nat->mapping == NAT_MAPPING_NONE || nat->filtering == NAT_FILTERING_EIF ||
           nat->filtering == NAT_FILTERING_ADF;
}

enum guess_plan guess_plan(const struct nat *own, const struct nat *peer)
{
    bool own_symmetric = nat_is_symmetric(own), peer_symmetric = nat_is_symmetric(peer);
    if (own_symmetric && peer_symmetric)
        return nat_counts(own) && nat_counts(peer) ? GUESS_LOCKSTEP : GUESS_HOPELESS;
    if (own->mapping == NAT_MAPPING_BLOCKED || peer->mapping == NAT_MAPPING_BLOCKED)
        return GUESS_HOPELESS;
    if (own_symmetric)
        return nat_counts(own) || lets_in(peer) ? GUESS_NOTHING : GUESS_SOCKETS;
    if (!peer_symmetric || lets_in(own))
        return GUESS_NOTHING;
    return nat_counts(peer) ? GUESS_PREDICT : GUESS_PROBE;
}

enum guess_plan guess_tcp_plan(const struct nat *own, const struct nat *peer)
{
    if (own->mapping == NAT_MAPPING_BLOCKED && nat_is_symmetric(peer) && !nat_counts(peer))
        return GUESS_PROBE;
    if (peer->mapping == NAT_MAPPING_BLOCKED && nat_is_symmetric(own) && !nat_counts(own))
        return GUESS_SOCKETS;
    return GUESS_NOTHING;
}

unsigned guess_socket_count(const struct nat *own, unsigned spent)
{
    if (own->allocation != NAT_ALLOCATION_BLOCK)
        return GUESS_SOCKETS_MAX;
    unsigned size = (unsigned)own->delta, eighth = spent < size ? (size - spent) / 8 : 0;
    if (eighth < GUESS_SOCKETS_LEAST)
        return GUESS_SOCKETS_LEAST;
    return eighth > GUESS_SOCKETS_MAX ? GUESS_SOCKETS_MAX : eighth;
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

void guess_init(struct guess *g, const struct nat *peer, uint64_t seed, uint64_t start_us)
{
    *g = (struct guess){.first = PORT_LOWEST, .count = 65536 - PORT_LOWEST, .start_us = start_us};
    g->burst = GUESS_PROBES_SECOND;
    g->period_us = PERIOD_US;
    if (peer->allocation == NAT_ALLOCATION_BLOCK && peer->delta > 0) {
        g->first = peer->block_first > 0 ? peer->block_first : 1;
        g->count = (uint32_t)peer->delta;
        if (g->first + g->count > 65536)
            g->count = 65536 - g->first;
        g->burst = GUESS_BLOCK_BURST;
        g->period_us = BLOCK_PERIOD_US;
    }
    /* A step without a common divisor visits every port of the range once. The other side's ports
     * are random, so any order of ours is as good as a random one. */
    g->step = (uint32_t)(seed >> 32) % g->count | 1;
    while (common_divisor(g->step, g->count) != 1)
        g->step += 2;
    g->offset = (uint32_t)seed % g->count;
    g->limit = g->count < GUESS_PROBES_MAX ? g->count : GUESS_PROBES_MAX;
}

uint64_t guess_due_us(const struct guess *g)
{
    if (g->sent >= g->limit)
        return UINT64_MAX;
    uint64_t due_us = g->start_us + g->sent / g->burst * g->period_us +
                      (uint64_t)(g->sent % g->burst) * SPACING_US;
    if (g->sent < GUESS_PROBES_SECOND)
        return due_us;
    uint64_t free_us = g->sent_us[g->sent % GUESS_PROBES_SECOND] + PERIOD_US;
    return due_us > free_us ? due_us : free_us;
}

void guess_halve(struct guess *g)
{
    g->limit /= 2;
}

uint16_t guess_next(struct guess *g, uint64_t now_us)
{
    assert(g->sent < g->limit);
    g->sent_us[g->sent % GUESS_PROBES_SECOND] = now_us;
    uint64_t walked = (uint64_t)g->sent++ * g->step + g->offset;
    return (uint16_t)(g->first + walked % g->count);
}

unsigned guess_window(enum guess_plan plan, bool wide)
{
    if (plan == GUESS_LOCKSTEP)
        return wide ? GUESS_SWEEP_WIDE : GUESS_SWEEP;
    return wide ? GUESS_WINDOW_WIDE : GUESS_WINDOW;
}

/* Our k-th mapping is for the port k + c(k) ahead and has, where others have taken s of our ports,
 * k + s itself; the other's l-th is for l and has l + t. They are the same two ends when l = k + s
 * and k + c(k) = l + t, that is where c(k) = s + t. */
unsigned guess_sweep(unsigned i)
{
    return i + 1 + i / LOCKSTEP_PER_SUM;
}

uint16_t guess_predict(uint16_t last, int delta, unsigned i)
{
    int port = last + delta * (int)i;
    /* A counter that runs out begins anew where the ports of users begin. */
    if (port > UINT16_MAX)
        port -= 65536 - PORT_LOWEST;
    if (port < PORT_LOWEST)
        port += 65536 - PORT_LOWEST;
    return (uint16_t)port;
}

bool guess_book_enter(struct guess_book *b, const struct addr *a)
{
    for (size_t i = 0; i < b->count; i++)
        if (candidate_same_ip(&b->at[i], a))
            return false;
    if (b->count == GUESS_BOOK_MAX)
        return false;
    b->at[b->count++] = *a;
    return true;
}

void guess_book_leave(struct guess_book *b, const struct addr *a)
{
    for (size_t i = 0; i < b->count; i++) {
        if (!candidate_same_ip(&b->at[i], a))
            continue;
        b->at[i] = b->at[--b->count];
        return;
    }
}

void guess_spend(struct guess_spent *s, unsigned count, uint64_t now_us)
{
    s->at_us[s->next] = now_us;
    s->count[s->next] = count;
    s->next = (s->next + 1) % GUESS_SPENT_MAX;
}

unsigned guess_spent(const struct guess_spent *s, uint64_t now_us)
{
    unsigned sum = 0;
    for (size_t i = 0; i < GUESS_SPENT_MAX; i++)
        if (now_us - s->at_us[i] < GUESS_SPENT_US)
            sum += s->count[i];
    return sum;
}
