/* Copies what the check machine knows, which forgets all with the attempt, and adds what happened
 * to TCP connections. The newest attempt is the first; the oldest goes. */
#include "peerd/attempt.h"

#include <stdlib.h>

#include "base/clock.h"
#include "peerd/peerd.h"
#include "peerd/remote.h"

void attempts_done(struct attempts *a)
{
    for (size_t i = 0; i < ATTEMPTS_KEPT; i++) {
        free(a->at[i]);
        a->at[i] = NULL;
    }
}

/* NULL without memory: then nothing is known of it. */
static struct attempt *attempt_of(struct remote *r, unsigned role)
{
    struct attempts *a = &r->attempts;
    uint64_t call = r->punchings[role].call;
    for (size_t i = 0; i < ATTEMPTS_KEPT; i++)
        if (a->at[i] && a->at[i]->call == call && a->at[i]->role == role)
            return a->at[i];
    struct attempt *t = a->at[ATTEMPTS_KEPT - 1] ? a->at[ATTEMPTS_KEPT - 1] : malloc(sizeof *t);
    if (!t)
        return NULL;
    for (size_t i = ATTEMPTS_KEPT - 1; i > 0; i--)
        a->at[i] = a->at[i - 1];
    *t = (struct attempt){.call = call, .role = role, .begun_ms = clock_now_ms()};
    a->at[0] = t;
    return t;
}

static struct attempt_pair *pair_get(struct attempt *t, enum candidate_transport transport,
                                     const struct addr *addr)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->pairs[i].transport == transport && addr_equal(&t->pairs[i].addr, addr))
            return &t->pairs[i];
    if (t->count == ATTEMPT_PAIRS)
        return NULL;
    t->pairs[t->count] = (struct attempt_pair){.addr = *addr, .transport = transport};
    return &t->pairs[t->count++];
}

static void peer_copy(struct attempt *t, const struct offer *o)
{
    t->peer = punching_nat(o, NULL);
    t->peer_maps = o->flags & OFFER_MAPS;
    t->peer_guessing = o->flags & OFFER_MAY_GUESS;
    for (size_t i = 0; i < o->candidate_count; i++) {
        const struct record_candidate *c = &o->candidates[i];
        t->peer_maps = t->peer_maps || c->kind == RECORD_MAPPED;
        t->peer_v6 =
            t->peer_v6 || (c->addr.sa.sa_family == AF_INET6 && candidate_is_public(&c->addr));
    }
}

/* One address may have several pairs, each with a socket of ours. */
static void pairs_copy(struct attempt *t, const struct punch *machine)
{
    struct punch_tried tried[ATTEMPT_PAIRS];
    size_t n = punch_tried(machine, tried, ATTEMPT_PAIRS);
    for (size_t i = 0; i < t->count; i++)
        if (t->pairs[i].transport == CANDIDATE_UDP)
            t->pairs[i].sent = t->pairs[i].heard = 0;
    for (size_t i = 0; i < n; i++) {
        const struct candidate *c = &tried[i].candidate;
        struct attempt_pair *p = pair_get(t, c->transport, &c->addr);
        if (!p)
            return;
        p->kind = c->kind;
        p->sent += tried[i].sent;
        p->heard += tried[i].heard;
        p->proven = p->proven || tried[i].proven;
    }
}

void attempt_checks(struct remote *r, unsigned role)
{
    const struct punching *g = &r->punchings[role];
    struct attempt *t = g->machine ? attempt_of(r, role) : NULL;
    if (!t)
        return;
    pairs_copy(t, g->machine);
    peer_copy(t, &g->theirs);
    t->plan = g->plan;
    t->guesses = punch_guesses_sent(g->machine);
    const struct punch_path *best = punch_best(g->machine);
    t->technique = best ? best->technique : TECHNIQUE_UNKNOWN;
    t->reason = best ? PUNCH_NO_REASON : g->reason;
    t->running = !best;
}

void attempt_end(struct remote *r, unsigned role)
{
    if (!r->punchings[role].machine)
        return;
    attempt_checks(r, role);
    struct attempt *t = attempt_of(r, role);
    if (t)
        t->running = false;
}

static enum candidate_kind offered_kind(const struct offer *o, const struct addr *addr)
{
    for (size_t i = 0; i < o->candidate_count; i++)
        if (o->candidates[i].transport == RECORD_TCP && addr_equal(&o->candidates[i].addr, addr))
            return (enum candidate_kind)o->candidates[i].kind;
    return CANDIDATE_PEER_REFLEXIVE;
}

void attempt_tcp(struct remote *r, unsigned role, const struct addr *addr, enum attempt_event event,
                 int err)
{
    struct attempt *t = attempt_of(r, role);
    struct attempt_pair *p = t ? pair_get(t, CANDIDATE_TCP, addr) : NULL;
    if (!p)
        return;
    p->kind = offered_kind(&r->punchings[role].theirs, addr);
    if (event == ATTEMPT_CONNECTING)
        p->sent++;
    else if (event == ATTEMPT_GREETED)
        p->heard++;
    else
        p->err = err;
    p->proven = p->proven || event == ATTEMPT_GREETED;
}
