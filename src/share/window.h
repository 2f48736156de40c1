#pragma once
/* How many connections may wait for one member of a pool that its program has not taken yet: as
 * many as it takes within a few milliseconds, and at least one. More than that would wait for a
 * slow program while another one becomes idle. Sent to by several threads; one of them ticks. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct window {
    _Atomic uint32_t more; /* than one that may wait */
    _Atomic uint64_t sent;
    /* Of the thread that ticks. */
    uint64_t taken; /* when it looked last */
    uint64_t tick_ms;
};

/* `write_fd` is the writing end of the member's queue. */
bool window_is_full(const struct window *n, int write_fd);
/* One was put into the queue. */
void window_sent(struct window *n);
/* It was idle while others waited for it: we are not quick enough for so small a window. */
void window_starved(struct window *n);
/* Looks how many were taken since the last look. */
void window_tick(struct window *n, int write_fd, uint64_t now_ms);
