/* Which pairs the machine has: one for each of the peer's candidates, for each port that is
 * predicted, for each socket of a guess, and for each address that is learned. */
#include "punch/machine.h"

#define LOCKSTEP_HOLD_US 150000u /* other pairs would take ports out of the sequence */

static uint64_t pair_priority(const struct punch *p, enum candidate_kind kind,
                              const struct addr *to, uint32_t theirs)
{
    uint32_t ours = candidate_priority(CANDIDATE_HOST, to, 0);
    if (theirs == 0)
        theirs = candidate_priority(kind, to, 0);
    return p->c.caller ? candidate_pair_priority(ours, theirs)
                       : candidate_pair_priority(theirs, ours);
}

struct pair *machine_pair(struct punch *p, unsigned socket, enum candidate_kind kind,
                          const struct addr *to)
{
    struct pair *pair = pairs_add(&p->pairs, socket, kind, to);
    if (pair)
        pair->priority = pair_priority(p, kind, to, 0);
    return pair;
}

/* RFC 8445 7.3.1.3: an address that an authentic check came from is a peer-reflexive candidate. */
struct pair *machine_learn(struct punch *p, unsigned socket, const struct addr *from)
{
    if (!candidate_is_usable(from) ||
        pairs_count_kind(&p->pairs, CANDIDATE_PEER_REFLEXIVE) >= PUNCH_PEERS_MAX)
        return NULL;
    return machine_pair(p, socket, CANDIDATE_PEER_REFLEXIVE, from);
}

static bool has_family(const struct candidates *list, int family)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->at[i].addr.sa.sa_family == family && list->at[i].transport == CANDIDATE_UDP)
            return true;
    return false;
}

/* RFC 8445 6.1.2.2 pairs equal families; our side of every pair is the one socket (6.1.2.4 prunes a
 * reflexive candidate to its base), so there is a pair for each of the peer's candidates. */
static void pair_with_remote(struct punch *p, const struct candidate *c)
{
    if (c->transport != CANDIDATE_UDP || !has_family(&p->c.local, c->addr.sa.sa_family))
        return;
    struct pair *pair = pairs_add(&p->pairs, 0, c->kind, &c->addr);
    if (pair)
        pair->priority = pair_priority(p, c->kind, &c->addr, c->priority);
}

/* What is public goes first: those two sides have to send at the same moment, and a counting NAT
 * gives its next port to whatever comes first. */
static void pair_with_candidates(struct punch *p)
{
    for (int inner = 0; inner < 2; inner++)
        for (size_t i = 0; i < p->c.remote.count; i++)
            if (candidate_is_public(&p->c.remote.at[i].addr) == !inner)
                pair_with_remote(p, &p->c.remote.at[i]);
}

/* The address that the peer's NAT showed at the one that a server saw. */
static struct addr seen_address(const struct punch *p)
{
    for (size_t i = 0; i < p->c.remote.count; i++) {
        const struct candidate *c = &p->c.remote.at[i];
        if (c->kind == CANDIDATE_REFLEXIVE && c->transport == CANDIDATE_UDP &&
            candidate_same_ip(&c->addr, &p->c.peer_seen))
            return c->addr;
    }
    return p->c.peer_seen;
}

static void pair_with_predictions(struct punch *p)
{
    bool wide = machine_is_careful(p) || p->c.hint == TECHNIQUE_PREDICTED;
    bool sweeps = p->plan == GUESS_LOCKSTEP && p->c.caller;
    struct addr at = seen_address(p);
    uint16_t last = addr_port(&at);
    for (unsigned i = 0; i < guess_window(p->plan, wide); i++) {
        unsigned ahead = sweeps ? guess_sweep(i) : i + 1;
        addr_set_port(&at, guess_predict(last, p->c.peer.delta, ahead));
        if (pairs_find(&p->pairs, 0, &at))
            continue;
        struct pair *pair = machine_pair(p, 0, CANDIDATE_GUESSED, &at);
        if (pair)
            pair->limit = wide ? GUESS_PREDICT_WIDE_PROBES : GUESS_PREDICT_PROBES;
    }
}

void machine_pair_all(struct punch *p)
{
    if (p->plan == GUESS_PREDICT || p->plan == GUESS_LOCKSTEP)
        pair_with_predictions(p);
    size_t predicted = p->pairs.count;
    if (p->c.own.mapping != NAT_MAPPING_BLOCKED)
        pair_with_candidates(p);
    for (size_t i = 0; i < p->pairs.count; i++) {
        struct pair *pair = &p->pairs.at[i];
        bool hold = p->plan == GUESS_LOCKSTEP && i >= predicted && pair->to.sa.sa_family == AF_INET;
        pair->due_us = p->c.start_us + i * MACHINE_PACE_US + (hold ? LOCKSTEP_HOLD_US : 0);
    }
}

void machine_open(struct punch *p, uint64_t now_us)
{
    unsigned count = guess_socket_count(&p->c.own, p->c.ports_spent), first = p->next_socket;
    struct addr at = seen_address(p);
    struct punch_action *a = machine_queue(p, PUNCH_OPEN);
    if (!a)
        return;
    a->socket = first;
    a->count = count;
    p->next_socket += count;
    for (unsigned i = 0; i < count; i++) {
        struct pair *pair = machine_pair(p, first + i, CANDIDATE_GUESSED, &at);
        if (!pair)
            return;
        pair->limit = PAIR_SOCKET_PROBES;
        pair->due_us = now_us + (uint64_t)i * MACHINE_PACE_US;
    }
}
