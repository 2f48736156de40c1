#pragma once
/* Pipes for splice(2): taken while bytes are in flight, given back empty, and the first few kept
 * for the next. */

#include <stdbool.h>
#include <stddef.h>

#include "base/fd.h"

#define PIPES_SPARE 32

struct pipes {
    int spare[PIPES_SPARE][2]; /* owned */
    size_t spare_count;
    size_t taken; /* that somebody has now */
    size_t max;   /* of them */
};

void pipes_init(struct pipes *p, size_t max);
void pipes_done(struct pipes *p);
/* -EMFILE when as many are taken as may be. */
int pipes_take(struct pipes *p, int ret_pipe[2]) WARN_UNUSED;
/* One with bytes in it is closed. Leaves -EBADF. */
void pipes_give(struct pipes *p, int pipe[2], bool empty);
