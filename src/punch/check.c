/* The machine of punch.h: its life, and what time leads to. Events come in by check-input.c; what
 * they lead to is queued, and punch_poll() hands out that and what is due. Pairs, their log and the
 * queue belong to the machine; nothing here knows sockets or the clock. */
#include "punch/machine.h"

#include <stdlib.h>

#define GUESS_DELAY_US      60000u /* what needs no guess has its answer on the way by then */
#define GUESS_DELAY_LONG_US 150000u
/* The last of a guess goes 1.25 s after the first. When the next attempt begins, the second that
 * began with its second half is over, so that both together are not more in any second either. */
#define GUESS_LASTS_US       2000000u
#define GUESS_LASTS_SHORT_US 700000u

static bool is_birthday(const struct punch *p)
{
    return p->plan == GUESS_PROBE || p->plan == GUESS_SOCKETS;
}

/* Something that lets everybody in although both NATs choose a new port for each address: a mapped
 * port, another address family, no NAT at all on a second interface. */
static bool has_open_way(const struct candidates *list)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct candidate *c = &list->at[i];
        bool open = c->kind == CANDIDATE_MAPPED || c->addr.sa.sa_family == AF_INET6 ||
                    (c->kind == CANDIDATE_HOST && candidate_is_public(&c->addr));
        if (open)
            return true;
    }
    return false;
}

static bool is_hopeless(const struct punch *p)
{
    return p->plan == GUESS_HOPELESS && p->c.own.mapping != NAT_MAPPING_BLOCKED &&
           p->c.peer.mapping != NAT_MAPPING_BLOCKED && !has_open_way(&p->c.local) &&
           !has_open_way(&p->c.remote);
}

/* Either side's port that a router keeps open needs no guess at the other's. */
bool machine_has_mapped(const struct candidates *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->at[i].kind == CANDIDATE_MAPPED && list->at[i].transport == CANDIDATE_UDP)
            return true;
    return false;
}

/* Two peers that have heard the same take the same time for what needs no guess. */
static uint64_t guess_delay_us(const struct punch *p)
{
    if (machine_has_mapped(&p->c.local) || machine_has_mapped(&p->c.remote))
        return GUESS_DELAY_LONG_US;
    if (p->c.again || p->c.hint == TECHNIQUE_GUESSED)
        return 0;
    bool needless = p->c.hint == TECHNIQUE_PLAIN || p->c.hint == TECHNIQUE_CAREFUL ||
                    p->c.hint == TECHNIQUE_MAPPED;
    return needless ? GUESS_DELAY_LONG_US : GUESS_DELAY_US;
}

static uint64_t duration_us(const struct punch *p)
{
    bool brief = p->c.hint == TECHNIQUE_RELAY;
    if (is_birthday(p))
        return guess_delay_us(p) + (brief ? GUESS_LASTS_SHORT_US : GUESS_LASTS_US);
    if (is_hopeless(p))
        return PUNCH_HOPELESS_US;
    return brief ? PUNCH_BRIEF_US : p->c.again ? PUNCH_AGAIN_US : PUNCH_FIRST_US;
}

static enum machine_state begin(struct punch *p)
{
    machine_pair_all(p);
    p->end_us = p->c.start_us + duration_us(p);
    if (is_birthday(p))
        p->guess_us = p->c.start_us + guess_delay_us(p);
    return MACHINE_CHECKING;
}

static enum punch_reason failure(const struct punch *p)
{
    for (size_t i = 0; i < p->pairs.count; i++)
        if (p->pairs.at[i].heard > 0)
            return PUNCH_ONE_WAY;
    if (p->c.own.mapping == NAT_MAPPING_BLOCKED || p->c.peer.mapping == NAT_MAPPING_BLOCKED)
        return PUNCH_UDP_BLOCKED;
    if (p->plan == GUESS_HOPELESS)
        return PUNCH_BOTH_SYMMETRIC;
    if (p->pairs.count == 0)
        return PUNCH_NO_CANDIDATES;
    return is_birthday(p) ? PUNCH_GUESSED_OUT : PUNCH_NO_ANSWER;
}

static void begin_guess(struct punch *p, uint64_t now_us)
{
    p->guess_us = UINT64_MAX;
    p->guessing = p->plan == GUESS_PROBE;
    if (!p->guessing) {
        machine_open(p, now_us);
        return;
    }
    guess_init(&p->guess, &p->c.peer, p->c.seed, now_us);
    if (p->c.hint == TECHNIQUE_RELAY)
        guess_halve(&p->guess);
}

