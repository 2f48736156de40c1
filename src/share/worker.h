#pragma once
/* One thread of dispatch: its epoll set, its share of every listener, the connections in its hands.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/list.h"
#include "share/board.h"
#include "share/snapshot.h"
#include "share/sources.h"

#define SILENCE_MS_DEFAULT     3000
#define HEADER_WAIT_MS_DEFAULT 10000

struct worker;

/* What the threads have in common; it outlives them. */
struct shared {
    struct board *board;
    struct sources *undecided; /* by client address: connections whose name is not known yet */
    struct worker *steward;    /* the thread that looks after the pools */
    atomic_bool ticking;       /* it looks what was closed, every now and then */
    atomic_bool busy;          /* something was passed on since it looked */
};

/* `index` picks the thread's socket of each listener; the first thread is the steward. NULL on
 * failure. */
struct worker *worker_new(size_t index, const struct worker_limits *limits, struct shared *shared);
/* A sock_diag socket of its own. Of several the first is kept. */
void worker_diag_consume(struct worker *w, int fd);
/* A connection that a program has had since before this dispatch began; takes the entry over. */
void open_rebuild(struct worker *w, struct queue *q, struct ledger_entry *e);
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
/* Streams of peers come on it (wire/streammsg.h). Takes it over. */
void worker_streams_consume(struct worker *w, int fd);
/* Accepts nothing more and leaves the pools to another dispatch. */
void worker_retire(struct worker *w);
/* Nothing is in its hands. */
bool worker_is_idle(struct worker *w);
/* Has the worker refuse everything that is still in the queue of a program that is gone for good;
 * takes one reference of its own. */
void worker_drain(struct worker *w, struct queue *q);
