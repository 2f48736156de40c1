#pragma once
/* A FIFO for what a worker writes to its standard output and error. It stands in a folder, so that
 * the next berthd finds it: whatever is killed, the worker can write and nothing is lost. */

#include <sys/types.h>

#include "base/fd.h"

struct output {
    int read_fd;  /* non-blocking */
    int write_fd; /* for the worker. It can also read, so that writing never fails with EPIPE */
};

/* Makes the FIFO, or opens the one that is there. Its owner will be the user of the worker, who may
 * then open /dev/stdout anew. -EPERM when what is there is no FIFO, has another owner, or can be
 * opened by others. Both descriptors are the caller's. */
int output_open(const char *folder, const char *name, uid_t owner,
                struct output *ret_output) WARN_UNUSED;
void output_close(struct output *o);
int output_remove(const char *folder, const char *name) WARN_UNUSED;
