/* What comes in: a probe is looked at, answered, and may prove a path or teach an address. Nothing
 * that the peer has not made changes anything. */
#include "punch/machine.h"

#include <errno.h>

#define TRIGGER_US 10000u

static bool is_better(const struct punch *p, const struct pair *pair)
{
    if (!p->has_best)
        return true;
    if (pair->rtt_us < p->best.rtt_us - p->best.rtt_us / 5)
        return true;
    return pair->priority > p->best_priority && pair->rtt_us <= p->best.rtt_us + p->best.rtt_us / 5;
}

/* What the peer guesses at our address counts as much as what we do at its. */
static enum technique technique_of(const struct punch *p, const struct pair *pair)
{
    bool came = pair->kind == CANDIDATE_PEER_REFLEXIVE && p->plan == GUESS_HOPELESS;
    if (pair->kind == CANDIDATE_MAPPED || (came && machine_has_mapped(&p->c.local)))
        return TECHNIQUE_MAPPED;
    bool seen = candidate_same_ip(&pair->to, &p->c.peer_seen);
    bool opened = p->plan == GUESS_SOCKETS && p->next_socket > 1;
    if (pair->socket > 0 || ((p->guessing || opened) && seen))
        return TECHNIQUE_GUESSED;
    if (pair->kind == CANDIDATE_GUESSED ||
        (seen && guess_plan(&p->c.peer, &p->c.own) == GUESS_PREDICT))
        return TECHNIQUE_PREDICTED;
    return seen && machine_is_careful(p) ? TECHNIQUE_CAREFUL : TECHNIQUE_PLAIN;
}

static void pair_proven(struct punch *p, struct pair *pair, uint64_t now_us, uint64_t rtt_us)
{
    if (pair->state == PAIR_PROVEN || p->state == MACHINE_FAILED || p->state == MACHINE_DONE)
        return;
    pair->state = PAIR_PROVEN;
    pair->rtt_us = rtt_us < UINT32_MAX ? (uint32_t)rtt_us : UINT32_MAX;
    if (!is_better(p, pair))
        return;
    if (!p->has_best) {
        p->state = MACHINE_SETTLING;
        p->end_us = now_us + PUNCH_SETTLE_US;
    }
    p->has_best = true;
    p->best_priority = pair->priority;
    p->best = (struct punch_path){pair->socket, pair->kind, pair->to, pair->rtt_us,
                                  technique_of(p, pair)};
    struct punch_action *a = machine_queue(p, PUNCH_PROVEN);
    if (a)
        a->path = p->best;
}

static void pong(struct punch *p, unsigned socket, const struct addr *to, uint32_t sequence)
{
    struct punch_action *a = machine_queue(p, PUNCH_SEND);
    if (!a)
        return;
    a->socket = socket;
    a->to = *to;
    machine_make(p, PROBE_PONG, sequence, a->bytes);
}

/* RFC 8445 7.3.1.4: a triggered check. From here on the pair goes on as one that has just begun. */
static void trigger(struct pair *pair, uint64_t now_us)
{
    if (pair->heard == 1) {
        pair->limit = PUNCH_PROBES_MAX;
        pair->before = pair->sent;
    }
    uint64_t soon_us = pair->sent > 0 ? pair->sent_us + TRIGGER_US : now_us;
    if (soon_us < pair->due_us)
        pair->due_us = soon_us;
}

static void on_ping(struct punch *p, struct pair *pair, unsigned socket, const struct addr *from,
                    const struct probe *probe, uint64_t now_us)
{
    pong(p, socket, from, probe->sequence);
    if (!pair)
        pair = machine_learn(p, socket, from);
    if (!pair)
        return;
    pair->heard += pair->heard < UINT16_MAX;
    if (pair->state == PAIR_TRYING)
        trigger(pair, now_us);
}

/* The pair that this answers, or NULL. */
static struct pair *answered(struct punch *p, const struct machine_sent *s, unsigned socket,
                             const struct addr *from)
{
    if (s->pair >= 0)
        return &p->pairs.at[s->pair];
    if (s->port != addr_port(from) || !candidate_same_ip(from, &p->c.peer_seen))
        return NULL;
    struct pair *pair = pairs_find(&p->pairs, socket, from);
    return pair ? pair : machine_pair(p, socket, CANDIDATE_GUESSED, from);
}

static void on_pong(struct punch *p, unsigned socket, const struct addr *from,
                    const struct probe *probe, uint64_t now_us)
{
    const struct machine_sent *s = &p->log[probe->sequence % MACHINE_LOG];
    if (s->sequence != probe->sequence || s->socket != socket || s->at_us == 0)
        return;
    struct pair *pair = answered(p, s, socket, from);
    /* RFC 8445 7.2.5.2.1: an answer from elsewhere proves nothing. */
    if (!pair || !addr_equal(&pair->to, from))
        return;
    pair->heard += pair->heard < UINT16_MAX;
    pair_proven(p, pair, now_us, now_us - s->at_us);
}

static bool tag_is_right(const struct punch *p, const void *bytes, const struct probe *probe)
{
    uint8_t tag[PROBE_TAG], differs = 0;
    p->c.mac(p->c.own_key, bytes, PROBE_SIGNED, tag);
    for (size_t i = 0; i < PROBE_TAG; i++)
        differs |= tag[i] ^ probe->tag[i];
    return differs == 0;
}

void punch_lost(struct punch *p, unsigned socket)
{
    struct pair *pair = pairs_of_socket(&p->pairs, socket);
    if (pair && socket > 0)
        pair->state = PAIR_LOST;
}

int punch_input(struct punch *p, unsigned socket, const struct addr *from, struct str bytes,
                uint64_t now_us)
{
    struct probe probe;
    int r = probe_decode(&probe, bytes.p, bytes.n);
    if (r < 0)
        return r;
    if (probe.attempt != p->c.attempt)
        return -ENOENT;
    if (probe.from_caller == p->c.caller || !tag_is_right(p, bytes.p, &probe))
        return -EACCES;
    struct pair *pair = pairs_find(&p->pairs, socket, from);
    if (probe.type == PROBE_PING)
        on_ping(p, pair, socket, from, &probe, now_us);
    else
        on_pong(p, socket, from, &probe, now_us);
    return 0;
}
