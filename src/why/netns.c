/* Lists sockets of another network namespace. A child enters it and sends each socket through a
 * pipe, so that the caller's own namespace never changes, whatever fails. Needs root. */
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/wait.h>

#include "why/parts.h"

/* One record must be one write, whole or not at all. */
_Static_assert(sizeof(struct why_sock) <= PIPE_BUF, "a record does not fit in an atomic write");

static void on_socket(void *ctx, const struct why_sock *s)
{
    int *out = ctx;
    if (*out >= 0 && write(*out, s, sizeof *s) < 0)
        *out = -EBADF;
}

static void child_run(int ns, uint16_t port, uint32_t states, int out)
{
    int rc = setns(ns, CLONE_NEWNET) < 0 ? -errno : sockdiag_dump(port, states, on_socket, &out);
    _exit(rc < 0 ? 1 : 0);
}

static int relay(int ns, uint16_t port, uint32_t states, struct netns_reader to)
{
    int ends[2], status = 0;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    CLEANUP_FD int in = ends[0];
    CLEANUP_FD int out = ends[1];
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0)
        child_run(ns, port, states, out);
    out = fd_close(out);
    struct why_sock s;
    while (read(in, &s, sizeof s) == (ssize_t)sizeof s)
        to.fn(to.ctx, &s);
    in = fd_close(in);
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : -EPERM;
}

int netns_dump(pid_t pid, uint16_t port, uint32_t states, struct netns_reader to)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    CLEANUP_FD int ns = open(path, O_RDONLY | O_CLOEXEC);
    return ns < 0 ? -errno : relay(ns, port, states, to);
}
