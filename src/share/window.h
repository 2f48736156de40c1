#pragma once
/* How many connections may wait for one member of a pool that its program has not taken yet: at
 * least one, and else as many as it takes within a while, which is short when another member is
 * much quicker. What waits for a slow program cannot be given to a quick one that becomes idle.
 * Sent to by several threads; one of them ticks. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct window {
    _Atomic uint32_t more; /* than one that may wait */
    atomic_bool was_full;  /* since it was idle */
    _Atomic uint64_t sent;
    /* Of the thread that ticks. */
    uint64_t taken; /* when it looked last */
    uint64_t tick_ms;
    uint64_t pace; /* taken in a second */
};

void window_init(struct window *n);
/* `write_fd` is the writing end of the member's queue. */
bool window_is_full(struct window *n, int write_fd);
/* Its program has nothing to do. When it was full before we are too slow for so small a window. */
void window_idle(struct window *n);
/* One was put into the queue. */
void window_sent(struct window *n);
/* Looks how many were taken since the last look: returns the pace. */
uint64_t window_tick(struct window *n, int write_fd, uint64_t now_ms);
/* `best` is the pace of the quickest member. */
void window_adapt(struct window *n, uint64_t best);
