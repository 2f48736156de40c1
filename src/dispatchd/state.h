#pragma once
/* What berthd has told so far, and the threads that serve by it. Owned by the control thread. */

#include "dispatchd/keeper.h"
#include "share/board.h"
#include "share/worker.h"
#include "wire/dispatchmsg.h"

struct state;

struct state_config {
    size_t threads;
    struct worker_limits limits;
    int left[2];               /* what a dispatch before us left: both ends, for berthd; -1: none */
    struct keeper_slot *slots; /* one for each thread; NULL: no keeper */
    pid_t keeper;
};

/* NULL when threads or memory cannot be had. The threads run until the process ends. */
struct state *state_new(const struct state_config *config);

/* Its counters, which berthd gets by RECOVER. */
struct board *state_board(struct state *s);

/* Carries out one message. The descriptors are consumed. The answer, if there is one, goes to
 * `channel`. Negative only when the channel is to be given up: -EBADMSG for nonsense, -EPIPE. */
int state_handle_consume(struct state *s, int channel, const struct dispatchmsg *m, int *fds,
                         size_t fd_count) WARN_UNUSED;

/* RETIRE came: nothing is accepted any more, and no other berthd is let in. */
bool state_is_retiring(const struct state *s);
/* True when nothing is in hand any more, or it takes too long: berthd has been told, and the
 * process may end. */
bool state_retire(struct state *s, int channel);
