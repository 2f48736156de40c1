/* Looks for listeners of the port in the other network namespaces of this machine, so that "held by
 * a container, but that does not conflict" can be said. Entering a namespace needs root; without it
 * nothing is found. A child does the entering, so that the caller's own namespace never changes. */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "why/parts.h"

#define NAMESPACES_MAX 256

static void on_listener(void *ctx, const struct why_sock *s)
{
    int *pipe_out = ctx;
    /* One record is far below PIPE_BUF: the write is whole or not at all. */
    if (write(*pipe_out, &s->local, sizeof s->local) < 0)
        *pipe_out = -EBADF;
}

static void child_run(int ns, uint16_t port, int out)
{
    int fd = out;
    if (setns(ns, CLONE_NEWNET) == 0)
        (void)sockdiag_dump(port, SOCKDIAG_LISTENING, on_listener, &fd);
    _exit(0);
}

static void answers_read(struct why_report *r, int in, const struct why_elsewhere *who)
{
    struct addr local;
    while (read(in, &local, sizeof local) == (ssize_t)sizeof local) {
        if (r->elsewhere_count == WHY_ELSEWHERE_MAX)
            continue;
        r->elsewhere[r->elsewhere_count] = *who;
        r->elsewhere[r->elsewhere_count++].local = local;
    }
}

static void namespace_search(struct why_report *r, int ns, const struct why_elsewhere *who)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return;
    CLEANUP_FD int in = ends[0];
    CLEANUP_FD int out = ends[1];
    pid_t child = fork();
    if (child < 0)
        return;
    if (child == 0)
        child_run(ns, r->target.port, out);
    out = fd_close(out);
    answers_read(r, in, who);
    (void)waitpid(child, NULL, 0);
}

static bool is_known(const uint64_t *seen, size_t count, uint64_t netns)
{
    for (size_t i = 0; i < count; i++)
        if (seen[i] == netns)
            return true;
    return false;
}

static void name_read(struct why_elsewhere *who)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/comm", who->pid);
    ssize_t n = procs_read(path, who->name, sizeof who->name);
    who->name[n > 0 ? n : 0] = 0;
    who->name[strcspn(who->name, "\n")] = 0;
}

static void namespace_open(struct why_report *r, struct why_elsewhere who)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/ns/net", who.pid);
    CLEANUP_FD int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0)
        return;
    name_read(&who);
    namespace_search(r, ns, &who);
}

void elsewhere_collect(struct why_report *r)
{
    DIR *dir = geteuid() == 0 ? opendir("/proc") : NULL;
    if (!dir)
        return;
    uint64_t seen[NAMESPACES_MAX] = {procs_netns(0)};
    size_t count = 1;
    for (struct dirent *e = readdir(dir); e && count < NAMESPACES_MAX; e = readdir(dir)) {
        pid_t pid = ascii_is_digit(e->d_name[0]) ? (pid_t)strtol(e->d_name, NULL, 10) : 0;
        uint64_t netns = pid > 0 ? procs_netns(pid) : 0;
        if (netns == 0 || is_known(seen, count, netns))
            continue;
        seen[count++] = netns;
        namespace_open(r, (struct why_elsewhere){.netns = netns, .pid = pid});
    }
    (void)closedir(dir);
}
