/* The machine of punch.h. Events come in by punch_input() and the calls beside it; what they lead
 * to is queued, and what time leads to is found by punch_poll(), which hands out both. Pairs, their
 * log and the queue belong to the machine; nothing here knows sockets or the clock. */
#include "punch/pair.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define LOG_SIZE         2048 /* more than can be on their way: a power of two */
#define QUEUE_SIZE       64
#define PACE_US          500u
#define GUESS_DELAY_US   60000u  /* what needs no guess has its answer on the way by then */
#define MAPPED_DELAY_US  400000u /* a port that a router has mapped needs no guess */
#define GUESS_END_US     3200000u
#define LOCKSTEP_HOLD_US 300000u /* other pairs would take ports out of the sequence */
#define TRIGGER_US       10000u
#define SOCKET_PROBES    2
#define SOCKET_PAUSE_US  700000u
#define OPENER_PAUSE_US  10000u /* more than two peers that start together are apart */
#define TCP_RETRY_US     60000u
#define TCP_PROBES       4

enum state { STATE_WAITING, STATE_CHECKING, STATE_SETTLING, STATE_DONE, STATE_FAILED };

/* One ping that went out: to a pair, or (pair < 0) to a port that was guessed. */
struct sent {
    uint64_t at_us;
    uint32_t sequence;
    uint16_t socket, port;
    int16_t pair;
};

struct punch {
    struct punch_config c;
    struct pairs pairs;
    struct sent log[LOG_SIZE];
    struct punch_action queue[QUEUE_SIZE];
    size_t queue_first, queue_count;
    struct punch_path best;
    uint64_t best_priority;
    struct guess guess;
    enum guess_plan plan;
    enum state state;
    uint64_t end_us, guess_us, random;
    uint32_t sequence;
    unsigned next_socket;
    bool guessing, has_best;
};

/* When it is full an action is lost as a packet would be; those of which there is one always fit,
 * because pongs leave the last places free. */
static struct punch_action *queue_add(struct punch *p, enum punch_action_type type)
{
    size_t room = type == PUNCH_SEND ? QUEUE_SIZE - 8 : QUEUE_SIZE;
    if (p->queue_count >= room)
        return NULL;
    struct punch_action *a = &p->queue[(p->queue_first + p->queue_count++) % QUEUE_SIZE];
    *a = (struct punch_action){.type = type};
    return a;
}

static bool queue_take(struct punch *p, struct punch_action *ret_action)
{
    if (p->queue_count == 0)
        return false;
    *ret_action = p->queue[p->queue_first];
    p->queue_first = (p->queue_first + 1) % QUEUE_SIZE;
    p->queue_count--;
    return true;
}

static uint32_t random_below(struct punch *p, uint32_t limit)
{
    p->random ^= p->random << 13;
    p->random ^= p->random >> 7;
    p->random ^= p->random << 17;
    return (uint32_t)(p->random >> 32) % limit;
}

static void make_probe(const struct punch *p, enum probe_type type, uint32_t sequence,
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
    make_probe(p, PROBE_PING, sequence, ret_action->bytes);
    p->log[sequence % LOG_SIZE] =
        (struct sent){now_us, sequence, (uint16_t)socket, addr_port(to), (int16_t)pair};
}

/* Pairs */

static uint64_t pair_priority(const struct punch *p, enum candidate_kind kind,
                              const struct addr *to, uint32_t theirs)
{
    uint32_t ours = candidate_priority(CANDIDATE_HOST, to, 0);
    if (theirs == 0)
        theirs = candidate_priority(kind, to, 0);
    return p->c.caller ? candidate_pair_priority(ours, theirs)
                       : candidate_pair_priority(theirs, ours);
}

static struct pair *pair_new(struct punch *p, unsigned socket, enum candidate_kind kind,
                             const struct addr *to)
{
    struct pair *pair = pairs_add(&p->pairs, socket, kind, to);
    if (pair)
        pair->priority = pair_priority(p, kind, to, 0);
    return pair;
}

