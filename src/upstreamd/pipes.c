/* A small stack of empty pipes. Whoever takes one owns it until he gives it back. */
#include "upstreamd/pipes.h"

#include <fcntl.h>

/* Four times what a pipe has when it is made: fewer turns for the same bytes. Where the user has
 * many pipes the kernel refuses, and the pipe stays as it is. */
#define PIPE_BYTES (256 * 1024)

void pipes_init(struct pipes *p, size_t max)
{
    *p = (struct pipes){.max = max};
}

static void pipe_close(int pipe[2])
{
    pipe[0] = fd_close(pipe[0]);
    pipe[1] = fd_close(pipe[1]);
}

void pipes_done(struct pipes *p)
{
    while (p->spare_count > 0)
        pipe_close(p->spare[--p->spare_count]);
}

static int pipe_open(int ret_pipe[2])
{
    if (pipe2(ret_pipe, O_CLOEXEC | O_NONBLOCK) < 0) {
        ret_pipe[0] = ret_pipe[1] = -EBADF;
        return -errno;
    }
    (void)fcntl(ret_pipe[0], F_SETPIPE_SZ, PIPE_BYTES);
    return 0;
}

int pipes_take(struct pipes *p, int ret_pipe[2])
{
    if (p->taken >= p->max)
        return -EMFILE;
    if (p->spare_count > 0) {
        int *spare = p->spare[--p->spare_count];
        ret_pipe[0] = spare[0];
        ret_pipe[1] = spare[1];
    } else {
        int r = pipe_open(ret_pipe);
        if (r < 0)
            return r;
    }
    p->taken++;
    return 0;
}

void pipes_give(struct pipes *p, int pipe[2], bool empty)
{
    p->taken--;
    if (!empty || p->spare_count == PIPES_SPARE) {
        pipe_close(pipe);
        return;
    }
    p->spare[p->spare_count][0] = fd_take(&pipe[0]);
    p->spare[p->spare_count][1] = fd_take(&pipe[1]);
    p->spare_count++;
}
