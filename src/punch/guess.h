#pragma once
/* What is done about a port that the other peer's NAT will choose only when it sends. Pure: plans
 * and ports, no packets. */

#include "punch/classify.h"

/* P = 1 - (1 - k/R)^n: with 256 sockets and 1,024 probes 98 % in the whole range of ports. */
#define GUESS_SOCKETS_MAX   256
#define GUESS_SOCKETS_MIN   64 /* in a block: more would leave a subscriber too few ports */
#define GUESS_PROBES_MAX    1024
#define GUESS_PROBES_SECOND 500
#define GUESS_WINDOW        8 /* ports ahead in a sequence */

enum guess_plan {
    GUESS_NOTHING,  /* the addresses that are known will do */
    GUESS_PREDICT,  /* the other counts upwards: try the next few */
    GUESS_LOCKSTEP, /* both count: try the next few in the same order as the other does */
    GUESS_PROBE,    /* the other has random ports and opens many: try random ones */
    GUESS_SOCKETS,  /* we have random ports: open many, the other tries them */
    GUESS_HOPELESS, /* both have: not in this life */
    GUESS_PLAN_END
};

/* own.filtering may spare the guess: a NAT that lets every port of a known host in needs none. */
enum guess_plan guess_plan(const struct nat *own, const struct nat *peer);
const char *guess_plan_word(enum guess_plan plan);

/* How many sockets the side with random ports opens. */
unsigned guess_socket_count(const struct nat *own);

/* Distinct ports in an order that `seed` chooses. */
struct guess {
    uint32_t first, count, step, offset; /* the range, and a walk through all of it */
    uint32_t sent, limit;
    uint64_t start_us;
    uint64_t sent_us[GUESS_PROBES_SECOND]; /* of the last ones */
};

void guess_init(struct guess *g, const struct nat *peer, uint64_t seed, uint64_t start_us);
/* When the next probe may go: never more than GUESS_PROBES_SECOND in any second; UINT64_MAX when
 * all have gone. */
uint64_t guess_due_us(const struct guess *g);
uint16_t guess_next(struct guess *g, uint64_t now_us);

/* The i-th port (from 1) that a counting NAT will give after `last`. */
uint16_t guess_predict(uint16_t last, int delta, unsigned i);

/* One guess at a time for each address, over all attempts of a peer. */
#define GUESS_BOOK_MAX 16
struct guess_book {
    struct addr at[GUESS_BOOK_MAX];
    size_t count;
};
bool guess_book_enter(struct guess_book *b, const struct addr *a);
void guess_book_leave(struct guess_book *b, const struct addr *a);
