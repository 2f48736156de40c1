#pragma once
/* File descriptors with one owner. An empty variable holds -EBADF, never 0. */

#include <errno.h>
#include <unistd.h>

#define WARN_UNUSED __attribute__((warn_unused_result))

/* Closes fd if it is one and returns -EBADF: `fd = fd_close(fd)`. errno is kept. */
static inline int fd_close(int fd)
{
    if (fd >= 0) {
        int saved = errno;
        (void)close(fd);
        errno = saved;
    }
    return -EBADF;
}

/* Moves the descriptor out of *fd: the caller of fd_take() owns it now. */
static inline int fd_take(int *fd)
{
    int taken = *fd;
    *fd = -EBADF;
    return taken;
}

static inline void fd_cleanup(int *fd)
{
    *fd = fd_close(*fd);
}

#define CLEANUP_FD __attribute__((cleanup(fd_cleanup)))
