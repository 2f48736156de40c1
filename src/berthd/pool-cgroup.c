/* Limits of workers that the kernel keeps: a cgroup for each worker of a pool that asks for them,
 * where this machine has a cgroup v2 with the controllers. Where not, the worker runs without, and
 * `berth ls` and the log say what is missing. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "berthd/pool.h"
#include "launch/cgroup.h"

static void name_of(const struct worker *w, char *buf, size_t size)
{
    /* One daemon, one folder: names of users' berthds do not meet. */
    (void)snprintf(buf, size, "%u-%u", w->pool->app->id, w->number);
}

static struct cgroup *groups(struct server *s, struct pool *p)
{
    char reason[CGROUP_REASON_MAX];
    if (s->cgroup || s->cgroup_missing)
        return s->cgroup;
    struct cgroup *c = calloc(1, sizeof *c);
    pid_t own[] = {s->dispatch_pid};
    struct cgroup_place here = {0};
    if (c && cgroup_open(&here, own, s->dispatch_pid > 0, c, reason) == 0) {
        s->cgroup = c;
        return c;
    }
    free(c);
    s->cgroup_missing = true;
    (void)snprintf(p->notice, sizeof p->notice, "%.255s", reason);
    log_warn("no cgroups for workers reason=%s", reason);
    return NULL;
}

int pool_cgroup_make(struct worker *w)
{
    struct pool *p = w->pool;
    char name[64], reason[CGROUP_REASON_MAX];
    struct cgroup_limits limits = {.memory_max = p->conf->memory_max,
                                   .cpu_percent = p->conf->cpu_max,
                                   .tasks_max = p->conf->tasks_max};
    if (!limits.memory_max && !limits.cpu_percent && !limits.tasks_max)
        return -EBADF;
    struct cgroup *c = groups(p->server, p);
    if (!c)
        return -EBADF;
    int fd = -EBADF;
    name_of(w, name, sizeof name);
    if (cgroup_check(c, &limits, reason) == 0 && cgroup_make(c, name, &limits, &fd, reason) == 0)
        return fd;
    if (strncmp(p->notice, reason, sizeof p->notice - 1) != 0)
        log_warn("limits not set app=%s reason=%s", p->conf->name, reason);
    (void)snprintf(p->notice, sizeof p->notice, "%.255s", reason);
    return -EBADF;
}

void pool_cgroup_remove(struct worker *w)
{
    char name[64];
    if (w->cgroup_fd < 0 || !w->pool->server->cgroup)
        return;
    if (cgroup_kill(w->cgroup_fd) < 0)
        log_debug("group not killed app=%s", w->pool->conf->name);
    w->cgroup_fd = fd_close(w->cgroup_fd);
    name_of(w, name, sizeof name);
    if (cgroup_remove(w->pool->server->cgroup, name) < 0)
        log_debug("group stays name=%s", name);
}
