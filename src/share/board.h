#pragma once
/* Counters in one shared mapping: dispatch adds, berthd reads. Numbers only, so that neither has to
 * trust the other; they outlive a crash of either. */

#include <stdatomic.h>
#include <stdint.h>

#define BOARD_CLAIMS_MAX  (1u << 18)
#define BOARD_QUEUES_MAX  (1u << 14)
#define BOARD_REASONS_MAX 64

/* By number of the queue; the numbers of a queue that went are its successor's: berthd remembers
 * where they stood. */
struct board_queue {
    _Atomic uint64_t delivered; /* to its program */
    _Atomic uint64_t refused;
    _Atomic uint64_t open;   /* a member's: delivered and not closed, as the kernel said last */
    _Atomic uint64_t parked; /* a base queue's: waiting for a worker */
};

struct board {
    _Atomic uint64_t accepted;
    _Atomic uint64_t refused;
    _Atomic uint64_t sniffing; /* connections held now, by all threads */
    _Atomic uint64_t waiting;  /* of them: for room in a full queue */
    _Atomic uint64_t delivered[BOARD_CLAIMS_MAX];
    _Atomic uint64_t reasons[BOARD_REASONS_MAX]; /* refusals, by enum reason */
    _Atomic uint64_t lines_lost;                 /* of the logs: no room for them */
    struct board_queue queues[BOARD_QUEUES_MAX];
};

static inline void board_add(_Atomic uint64_t *counter, int64_t n)
{
    (void)atomic_fetch_add_explicit(counter, (uint64_t)n, memory_order_relaxed);
}

static inline uint64_t board_get(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}
