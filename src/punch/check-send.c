/* What the machine sends: probes with their tags, in the log under their sequence, each with the
 * lifetime (TTL) that the NATs on its way ask for. Says which pair is due; when, is the pair's. */
#include "punch/machine.h"

#include <assert.h>

/* How many openers, and how far they go: 3 passes a home NAT and a carrier's, and dies before the
 * other side's. A pause is longer than two peers that start together are apart; who tries again
 * allows for a third of a second, in the pauses of other probes. */
#define OPENERS              2
#define OPENERS_CAREFUL      3
#define OPENERS_AGAIN        4
#define OPENER_TTL_FIRST     2
#define OPENER_TTL_LAST      3
#define OPENER_PAUSE_US      5000u
#define OPENER_PAUSE_LONG_US 10000u

/* When it is full an action is lost as a packet would be; those of which there is one always fit,
 * because pongs leave the last places free. */
struct punch_action *machine_queue(struct punch *p, enum punch_action_type type)
{
    size_t room = type == PUNCH_SEND ? MACHINE_QUEUE - 8 : MACHINE_QUEUE;
    if (p->queue_count >= room)
        return NULL;
    struct punch_action *a = &p->queue[(p->queue_first + p->queue_count++) % MACHINE_QUEUE];
    *a = (struct punch_action){.type = type};
    return a;
}

bool machine_dequeue(struct punch *p, struct punch_action *ret_action)
{
    if (p->queue_count == 0)
        return false;
    *ret_action = p->queue[p->queue_first];
    p->queue_first = (p->queue_first + 1) % MACHINE_QUEUE;
    p->queue_count--;
    return true;
}

void machine_make(const struct punch *p, enum probe_type type, uint32_t sequence,
                  uint8_t bytes[PROBE_SIZE])
{
    struct probe probe = {type, p->c.caller, p->c.attempt, sequence, {0}};
    int n = probe_encode(&probe, bytes, PROBE_SIZE);
    assert(n == PROBE_SIZE);
    p->c.mac(p->c.peer_key, bytes, PROBE_SIGNED, bytes + PROBE_SIGNED);
}

/* A ping, in the log under its sequence. pair < 0: a guess. */
static void make_ping(struct punch *p, int pair, const struct addr *to, uint64_t now_us,
                      struct punch_action *ret_action)
{
    uint32_t sequence = p->sequence++;
    unsigned socket = pair < 0 ? 0 : p->pairs.at[pair].socket;
    *ret_action = (struct punch_action){.type = PUNCH_SEND, .socket = socket, .to = *to};
    machine_make(p, PROBE_PING, sequence, ret_action->bytes);
    p->log[sequence % MACHINE_LOG] =
        (struct machine_sent){now_us, sequence, (uint16_t)socket, addr_port(to), (int16_t)pair};
}

/* After the first proof only what would be better goes on. */
static bool is_wanted(const struct punch *p, const struct pair *pair)
{
    if (pair->state == PAIR_LOST || pair->state == PAIR_PROVEN || pair->sent >= pair->limit)
        return false;
    if (p->state == MACHINE_CHECKING)
        return true;
    return p->state == MACHINE_SETTLING && pair->priority > p->best_priority;
}

struct pair *machine_due(struct punch *p)
{
    struct pair *found = NULL;
    for (size_t i = 0; i < p->pairs.count; i++) {
        struct pair *pair = &p->pairs.at[i];
        if (pair->due_us != UINT64_MAX && is_wanted(p, pair) &&
            (!found || pair->due_us < found->due_us))
            found = pair;
    }
    return found;
}

static bool peer_keeps_ports(const struct punch *p)
{
    const struct nat *nat = &p->c.peer;
    return nat->allocation == NAT_ALLOCATION_KEEP && nat->mapping != NAT_MAPPING_NONE;
}

bool machine_is_careful(const struct punch *p)
{
    return p->c.again || p->c.hint == TECHNIQUE_CAREFUL;
}

/* The many sockets open their ports only; the peer's probes are to find them. When it has made them
 * all, ours go the whole way: that helps where theirs were lost, or ours went too short. */
static unsigned socket_ttl(const struct pair *pair, bool again)
{
    if (pair->sent + 1u >= PAIR_SOCKET_PROBES)
        return 0;
    return again ? OPENER_TTL_FIRST : OPENER_TTL_LAST;
}

static unsigned opener_count(const struct punch *p)
{
    if (p->c.again)
        return OPENERS_AGAIN;
    if (p->c.hint == TECHNIQUE_CAREFUL)
        return OPENERS_CAREFUL;
    return peer_keeps_ports(p) ? OPENERS : 0;
}

/* An early packet that a Linux router accepts itself takes the port away from the one behind it. So
 * towards such a NAT the first go only as far as is needed to open ours, the second a router
 * farther than the first: should the peer live next door, it has opened by then. */
static unsigned opener_ttl(const struct punch *p, const struct pair *pair)
{
    if (pair->heard > 0 || pair->to.sa.sa_family != AF_INET)
        return 0;
    if (pair->socket > 0)
        return peer_keeps_ports(p) ? socket_ttl(pair, p->c.again) : 0;
    if (pair->kind != CANDIDATE_REFLEXIVE || pair->sent >= opener_count(p))
        return 0;
    return pair->sent == 0 ? OPENER_TTL_FIRST : OPENER_TTL_LAST;
}

/* Whoever lists somebody else's address as its own makes us send little there. */
static bool address_is_spent(const struct punch *p, const struct pair *pair)
{
    bool answered;
    unsigned sent = pairs_sent_to_ip(&p->pairs, &pair->to, &answered);
    return sent >= PUNCH_PROBES_IP && !answered && !candidate_same_ip(&pair->to, &p->c.peer_seen);
}

static uint64_t pause_us(const struct punch *p, const struct pair *pair, unsigned ttl)
{
    if (ttl == 0 || pair->socket > 0 || p->c.again)
        return pair_pause_us(pair);
    return p->c.hint == TECHNIQUE_CAREFUL ? OPENER_PAUSE_LONG_US : OPENER_PAUSE_US;
}

bool machine_probe(struct punch *p, struct pair *pair, uint64_t now_us,
                   struct punch_action *ret_action)
{
    if (address_is_spent(p, pair)) {
        pair->state = PAIR_LOST;
        return false;
    }
    unsigned ttl = opener_ttl(p, pair);
    make_ping(p, (int)(pair - p->pairs.at), &pair->to, now_us, ret_action);
    ret_action->ttl = ttl;
    pair->sent++;
    pair->sent_us = now_us;
    pair->due_us = now_us + pause_us(p, pair, ttl);
    return true;
}

void machine_guess(struct punch *p, uint64_t now_us, struct punch_action *ret_action)
{
    struct addr to = p->c.peer_seen;
    addr_set_port(&to, guess_next(&p->guess, now_us));
    make_ping(p, -1, &to, now_us, ret_action);
}
