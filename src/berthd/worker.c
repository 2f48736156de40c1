/* One worker of a pool: started, ready when its program says so or listens, drained when it is to
 * go, asked to end, killed when it does not. What the kernel says of its process comes in; states
 * and messages to dispatch go out. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/self.h"
#include "berthd/pool.h"
#include "berthd/upstream.h"
#include "ipc/runtime.h"
#include "launch/account.h"
#include "launch/environment.h"
#include "launch/output.h"
#include "launch/program.h"
#include "launch/spawn.h"

/* How often a draining worker's connections are counted. */
#define DRAIN_CHECK_MS 100
/* Until dispatch has certainly taken back what the worker had not taken. */
#define HELD_MS 50
/* A killed process is gone at once, but for one that hangs in the kernel. */
#define KILLED_MS 5000
/* Who ends well, but so soon and without having taken a connection, has failed. */
#define BRIEF_MS 1000

struct worker *worker_find(const struct server *s, const uint8_t instance[APPMSG_INSTANCE])
{
    list_for_each(p, &s->pools, struct pool, link)
        list_for_each(w, &p->workers, struct worker,
                      link) if (memcmp(w->instance, instance, APPMSG_INSTANCE) == 0) return w;
    return NULL;
}

struct worker *worker_find_pid(const struct server *s, pid_t pid)
{
    list_for_each(p, &s->pools, struct pool, link)
        list_for_each(w, &p->workers, struct worker, link) if (w->pid == pid) return w;
    return NULL;
}

static void worker_enter(struct worker *w, enum worker_state state, uint64_t limit_ms)
{
    w->state = state;
    loop_untimer(&w->timer);
    if (limit_ms)
        loop_timer(&w->pool->server->loop, &w->timer, limit_ms);
    log_info("worker app=%s number=%u pid=%d state=%s%s%s", w->pool->conf->name, w->number, w->pid,
             worker_state_text(state), w->why[0] ? " why=" : "", w->why);
    worker_tell(w);
}

/* In the definition 0 is no time at all; of a timer it is none. */
static uint64_t at_least(uint64_t ms)
{
    return ms > 0 ? ms : 1;
}

static void why(struct worker *w, const char *text)
{
    if (text != w->why)
        (void)snprintf(w->why, sizeof w->why, "%s", text);
}

void worker_kill(struct worker *w, const char *text)
{
    why(w, text);
    worker_signal(w, SIGKILL);
    worker_enter(w, WORKER_KILLED, KILLED_MS);
}

void worker_terminate(struct worker *w, const char *text)
{
    if (w->state >= WORKER_STOPPING)
        return;
    why(w, text);
    loop_untimer(&w->check);
    (void)pidfd_send_signal(w->pidfd, SIGTERM, NULL, 0);
    worker_enter(w, WORKER_STOPPING, at_least(w->pool->conf->stop_timeout_ms));
}

void worker_end(struct worker *w, const char *text, uint64_t limit_ms)
{
    worker_terminate(w, text);
    if (w->timer.at_ms > clock_now_ms() + limit_ms)
        loop_timer(&w->pool->server->loop, &w->timer, limit_ms);
}

/* Dispatch has stopped giving it connections: it may end when its last one is closed. */
static void check(struct timer *t)
{
    struct worker *w = container_of(t, struct worker, check);
    struct server *s = w->pool->server;
    if (w->state == WORKER_STARTING) {
        health_starting(w);
        return;
    }
    /* What was counted before dispatch had stopped giving it connections says nothing. */
    bool counted = dispatch_is_settled(s) && workers_count_due(w->pool);
    if (counted)
        workers_count(w->pool);
    else
        counted = dispatch_is_settled(s) && w->pool->count_ms > w->held_ms;
    if (counted && w->open == 0)
        worker_terminate(w, w->why);
    else
        loop_timer(&s->loop, t, DRAIN_CHECK_MS);
    pool_demand_update(w->pool);
    (void)dispatch_commit(s);
}

void worker_drain(struct worker *w, const char *text)
{
    if (w->state >= WORKER_DRAINING)
        return;
    why(w, text);
    bool was_starting = w->state == WORKER_STARTING;
    worker_enter(w, WORKER_DRAINING, at_least(w->pool->conf->drain_timeout_ms));
    w->held_ms = clock_now_ms() + HELD_MS;
    if (was_starting)
        worker_terminate(w, text);
    else
        loop_timer(&w->pool->server->loop, &w->check, 1);
}