static bool has_family(const struct candidates *list, int family,
                       enum candidate_transport transport)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->at[i].addr.sa.sa_family == family && list->at[i].transport == transport)
            return true;
    return false;
}

/* RFC 8445 6.1.2.2 pairs equal families; our side of every pair is the one socket (6.1.2.4 prunes a
 * reflexive candidate to its base), so there is a pair for each of the peer's candidates. */
static void pair_with_remote(struct punch *p, const struct candidate *c)
{
    if (!has_family(&p->c.local, c->addr.sa.sa_family, c->transport))
        return;
    bool tcp = c->transport == CANDIDATE_TCP;
    if (!tcp && p->c.own.mapping == NAT_MAPPING_BLOCKED)
        return;
    struct pair *pair = pairs_add(&p->pairs, tcp ? p->next_socket++ : 0, c->kind, &c->addr);
    if (!pair)
        return;
    pair->priority = pair_priority(p, c->kind, &c->addr, c->priority);
    pair->transport = (uint8_t)c->transport;
    pair->state = tcp ? PAIR_CONNECTING : PAIR_TRYING;
    pair->limit = tcp ? TCP_PROBES : PUNCH_PROBES_MAX;
}

/* What is public goes first: those two sides have to send at the same moment, and a counting NAT
 * gives its next port to whatever comes first. */
static void pair_all(struct punch *p)
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
    struct addr at = seen_address(p);
    uint16_t last = addr_port(&at);
    for (unsigned i = 1; i <= GUESS_WINDOW; i++) {
        addr_set_port(&at, guess_predict(last, p->c.peer.delta, i));
        if (!pairs_find(&p->pairs, 0, &at))
            (void)pair_new(p, 0, CANDIDATE_GUESSED, &at);
    }
}

static void open_sockets(struct punch *p, uint64_t now_us)
{
    unsigned count = guess_socket_count(&p->c.own), first = p->next_socket;
    struct addr at = seen_address(p);
    struct punch_action *a = queue_add(p, PUNCH_OPEN);
    if (!a)
        return;
    a->socket = first;
    a->count = count;
    p->next_socket += count;
    for (unsigned i = 0; i < count; i++) {
        struct pair *pair = pair_new(p, first + i, CANDIDATE_GUESSED, &at);
        if (!pair)
            return;
        pair->limit = SOCKET_PROBES;
        pair->due_us = now_us + (uint64_t)i * PACE_US;
    }
}

/* Time */

/* A port that a router keeps open makes any NAT reachable. */
static bool has_mapped(const struct candidates *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->at[i].kind == CANDIDATE_MAPPED && list->at[i].transport == CANDIDATE_UDP)
            return true;
    return false;
}

static bool is_mapped(const struct punch *p)
{
    return has_mapped(&p->c.local) || has_mapped(&p->c.remote);
}

static uint64_t duration_us(const struct punch *p)
{
    if (p->plan == GUESS_HOPELESS && !is_mapped(p) && p->c.own.mapping != NAT_MAPPING_BLOCKED &&
        p->c.peer.mapping != NAT_MAPPING_BLOCKED)
        return PUNCH_HOPELESS_US;
    bool birthday = p->plan == GUESS_PROBE || p->plan == GUESS_SOCKETS;
    return birthday ? GUESS_END_US : PUNCH_PLAIN_US;
}

static enum state begin(struct punch *p)
{
    if (p->plan == GUESS_PREDICT || p->plan == GUESS_LOCKSTEP)
        pair_with_predictions(p);
    size_t predicted = p->pairs.count;
    pair_all(p);
    for (size_t i = 0; i < p->pairs.count; i++) {
        bool hold = p->plan == GUESS_LOCKSTEP && i >= predicted;
        p->pairs.at[i].due_us = p->c.start_us + i * PACE_US + (hold ? LOCKSTEP_HOLD_US : 0);
    }
    p->end_us = p->c.start_us + duration_us(p);
    if (p->plan == GUESS_PROBE || p->plan == GUESS_SOCKETS)
        p->guess_us = p->c.start_us + (is_mapped(p) ? MAPPED_DELAY_US : GUESS_DELAY_US);
    return STATE_CHECKING;
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
    return p->plan == GUESS_PROBE || p->plan == GUESS_SOCKETS ? PUNCH_GUESSED_OUT : PUNCH_NO_ANSWER;
}