static enum machine_state step_checking(struct punch *p, uint64_t now_us)
{
    if (now_us >= p->guess_us)
        begin_guess(p, now_us);
    if (now_us < p->end_us)
        return MACHINE_CHECKING;
    struct punch_action *a = machine_queue(p, PUNCH_FAILED);
    if (a)
        a->reason = failure(p);
    return MACHINE_FAILED;
}

static enum machine_state step_settling(struct punch *p, uint64_t now_us)
{
    if (now_us < p->end_us)
        return MACHINE_SETTLING;
    struct punch_action *a = machine_queue(p, PUNCH_DONE);
    if (a)
        a->path = p->best;
    return MACHINE_DONE;
}

static enum machine_state step(struct punch *p, uint64_t now_us)
{
    switch (p->state) {
    case MACHINE_WAITING:
        return now_us >= p->c.start_us ? begin(p) : MACHINE_WAITING;
    case MACHINE_CHECKING:
        return step_checking(p, now_us);
    case MACHINE_SETTLING:
        return step_settling(p, now_us);
    case MACHINE_DONE:
    case MACHINE_FAILED:
        break;
    }
    return p->state;
}

static uint64_t guess_next_us(const struct punch *p)
{
    return p->guessing && p->state == MACHINE_CHECKING ? guess_due_us(&p->guess) : UINT64_MAX;
}

bool punch_poll(struct punch *p, uint64_t now_us, struct punch_action *ret_action)
{
    enum machine_state next = step(p, now_us);
    while (next != p->state) {
        p->state = next;
        next = step(p, now_us);
    }
    if (machine_dequeue(p, ret_action))
        return true;
    struct pair *pair;
    while ((pair = machine_due(p)) && pair->due_us <= now_us)
        if (machine_probe(p, pair, now_us, ret_action))
            return true;
    if (guess_next_us(p) > now_us)
        return false;
    machine_guess(p, now_us, ret_action);
    return true;
}

uint64_t punch_next(const struct punch *p)
{
    if (p->queue_count > 0)
        return 0;
    if (p->state == MACHINE_WAITING)
        return p->c.start_us;
    if (p->state == MACHINE_DONE || p->state == MACHINE_FAILED)
        return UINT64_MAX;
    uint64_t next_us = guess_next_us(p);
    const struct pair *pair = machine_due((struct punch *)p);
    if (pair && pair->due_us < next_us)
        next_us = pair->due_us;
    if (p->state == MACHINE_CHECKING && p->guess_us < next_us)
        next_us = p->guess_us;
    return next_us < p->end_us ? next_us : p->end_us;
}

/* What is let in without a guess is believed the first time only. */
static enum guess_plan plan_of(const struct punch_config *c)
{
    struct nat own = c->own, peer = c->peer;
    if (c->again)
        own.filtering = peer.filtering = NAT_FILTERING_UNKNOWN;
    enum guess_plan plan = guess_plan(&own, &peer);
    if (plan == GUESS_NOTHING || plan == GUESS_HOPELESS)
        return plan;
    return c->may_guess && candidate_is_usable(&c->peer_seen) ? plan : GUESS_NOTHING;
}

struct punch *punch_new(const struct punch_config *config)
{
    struct punch *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->c = *config;
    p->plan = plan_of(config);
    p->guess_us = p->end_us = UINT64_MAX;
    p->next_socket = 1;
    p->sequence = (uint32_t)(config->seed >> 16);
    return p;
}

void punch_free(struct punch *p)
{
    free(p);
}

enum guess_plan punch_plan(const struct punch *p)
{
    return p->plan;
}

const struct punch_path *punch_best(const struct punch *p)
{
    return p->has_best ? &p->best : NULL;
}

unsigned punch_guesses_sent(const struct punch *p)
{
    return p->guessing ? p->guess.sent : 0;
}

size_t punch_tried(const struct punch *p, struct punch_tried *ret_tried, size_t size)
{
    size_t count = 0;
    for (size_t i = 0; i < p->pairs.count && count < size; i++) {
        const struct pair *pair = &p->pairs.at[i];
        if (pair->kind == CANDIDATE_GUESSED && pair->state != PAIR_PROVEN)
            continue;
        struct candidate c = {pair->kind, CANDIDATE_UDP, pair->to,
                              (uint32_t)(pair->priority >> 32)};
        ret_tried[count++] =
            (struct punch_tried){c, pair->sent, pair->heard, pair->state == PAIR_PROVEN};
    }
    return count;
}
