#pragma once
/* What is done about a port that the other peer's NAT will choose only when it sends. Pure: plans
 * and ports, no packets. */

#include "punch/classify.h"

/* P = 1 - (1 - k/R)^n: with 256 sockets 86 % after 500 probes and 98 % after 1,000 in the whole
 * range of ports. They go as fast as they may: two bursts of a quarter of a second, a second apart.
 * In a block an eighth of its ports are open: 99 % after 35 probes. They go in small bursts, so
 * that few are on their way when the answer comes. */
#define GUESS_SOCKETS_MAX   256
#define GUESS_SOCKETS_LEAST 16
#define GUESS_PROBES_MAX    1000
#define GUESS_PROBES_SECOND 500
#define GUESS_BLOCK_BURST   80

/* Ports of a sequence that are tried, and how often each. Others take ports, too, between the time
 * when the peer's last one was seen and its first probe. */
#define GUESS_WINDOW              32
#define GUESS_WINDOW_WIDE         96
#define GUESS_SWEEP               64
#define GUESS_SWEEP_WIDE          128
#define GUESS_PREDICT_PROBES      4
#define GUESS_PREDICT_WIDE_PROBES 3

enum guess_plan {
    GUESS_NOTHING,  /* the addresses that are known will do */
    GUESS_PREDICT,  /* the other counts upwards: try the next few */
    GUESS_LOCKSTEP, /* both count: try the next few in the same order as the other does */
    GUESS_PROBE,    /* the other has random ports and opens many: try random ones */
    GUESS_SOCKETS,  /* we have random ports: open many, the other tries them */
    GUESS_HOPELESS, /* both have: not in this life */
    GUESS_PLAN_END
};

/* A filtering may spare the guess: a NAT that lets every port of a known host in needs none. */
enum guess_plan guess_plan(const struct nat *own, const struct nat *peer);
/* The same over TCP, where UDP does not pass on one side: nothing, or to guess among many. */
enum guess_plan guess_tcp_plan(const struct nat *own, const struct nat *peer);
const char *guess_plan_word(enum guess_plan plan);

/* How many sockets the side with random ports opens: in a block an eighth of what earlier guesses
 * have left. */
unsigned guess_socket_count(const struct nat *own, unsigned spent);

/* Distinct ports in an order that `seed` chooses. */
struct guess {
    uint32_t first, count, step, offset; /* the range, and a walk through all of it */
    uint32_t sent, limit, burst;
    uint64_t start_us, period_us;          /* between two bursts */
    uint64_t sent_us[GUESS_PROBES_SECOND]; /* of the last ones */
};

void guess_init(struct guess *g, const struct nat *peer, uint64_t seed, uint64_t start_us);
/* When the next probe may go: never more than GUESS_PROBES_SECOND in any second; UINT64_MAX when
 * all have gone. */
uint64_t guess_due_us(const struct guess *g);
uint16_t guess_next(struct guess *g, uint64_t now_us);

/* Only the first half. */
void guess_halve(struct guess *g);

/* How many ports of a sequence are tried. */
unsigned guess_window(enum guess_plan plan, bool wide);
/* Where both count: the other side tries the next ports in order, and we (the caller) those that it
 * has when others have taken none, for a while, then one, two, ... of either NAT's ports. Which
 * port ahead is the i-th (from 0) to be tried. */
unsigned guess_sweep(unsigned i);
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

/* Ports of the own NAT that guesses took and that it may not have forgotten yet. */
#define GUESS_SPENT_MAX 16
#define GUESS_SPENT_US                                                                             \
    300000000u /* RFC 4787 REQ-5: a mapping lives 2 minutes at least; 5 and more */
struct guess_spent {
    uint64_t at_us[GUESS_SPENT_MAX];
    unsigned count[GUESS_SPENT_MAX];
    size_t next;
};
void guess_spend(struct guess_spent *s, unsigned count, uint64_t now_us);
unsigned guess_spent(const struct guess_spent *s, uint64_t now_us);