static enum state step_checking(struct punch *p, uint64_t now_us)
{
    if (now_us >= p->guess_us) {
        p->guess_us = UINT64_MAX;
        p->guessing = p->plan == GUESS_PROBE;
        if (p->guessing)
            guess_init(&p->guess, &p->c.peer, p->c.seed, now_us);
        else
            open_sockets(p, now_us);
    }
    if (now_us < p->end_us)
        return STATE_CHECKING;
    struct punch_action *a = queue_add(p, PUNCH_FAILED);
    if (a)
        a->reason = failure(p);
    return STATE_FAILED;
}

static enum state step_settling(struct punch *p, uint64_t now_us)
{
    if (now_us < p->end_us)
        return STATE_SETTLING;
    struct punch_action *a = queue_add(p, PUNCH_DONE);
    if (a)
        a->path = p->best;
    return STATE_DONE;
}

static enum state step(struct punch *p, uint64_t now_us)
{
    switch (p->state) {
    case STATE_WAITING:
        return now_us >= p->c.start_us ? begin(p) : STATE_WAITING;
    case STATE_CHECKING:
        return step_checking(p, now_us);
    case STATE_SETTLING:
        return step_settling(p, now_us);
    case STATE_DONE:
    case STATE_FAILED:
        break;
    }
    return p->state;
}

/* After the first proof only what would be better goes on. */
static bool pair_is_wanted(const struct punch *p, const struct pair *pair)
{
    if (pair->state == PAIR_LOST || pair->state == PAIR_PROVEN || pair->sent >= pair->limit)
        return false;
    if (p->state == STATE_CHECKING)
        return true;
    return p->state == STATE_SETTLING && pair->priority > p->best_priority;
}

static struct pair *pair_next(struct punch *p)
{
    struct pair *found = NULL;
    for (size_t i = 0; i < p->pairs.count; i++) {
        struct pair *pair = &p->pairs.at[i];
        if (pair->due_us != UINT64_MAX && pair_is_wanted(p, pair) &&
            (!found || pair->due_us < found->due_us))
            found = pair;
    }
    return found;
}

/* An early packet that a Linux router accepts itself takes the port away from the one behind it. So
 * towards such a NAT the first goes only as far as is needed to open ours. */
static unsigned opener_ttl(const struct punch *p, const struct pair *pair)
{
    const struct nat *nat = &p->c.peer;
    bool keeps = nat->allocation == NAT_ALLOCATION_KEEP && nat->mapping != NAT_MAPPING_NONE;
    unsigned openers = p->c.again ? 3 : keeps ? 1 : 0;
    bool asked = pair->kind == CANDIDATE_REFLEXIVE && pair->to.sa.sa_family == AF_INET;
    return asked && pair->heard == 0 && pair->sent < openers ? PUNCH_OPENER_TTL : 0;
}

/* Whoever lists somebody else's address as its own makes us send little there. */
static bool address_is_spent(const struct punch *p, const struct pair *pair)
{
    bool heard;
    unsigned sent = pairs_sent_to_ip(&p->pairs, &pair->to, &heard);
    return sent >= PUNCH_PROBES_IP && !heard && !candidate_same_ip(&pair->to, &p->c.peer_seen);
}

