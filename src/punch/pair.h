#pragma once
/* The pairs of one attempt: a socket of ours and an address of the peer's, when the next probe goes
 * there and how many may. Owned by the machine. */

#include "punch/punch.h"

/* What is guessed is either sockets or ports that are predicted; of those there are fewer. */
#define PAIRS_MAX (CANDIDATES_MAX + PUNCH_PEERS_MAX + GUESS_SOCKETS_MAX)
/* From each socket of a guess, until something comes back: before the other side guesses, in the
 * middle, and when it has. */
#define PAIR_SOCKET_PROBES 3

enum pair_state { PAIR_TRYING, PAIR_PROVEN, PAIR_LOST };

struct pair {
    struct addr to;
    uint64_t priority;
    uint64_t due_us, sent_us;
    uint32_t rtt_us;
    uint16_t socket;
    uint16_t heard;
    uint8_t sent, limit;
    uint8_t before;      /* of `sent`: until the peer was heard */
    uint8_t kind, state; /* enum candidate_kind, pair_state */
};

struct pairs {
    struct pair at[PAIRS_MAX];
    size_t count;
};

/* NULL when the table is full. */
struct pair *pairs_add(struct pairs *ps, unsigned socket, enum candidate_kind kind,
                       const struct addr *to);
struct pair *pairs_find(struct pairs *ps, unsigned socket, const struct addr *to);
struct pair *pairs_of_socket(struct pairs *ps, unsigned socket);

/* After a probe: when the next may follow. The 1st goes at 0, then 20, 60, 140, 300 ms, ..., and so
 * again when the peer is heard for the first time. */
uint64_t pair_pause_us(const struct pair *p);

/* Probes that went to this address, whatever the port, and whether any of them was answered. What
 * only comes from there may have been sent by somebody else. */
unsigned pairs_sent_to_ip(const struct pairs *ps, const struct addr *a, bool *ret_answered);
size_t pairs_count_kind(const struct pairs *ps, enum candidate_kind kind);