static void state_timeout(struct timer *t)
{
    struct worker *w = container_of(t, struct worker, timer);
    struct server *s = w->pool->server;
    switch (w->state) {
    case WORKER_STARTING:
        w->failing = true;
        if (w->replaces)
            w->replaces->replaced = false;
        worker_terminate(w, "not ready in time");
        break;
    case WORKER_READY:
        break;
    case WORKER_DRAINING:
        worker_terminate(w, "still busy after drain_timeout");
        break;
    case WORKER_STOPPING:
        worker_kill(w, "did not end after TERM");
        break;
    case WORKER_KILLED:
        log_error("worker does not die app=%s pid=%d", w->pool->conf->name, w->pid);
        worker_signal(w, SIGKILL);
        loop_timer(&s->loop, t, KILLED_MS);
        break;
    }
    pool_changed(w->pool);
}

struct worker *worker_new(struct pool *p, uint32_t number)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    list_init(&w->binds);
    w->pool = p;
    w->number = number;
    w->pidfd = w->pid_watch.fd = w->cgroup_fd = -EBADF;
    w->timer.fire = state_timeout;
    w->check.fire = check;
    w->started_ms = clock_now_ms();
    list_append(&p->workers, &w->link);
    return w;
}

static void worker_ended(struct worker *w, const char *how, bool clean);

static void pid_ended(struct watch *watch, uint32_t events)
{
    (void)events;
    struct worker *w = container_of(watch, struct worker, pid_watch);
    struct server *s = w->pool->server;
    int status = 0;
    loop_unwatch(&s->loop, watch);
    if (waitpid(w->pid, &status, WNOHANG) == w->pid)
        worker_reap(s, w->pid, status);
    else
        worker_ended(w, "exited", true);
    (void)dispatch_commit(s);
}

int worker_watch(struct worker *w, pid_t pid, int pidfd)
{
    loop_unwatch(&w->pool->server->loop, &w->pid_watch);
    (void)fd_close(w->pidfd);
    w->pid = pid;
    w->pidfd = pidfd;
    w->pid_watch.ready = pid_ended;
    return pidfd < 0 ? -ESRCH : loop_watch(&w->pool->server->loop, &w->pid_watch, pidfd, EPOLLIN);
}

static void replaced_forget(struct worker *gone)
{
    list_for_each(w, &gone->pool->workers, struct worker, link)
    {
        if (w->replaces == gone)
            w->replaces = NULL;
        if (gone->replaces == w)
            w->replaced = false;
    }
    gone->replaces = NULL;
}

/* Its first process is gone, and others of it are not: they end as it does. */
static bool remains_end(struct worker *w, pid_t other)
{
    if (other <= 0 || worker_watch(w, other, pidfd_of(other)) < 0)
        return false;
    replaced_forget(w);
    w->failing = false;
    worker_signal(w, SIGTERM);
    if (w->state < WORKER_STOPPING)
        worker_enter(w, WORKER_STOPPING, at_least(w->pool->conf->stop_timeout_ms));
    return true;
}

static bool is_served(const struct worker *w)
{
    return w->state == WORKER_READY &&
           (clock_now_ms() - w->ready_ms >= BRIEF_MS || worker_taken(w) > 0);
}

static void worker_ended(struct worker *w, const char *how, bool clean)
{
    struct pool *p = w->pool;
    /* A program that has put itself into the background goes on there. */
    pid_t other = worker_background(w);
    if (clean && w->state <= WORKER_DRAINING && other > 0 &&
        worker_watch(w, other, pidfd_of(other)) == 0) {
        log_info("worker app=%s number=%u pid=%d state=background", p->conf->name, w->number,
                 other);
        pool_store_save(p->server);
        return;
    }
    bool expected = w->state >= WORKER_DRAINING && !w->failing;
    bool failed = w->failing || (!expected && !(clean && is_served(w)));
    char what[320];
    (void)snprintf(what, sizeof what, "%s%s%s", w->why[0] ? w->why : how, w->why[0] ? ": " : "",
                   w->why[0] ? how : "");
    if (failed)
        log_warn("worker failed app=%s number=%u pid=%d what=%s", p->conf->name, w->number, w->pid,
                 what);
    else
        log_info("worker app=%s number=%u pid=%d state=gone how=%s", p->conf->name, w->number,
                 w->pid, how);
    bool gave_up = clean && !expected && !failed;
    struct worker *kept = w->replaces && w->replaces->state == WORKER_READY ? w->replaces : NULL;
    if (!remains_end(w, other))
        worker_free(w);
    if (failed && kept)
        health_kept(kept, what);
    else if (failed)
        health_failed(p, what);
    else if (gave_up && p->conf->start == CONF_START_DEMAND && list_empty(&p->workers))
        pool_idle(p);
    pool_ended(p);
}