/* false: this pair gets no more. */
static bool pair_poll(struct punch *p, struct pair *pair, uint64_t now_us,
                      struct punch_action *ret_action)
{
    if (pair->state == PAIR_CONNECTING) {
        *ret_action = (struct punch_action){.type = PUNCH_CONNECT, .socket = pair->socket};
        ret_action->to = pair->to;
        pair->due_us = UINT64_MAX;
        pair->tries++;
        return true;
    }
    if (address_is_spent(p, pair)) {
        pair->state = PAIR_LOST;
        return false;
    }
    make_ping(p, (int)(pair - p->pairs.at), &pair->to, now_us, ret_action);
    ret_action->ttl = opener_ttl(p, pair);
    pair->sent++;
    pair->sent_us = now_us;
    uint64_t pause_us = ret_action->ttl > 0 ? OPENER_PAUSE_US : pair_pause_us(pair);
    pair->due_us = now_us + (pair->limit == SOCKET_PROBES ? SOCKET_PAUSE_US : pause_us);
    return true;
}

static uint64_t guess_next_us(const struct punch *p)
{
    return p->guessing && p->state == STATE_CHECKING ? guess_due_us(&p->guess) : UINT64_MAX;
}

bool punch_poll(struct punch *p, uint64_t now_us, struct punch_action *ret_action)
{
    enum state next = step(p, now_us);
    while (next != p->state) {
        p->state = next;
        next = step(p, now_us);
    }
    if (queue_take(p, ret_action))
        return true;
    struct pair *pair;
    while ((pair = pair_next(p)) && pair->due_us <= now_us)
        if (pair_poll(p, pair, now_us, ret_action))
            return true;
    if (guess_next_us(p) > now_us)
        return false;
    struct addr to = p->c.peer_seen;
    addr_set_port(&to, guess_next(&p->guess, now_us));
    make_ping(p, -1, &to, now_us, ret_action);
    return true;
}

uint64_t punch_next(const struct punch *p)
{
    if (p->queue_count > 0)
        return 0;
    if (p->state == STATE_WAITING)
        return p->c.start_us;
    if (p->state == STATE_DONE || p->state == STATE_FAILED)
        return UINT64_MAX;
    uint64_t next_us = guess_next_us(p);
    const struct pair *pair = pair_next((struct punch *)p);
    if (pair && pair->due_us < next_us)
        next_us = pair->due_us;
    if (p->state == STATE_CHECKING && p->guess_us < next_us)
        next_us = p->guess_us;
    return next_us < p->end_us ? next_us : p->end_us;
}

/* Events */

static bool is_better(const struct punch *p, const struct pair *pair)
{
    if (!p->has_best)
        return true;
    if (pair->transport != p->best.transport)
        return pair->transport == CANDIDATE_UDP;
    if (pair->rtt_us < p->best.rtt_us - p->best.rtt_us / 5)
        return true;
    return pair->priority > p->best_priority && pair->rtt_us <= p->best.rtt_us + p->best.rtt_us / 5;
}

static void pair_proven(struct punch *p, struct pair *pair, uint64_t now_us, uint64_t rtt_us)
{
    if (pair->state == PAIR_PROVEN || p->state == STATE_FAILED || p->state == STATE_DONE)
        return;
    pair->state = PAIR_PROVEN;
    pair->rtt_us = rtt_us < UINT32_MAX ? (uint32_t)rtt_us : UINT32_MAX;
    if (!is_better(p, pair))
        return;
    if (!p->has_best) {
        p->state = STATE_SETTLING;
        p->end_us = now_us + PUNCH_SETTLE_US;
    }
    p->has_best = true;
    p->best_priority = pair->priority;
    p->best =
        (struct punch_path){pair->socket, pair->transport, pair->kind, pair->to, pair->rtt_us};
    struct punch_action *a = queue_add(p, PUNCH_PROVEN);
    if (a)
        a->path = p->best;
}

/* RFC 8445 7.3.1.3: an address that an authentic check came from is a peer-reflexive candidate. */
static struct pair *pair_learn(struct punch *p, unsigned socket, const struct addr *from)
{
    if (!candidate_is_usable(from) ||
        pairs_count_kind(&p->pairs, CANDIDATE_PEER_REFLEXIVE) >= PUNCH_PEERS_MAX)
        return NULL;
    return pair_new(p, socket, CANDIDATE_PEER_REFLEXIVE, from);
}

