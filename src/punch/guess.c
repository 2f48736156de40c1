/* Port guessing: two NATs come in, a plan goes out, and then ports, one after the other and not too
 * fast. Pure. */
#include "punch/guess.h"

#include "punch/candidate.h"

#include <assert.h>

#define PORT_LOWEST 1024
#define SPACING_US  500

static bool counts(const struct nat *nat)
{
    return nat_is_symmetric(nat) && nat->allocation == NAT_ALLOCATION_SEQUENCE;
}

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

enum guess_plan guess_plan(const struct nat *own, const struct nat *peer)
{
    bool own_symmetric = nat_is_symmetric(own), peer_symmetric = nat_is_symmetric(peer);
    if (own_symmetric && peer_symmetric)
        return counts(own) && counts(peer) ? GUESS_LOCKSTEP : GUESS_HOPELESS;
    if (own->mapping == NAT_MAPPING_BLOCKED || peer->mapping == NAT_MAPPING_BLOCKED)
        return GUESS_HOPELESS;
    if (own_symmetric)
        return counts(own) || peer->mapping == NAT_MAPPING_NONE ? GUESS_NOTHING : GUESS_SOCKETS;
    bool let_in = own->mapping == NAT_MAPPING_NONE || own->filtering == NAT_FILTERING_EIF ||
                  own->filtering == NAT_FILTERING_ADF;
    if (!peer_symmetric || let_in)
        return GUESS_NOTHING;
    return counts(peer) ? GUESS_PREDICT : GUESS_PROBE;
}

unsigned guess_socket_count(const struct nat *own)
{
    if (own->allocation != NAT_ALLOCATION_BLOCK)
        return GUESS_SOCKETS_MAX;
    unsigned eighth = (unsigned)own->delta / 8;
    if (eighth < GUESS_SOCKETS_MIN)
        return GUESS_SOCKETS_MIN;
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
    if (peer->allocation == NAT_ALLOCATION_BLOCK && peer->delta > 0) {
        g->first = peer->block_first > 0 ? peer->block_first : 1;
        g->count = (uint32_t)peer->delta;
        if (g->first + g->count > 65536)
            g->count = 65536 - g->first;
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
    if (g->sent < GUESS_PROBES_SECOND)
        return g->start_us + (uint64_t)g->sent * SPACING_US;
    return g->sent_us[g->sent % GUESS_PROBES_SECOND] + 1000000;
}

uint16_t guess_next(struct guess *g, uint64_t now_us)
{
    assert(g->sent < g->limit);
    g->sent_us[g->sent % GUESS_PROBES_SECOND] = now_us;
    uint64_t walked = (uint64_t)g->sent++ * g->step + g->offset;
    return (uint16_t)(g->first + walked % g->count);
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
