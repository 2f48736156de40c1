/* What workers say of themselves by sd_notify(3): ready, alive, more time, a status, another main
 * process. One socket for all; who has sent a datagram the kernel says. */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "berthd/pool.h"
#include "ipc/runtime.h"
#include "launch/notify.h"
#include "launch/proctree.h"

#define DATAGRAMS_A_TURN 64
/* A worker's program may speak from a process some levels below its first one. */
#define LEVELS_MAX 8

static pid_t parent_of(pid_t pid)
{
    struct proctree_process p;
    return proctree_look(pid, &p) == 0 ? p.parent : 0;
}

static struct worker *sender_of(const struct server *s, pid_t pid)
{
    for (int level = 0; pid > 1 && level < LEVELS_MAX; level++, pid = parent_of(pid)) {
        struct worker *w = worker_find_pid(s, pid);
        if (w)
            return w;
    }
    return NULL;
}

static void main_pid_take(struct worker *w, pid_t pid)
{
    struct server *s = w->pool->server;
    /* First the descriptor: what is looked at then cannot become another process. */
    CLEANUP_FD int pidfd = pidfd_of(pid);
    if (pid == w->pid || pidfd < 0 || sender_of(s, pid) != w)
        return;
    if (worker_watch(w, pid, fd_take(&pidfd)) == 0) {
        w->child = false;
        pool_store_save(s);
    }
}

static void apply(struct worker *w, const struct notify *n)
{
    if (n->has_status)
        (void)snprintf(w->status, sizeof w->status, "%.120s", n->status);
    if (n->watchdog)
        w->watchdog_ms = clock_now_ms();
    if (n->watchdog_us)
        w->watchdog_limit_ms = n->watchdog_us / 1000;
    if (n->main_pid > 0)
        main_pid_take(w, n->main_pid);
    if (n->extend_us > 0 && w->timer.at_ms > 0 && !w->pool->server->ending)
        loop_timer(&w->pool->server->loop, &w->timer, n->extend_us / 1000);
    if (n->ready) {
        w->said_ready = true;
        pool_store_save(w->pool->server);
        health_starting(w);
    }
    if (n->watchdog_trigger && w->state == WORKER_READY)
        health_unwell(w, "it says itself that it is not well");
}

static void notify_ready(struct watch *watch, uint32_t events)
{
    (void)events;
    struct server *s = container_of(watch, struct server, notify_watch);
    struct notify n;
    for (int i = 0; i < DATAGRAMS_A_TURN; i++) {
        int r = notify_read(s->notify_fd, &n);
        if (r == -EAGAIN)
            break;
        struct worker *w = r == 0 ? sender_of(s, n.pid) : NULL;
        if (w)
            apply(w, &n);
    }
    (void)dispatch_commit(s);
}

int pool_notify_start(struct server *s)
{
    char path[RUNTIME_PATH_MAX];
    int r = runtime_path(RUNTIME_NOTIFY, path);
    if (r < 0)
        return r;
    s->notify_fd = notify_open(path);
    if (s->notify_fd < 0)
        return s->notify_fd;
    s->notify_watch.ready = notify_ready;
    return loop_watch(&s->loop, &s->notify_watch, s->notify_fd, EPOLLIN);
}