static void on_ping(struct punch *p, struct pair *pair, unsigned socket, const struct addr *from,
                    const struct probe *probe, uint64_t now_us)
{
    struct punch_action *a = queue_add(p, PUNCH_SEND);
    if (a) {
        a->socket = socket;
        a->to = *from;
        make_probe(p, PROBE_PONG, probe->sequence, a->bytes);
    }
    if (!pair)
        pair = pair_learn(p, socket, from);
    if (!pair)
        return;
    pair->heard += pair->heard < UINT16_MAX;
    /* RFC 8445 7.3.1.4: a triggered check. It may be one more than its share where all of ours went
     * before the peer's NAT was open. */
    if (pair->state != PAIR_TRYING)
        return;
    if (pair->sent >= pair->limit && pair->limit < PUNCH_PROBES_MAX)
        pair->limit++;
    uint64_t soon_us = pair->sent > 0 ? pair->sent_us + TRIGGER_US : now_us;
    if (soon_us < pair->due_us)
        pair->due_us = soon_us;
}

static void on_pong(struct punch *p, unsigned socket, const struct addr *from,
                    const struct probe *probe, uint64_t now_us)
{
    const struct sent *s = &p->log[probe->sequence % LOG_SIZE];
    if (s->sequence != probe->sequence || s->socket != socket || s->at_us == 0)
        return;
    struct pair *pair = s->pair >= 0 ? &p->pairs.at[s->pair] : pairs_find(&p->pairs, socket, from);
    bool guessed = s->pair < 0 && s->port == addr_port(from);
    if (guessed && !pair && candidate_same_ip(from, &p->c.peer_seen))
        pair = pair_new(p, socket, CANDIDATE_GUESSED, from);
    /* RFC 8445 7.2.5.2.1: an answer from elsewhere proves nothing. */
    if (!pair || (!guessed && s->pair < 0) || !addr_equal(&pair->to, from))
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

void punch_lost(struct punch *p, unsigned socket, uint64_t now_us)
{
    struct pair *pair = pairs_of_socket(&p->pairs, socket);
    if (!pair || socket == 0)
        return;
    /* Two peers that try again at the same pace would miss each other for ever. */
    if (pair->state == PAIR_CONNECTING && pair->tries < PUNCH_TCP_TRIES)
        pair->due_us = now_us + TCP_RETRY_US + random_below(p, TCP_RETRY_US);
    else
        pair->state = PAIR_LOST;
}

void punch_connected(struct punch *p, unsigned socket, uint64_t now_us)
{
    struct pair *pair = pairs_of_socket(&p->pairs, socket);
    if (!pair || pair->state != PAIR_CONNECTING)
        return;
    pair->state = PAIR_TRYING;
    pair->due_us = now_us;
}

int punch_accepted(struct punch *p, const struct addr *from, uint64_t now_us)
{
    struct pair *pair = pair_learn(p, p->next_socket, from);
    if (!pair)
        return -EMFILE;
    p->next_socket++;
    pair->transport = CANDIDATE_TCP;
    pair->limit = TCP_PROBES;
    pair->due_us = now_us;
    return pair->socket;
}

/* Life, and questions */

struct punch *punch_new(const struct punch_config *config)
{
    struct punch *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->c = *config;
    p->plan = guess_plan(&config->own, &config->peer);
    bool guess = p->plan != GUESS_NOTHING && p->plan != GUESS_HOPELESS;
    if (guess && (!config->may_guess || !candidate_is_usable(&config->peer_seen)))
        p->plan = GUESS_NOTHING;
    p->guess_us = p->end_us = UINT64_MAX;
    p->next_socket = 1;
    p->random = config->seed | 1;
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
        struct candidate c = {pair->kind, pair->transport, pair->to,
                              (uint32_t)(pair->priority >> 32)};
        ret_tried[count++] =
            (struct punch_tried){c, pair->sent, pair->heard, pair->state == PAIR_PROVEN};
    }
    return count;
}
