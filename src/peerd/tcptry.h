#pragma once
/* When a connection to each of a peer's TCP addresses is begun, and begun anew: sans-I/O. One that
 * was refused is tried again soon, by chance neither too early nor too late for the other side's
 * SYN; one that gets no answer is begun anew by both sides at the same time. */

#include "base/addr.h"

#define TCPTRY_MAX      24 /* what an offer has, and ports that are predicted */
#define TCPTRY_TRIES    10 /* to one address with its port */
#define TCPTRY_TRIES_IP 40 /* to one address, whatever the port */
#define TCPTRY_PAUSE_MS 60 /* and up to so much more, at random */
/* Without an answer, doubled each time up to the second. */
#define TCPTRY_RENEW_MS     250
#define TCPTRY_RENEW_MAX_MS 2000

enum tcptry_state { TCPTRY_WAITS, TCPTRY_OPENING, TCPTRY_STANDS, TCPTRY_OVER };

struct tcptry {
    struct addr to;
    enum tcptry_state state;
    uint64_t due_ms;
    unsigned tries, silent; /* silent: how many in a row got no answer */
};

struct tcptries {
    struct tcptry at[TCPTRY_MAX];
    size_t count;
    uint64_t random, renew_ms;
};

/* `rtt_ms`: at most so long is the way to the other side and back; 0: not known. */
void tcptries_init(struct tcptries *t, uint64_t rtt_ms, uint64_t seed);
/* False: it is there already, or there is no place. */
bool tcptries_add(struct tcptries *t, const struct addr *to, uint64_t at_ms);
/* What is due: the place in `at` of one that is OPENING now and whose connection is to be begun,
 * or of one that is OVER; what it had open is closed in both cases. -EAGAIN: nothing. */
int tcptries_next(struct tcptries *t, uint64_t now_ms) WARN_UNUSED;
/* The connection of this place stands, was refused, cannot ever be. */
void tcptries_stands(struct tcptries *t, size_t i);
void tcptries_refused(struct tcptries *t, size_t i, uint64_t now_ms);
void tcptries_end(struct tcptries *t, size_t i);
/* UINT64_MAX: never. */
uint64_t tcptries_due(const struct tcptries *t);