void worker_reap(struct server *s, pid_t pid, int status)
{
    struct worker *w = worker_find_pid(s, pid);
    char how[64];
    if (!w)
        return;
    if (WIFSIGNALED(status))
        (void)snprintf(how, sizeof how, "killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
    else
        (void)snprintf(how, sizeof how, "exit status %d", WEXITSTATUS(status));
    worker_ended(w, how, WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void output_name(const struct worker *w, char *buf, size_t size)
{
    (void)snprintf(buf, size, "%s.%u.out", w->pool->conf->name, w->number);
}

static void output_end(struct worker *w)
{
    char name[CONF_NAME_MAX + 32], folder[RUNTIME_PATH_MAX];
    if (!w->pool->log)
        return;
    applog_detach_worker(w->pool->log, w->number);
    output_name(w, name, sizeof name);
    if (runtime_path("", folder) < 0 || output_remove(folder, name) < 0)
        log_debug("output stays name=%s", name);
}

void worker_free(struct worker *w)
{
    struct server *s = w->pool->server;
    replaced_forget(w);
    list_for_each(b, &w->binds, struct bind, app_link) bind_free(b);
    loop_untimer(&w->timer);
    loop_untimer(&w->check);
    loop_unwatch(&s->loop, &w->pid_watch);
    (void)fd_close(w->pidfd);
    health_done(w);
    pool_cgroup_remove(w);
    output_end(w);
    list_remove(&w->link);
    free(w);
}

/* What the worker writes goes through a FIFO in the runtime folder into the application's log. */
static int output_begin(struct worker *w, struct output *o)
{
    struct pool *p = w->pool;
    char name[CONF_NAME_MAX + 32], folder[RUNTIME_PATH_MAX];
    struct account account;
    char reason[ACCOUNT_REASON_MAX];
    struct applog_limits limits = {p->conf->log_size, p->conf->log_files};
    output_name(w, name, sizeof name);
    int r = runtime_path("", folder);
    if (r == 0)
        r = account_find(p->conf->user, p->conf->group, &account, reason);
    if (r < 0)
        return r;
    uid_t owner = account.uid;
    account_done(&account);
    r = applog_open(&p->server->applogs, p->conf->name, owner, limits, &p->log);
    if (r == 0)
        r = output_open(folder, name, owner, o);
    if (r == 0)
        r = applog_attach_worker_consume(p->log, o->read_fd, w->number);
    if (r < 0)
        log_warn("output not kept app=%s err=%s", p->conf->name, strerror(-r));
    return r;
}

/* The texts of the definition, for the library in the worker. */
struct worker_env {
    char control[RUNTIME_PATH_MAX], notify[RUNTIME_PATH_MAX], preload[PROGRAM_PATH_MAX];
    char ports[256];
};

static void ports_format(const struct conf_numbers *ports, char *buf, size_t size)
{
    size_t used = 0;
    buf[0] = 0;
    for (size_t i = 0; i < ports->count && used < size; i++)
        used += (size_t)snprintf(buf + used, size - used, "%s%u", i ? "," : "", ports->items[i]);
}

static int spawn_worker(struct worker *w, char reason[REASON_MAX])
{
    const struct conf_app *c = w->pool->conf;
    struct worker_env text;
    struct environment_app app = {.control = text.control,
                                  .name = c->name,
                                  .command = w->pool->app->command,
                                  .routes = (const char *const *)c->routes.items,
                                  .route_count = c->routes.count,
                                  .proxy = c->proxy};
    memcpy(app.instance, w->instance, sizeof app.instance);
    ports_format(&c->ports, text.ports, sizeof text.ports);
    app.ports = text.ports[0] ? text.ports : NULL;
    if (runtime_path(RUNTIME_CONTROL, text.control) < 0 ||
        runtime_path(RUNTIME_NOTIFY, text.notify) < 0)
        return -ENAMETOOLONG;
    struct upstream_command upstream;
    int r = upstream_command_make(c, &upstream, reason);
    if (r < 0)
        return r;
    if (!c->to)
        app.preload = self_file("libberth-preload.so", BERTH_PRELOAD_INSTALLED, text.preload,
                                sizeof text.preload);
    if (!c->to && !app.preload) {
        (void)snprintf(reason, REASON_MAX, "libberth-preload.so is not where it was installed");
        return -ENOENT;
    }
    struct spawn spawn = spawn_make(c->to ? upstream.argv : c->command.items);
    spawn.user = c->user;
    spawn.group = c->group;
    spawn.directory = c->directory;
    spawn.umask = (mode_t)c->umask;
    spawn.base = w->pool->environment;
    spawn.additions = c->environment.items;
    spawn.app = &app;
    spawn.notify_path = text.notify;
    spawn.watchdog_us = c->watchdog_ms * 1000;
    spawn.files_max = c->files_max;
    spawn.tasks_max = c->tasks_max;
    spawn.cgroup_fd = w->cgroup_fd = pool_cgroup_make(w);
    w->watchdog_limit_ms = c->watchdog_ms;
    struct output output = {-EBADF, -EBADF};
    if (output_begin(w, &output) == 0)
        spawn.stdout_fd = spawn.stderr_fd = output.write_fd;
    int passed[SPAWN_FDS_MAX];
    spawn.listen_fds = passed;
    spawn.listen_count = c->pass_sockets || c->to ? pool_pass(w, passed, SPAWN_FDS_MAX) : 0;
    struct spawned spawned;
    r = spawn_start(&spawn, &spawned, reason);
    (void)fd_close(output.write_fd);
    if (r < 0)
        return r;
    w->child = true;
    list_for_each(b, &w->binds, struct bind, app_link) bind_watch_holder(b, spawned.pid);
    return worker_watch(w, spawned.pid, spawned.pidfd);
}

struct worker *worker_start(struct pool *p, char reason[REASON_MAX])
{
    char text[PROGRAM_REASON_MAX];
    struct program_place place = {.path = getenv("PATH"), .directory = p->conf->directory};
    if (!p->conf->to && program_check(p->conf->command.items[0], &place, text) < 0) {
        (void)snprintf(reason, REASON_MAX, "%s", text);
        return NULL;
    }
    if (!descriptors_left(false)) {
        (void)snprintf(reason, REASON_MAX, "berthd has no descriptors left (see ulimit -n)");
        return NULL;
    }
    if (list_empty(&p->workers))
        watched_begin(p);
    struct worker *w = worker_new(p, p->next_number++);
    if (!w || getrandom(w->instance, sizeof w->instance, 0) != sizeof w->instance ||
        spawn_worker(w, reason) < 0) {
        if (w)
            worker_free(w);
        return NULL;
    }
    p->starts++;
    instances_add(p->server, w->instance, p->app->uid);
    worker_enter(w, WORKER_STARTING, p->conf->start_timeout_ms);
    /* What it was given listens already. */
    if (!list_empty(&w->binds))
        loop_timer(&p->server->loop, &w->check, 1);
    return w;
}

void worker_listens(struct worker *w)
{
    health_starting(w);
}

void worker_ready(struct worker *w)
{
    if (w->state != WORKER_STARTING)
        return;
    w->ready_ms = w->probe_ms = w->taken_ms = w->watchdog_ms = w->bound_ms = clock_now_ms();
    /* A question that was put off: from now on this timer is a draining worker's. */
    loop_untimer(&w->check);
    worker_enter(w, WORKER_READY, 0);
    if (w->replaces)
        worker_drain(w->replaces, w->replaces->why);
    w->replaces = NULL;
    pool_changed(w->pool);
}

void worker_resume(struct worker *w, enum worker_state state)
{
    const struct conf_app *c = w->pool->conf;
    watched_begin(w->pool);
    w->ready_ms = w->probe_ms = w->taken_ms = w->watchdog_ms = w->bound_ms = clock_now_ms();
    struct output output = {-EBADF, -EBADF};
    if (output_begin(w, &output) == 0)
        (void)fd_close(output.write_fd);
    switch (state) {
    case WORKER_STARTING:
        worker_enter(w, WORKER_STARTING, c->start_timeout_ms);
        /* It may have become ready in the last moment of its berthd, or since. */
        loop_timer(&w->pool->server->loop, &w->check, 1);
        break;
    case WORKER_READY:
        worker_enter(w, WORKER_READY, 0);
        break;
    case WORKER_DRAINING:
        worker_enter(w, WORKER_DRAINING, at_least(c->drain_timeout_ms));
        loop_timer(&w->pool->server->loop, &w->check, DRAIN_CHECK_MS);
        break;
    default:
        worker_terminate(w, w->why);
    }
}
