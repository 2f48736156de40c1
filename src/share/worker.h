#pragma once
/* One thread of dispatch: its epoll set, its share of every listener, the connections in its hands.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/list.h"
#include "share/board.h"
#include "share/snapshot.h"

/* Times in milliseconds. */
struct worker_limits {
    uint32_t silence_ms;     /* no byte at all: the fallback's turn */
    uint32_t header_wait_ms; /* from the first byte until the name is known */
    uint32_t connections;    /* held by all threads; beyond it a thread's oldest goes */
};

#define SILENCE_MS_DEFAULT     3000
#define HEADER_WAIT_MS_DEFAULT 10000

struct worker;

/* `index` picks the thread's socket of each listener. The board must outlive the worker. NULL on
 * failure. */
struct worker *worker_new(size_t index, const struct worker_limits *limits, struct board *board);
/* Starts the thread. It ends with the process. */
int worker_start(struct worker *w) WARN_UNUSED;

/* Both before it is started. `left` is the reading end of a queue of connections that another
 * dispatch had accepted when it was killed: they are taken up with the first snapshot. `sending` is
 * told the socket that is about to be sent, so that of this dispatch none is left that somebody
 * has. */
void worker_take_left(struct worker *w, int left);
void worker_tell_sending(struct worker *w, _Atomic int *sending);

/* Called by the control thread. Gives the worker its next snapshot (one reference of its own), and
 * returns when it serves by it. */
void worker_publish(struct worker *w, struct snapshot *s);
/* Has the worker refuse everything that is still in the queue of a program that is gone for good;
 * takes one reference of its own. */
void worker_drain(struct worker *w, struct queue *q);
