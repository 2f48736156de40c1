#pragma once
/* The check machine from within: what check.c, check-send.c, check-pairs.c and check-input.c share.
 * Nobody else includes this. */

#include "punch/pair.h"

#define MACHINE_LOG     2048 /* more pings than can be on their way: a power of two */
#define MACHINE_QUEUE   64
#define MACHINE_PACE_US 250u /* between the first probes of two pairs */

enum machine_state {
    MACHINE_WAITING,
    MACHINE_CHECKING,
    MACHINE_SETTLING,
    MACHINE_DONE,
    MACHINE_FAILED
};

/* One ping that went out: to a pair, or (pair < 0) to a port that was guessed. */
struct machine_sent {
    uint64_t at_us;
    uint32_t sequence;
    uint16_t socket, port;
    int16_t pair;
};

struct punch {
    struct punch_config c;
    struct pairs pairs;
    struct machine_sent log[MACHINE_LOG];
    struct punch_action queue[MACHINE_QUEUE];
    size_t queue_first, queue_count;
    struct punch_path best;
    uint64_t best_priority;
    struct guess guess;
    enum guess_plan plan;
    enum machine_state state;
    uint64_t end_us, guess_us;
    uint32_t sequence;
    unsigned next_socket;
    bool guessing, has_best;
};

/* check-send.c: what goes out. */

/* NULL when it is full. */
struct punch_action *machine_queue(struct punch *p, enum punch_action_type type);
bool machine_dequeue(struct punch *p, struct punch_action *ret_action);
void machine_make(const struct punch *p, enum probe_type type, uint32_t sequence,
                  uint8_t bytes[PROBE_SIZE]);
/* The pair that is due first, or NULL. */
struct pair *machine_due(struct punch *p);
/* Its probe. false: this pair gets no more. */
bool machine_probe(struct punch *p, struct pair *pair, uint64_t now_us,
                   struct punch_action *ret_action);
/* A probe to the next port that is guessed. */
void machine_guess(struct punch *p, uint64_t now_us, struct punch_action *ret_action);

/* check.c: a UDP port that a router was asked to map. */
bool machine_has_mapped(const struct candidates *list);

/* It opens more carefully than others, and looks farther ahead. */
bool machine_is_careful(const struct punch *p);

/* check-pairs.c: where it goes. */

void machine_pair_all(struct punch *p);
/* NULL when there is no place for it. */
struct pair *machine_pair(struct punch *p, unsigned socket, enum candidate_kind kind,
                          const struct addr *to);
/* The many sockets of a guess. */
void machine_open(struct punch *p, uint64_t now_us);
/* Somebody authentic is there whom nobody has told of; NULL: one too many. */
struct pair *machine_learn(struct punch *p, unsigned socket, const struct addr *from);
