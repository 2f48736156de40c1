/* What a pool is and how many workers it should have. Everything that happens to it (a connection,
 * a worker that came or went, a command, another configuration) changes what is wanted, and
 * pool_adjust() makes it so. */
#include "berthd/pool.h"
#include "launch/environment.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"

#define TICK_MS 1000
/* A pool that cannot have its addresses asks for them again. */
#define BLOCKED_RETRY_MS 2000
/* Nobody's worker keeps berthd from ending longer than this. */
#define END_MS 90000

static const char *const pool_states[] = {
    [POOL_WAITING] = "waiting", [POOL_RUNNING] = "running", [POOL_PAUSED] = "paused",
    [POOL_STOPPED] = "stopped", [POOL_BLOCKED] = "blocked",
};

static const char *const worker_states[] = {
    [WORKER_STARTING] = "starting", [WORKER_READY] = "ready",   [WORKER_DRAINING] = "draining",
    [WORKER_STOPPING] = "stopping", [WORKER_KILLED] = "killed",
};

const char *pool_state_text(enum pool_state state)
{
    return pool_states[state];
}

const char *worker_state_text(enum worker_state state)
{
    return worker_states[state];
}

struct pool *pool_find(const struct server *s, const char *name)
{
    list_for_each(p, index_list(&s->pool_names, index_hash(name, strlen(name))), struct pool,
                  by_name.link) if (!p->leaving && strcmp(p->conf->name, name) == 0) return p;
    return NULL;
}

size_t pool_count(const struct pool *p, enum worker_state state)
{
    size_t n = 0;
    list_for_each(w, &p->workers, struct worker, link) n += w->state == state;
    return n;
}

static bool is_active(const struct worker *w)
{
    return w->state <= WORKER_READY && !w->failing;
}

size_t pool_active(const struct pool *p)
{
    size_t n = 0;
    list_for_each(w, &p->workers, struct worker, link) n += is_active(w) && !w->replaced;
    return n;
}

/* The newest goes first: it has the fewest long-lived connections. */
static struct worker *newest_active(const struct pool *p)
{
    struct worker *newest = NULL;
    list_for_each(w, &p->workers, struct worker, link) if (is_active(w) && !w->replaced) newest = w;
    return newest;
}

static bool is_serving(const struct pool *p)
{
    return p->state == POOL_RUNNING;
}

static void worker_start_logged(struct pool *p)
{
    char reason[REASON_MAX] = "";
    if (worker_start(p, reason))
        return;
    log_error("worker not started app=%s reason=%s", p->conf->name, reason);
    health_failed(p, reason);
}

static bool is_ending(const struct worker *w)
{
    return w->state >= WORKER_STOPPING || (w->state == WORKER_DRAINING && w->open == 0);
}

/* Some programs bear no second one of themselves beside their lock or their data: when the last
 * worker is about to end, the next connection waits for that. */
void pool_demand_update(struct pool *p)
{
    bool ending = false;
    list_for_each(w, &p->workers, struct worker, link) ending |= is_ending(w);
    pool_demand_watch(p, p->state == POOL_WAITING && !ending);
}

/* Where none may run beside another, those that are ending count, too. */
static size_t pool_present(const struct pool *p)
{
    size_t n = 0;
    list_for_each(w, &p->workers, struct worker, link) n++;
    return p->conf->overlap ? pool_active(p) : n;
}

void pool_adjust(struct pool *p)
{
    size_t wanted = is_serving(p) ? p->wanted : 0;
    /* Starting one may fail, and too many failures pause the pool. */
    while (is_serving(p) && p->retry.at_ms == 0 && pool_present(p) < wanted) {
        size_t before = pool_active(p);
        worker_start_logged(p);
        if (pool_active(p) == before)
            break;
    }
    for (struct worker *w; pool_active(p) > wanted && (w = newest_active(p));)
        worker_drain(w, "not needed");
    pool_demand_update(p);
    pool_tell(p);
    if (!list_empty(&p->workers) && p->tick.at_ms == 0)
        loop_timer(&p->server->loop, &p->tick, TICK_MS);
}

void pool_changed(struct pool *p)
{
    pool_adjust(p);
    pool_store_save(p->server);
    (void)dispatch_commit(p->server);
}

static void pool_enter(struct pool *p, enum pool_state state)
{
    if (p->state != state)
        log_info("pool app=%s state=%s", p->conf->name, pool_states[state]);
    p->state = state;
    if (state == POOL_RUNNING && p->wanted < p->conf->workers.low)
        p->wanted = (uint32_t)p->conf->workers.low;
    if (state == POOL_RUNNING && p->wanted == 0)
        p->wanted = 1;
    if (state == POOL_WAITING || state == POOL_STOPPED)
        p->wanted = (uint32_t)p->conf->workers.low;
    p->busy_ms = clock_now_ms();
    pool_changed(p);
}

/* Where a pool is when nothing is in its way. */
static void pool_rest(struct pool *p)
{
    p->reason[0] = 0;
    if (p->conf->start == CONF_START_ALWAYS)
        pool_enter(p, POOL_RUNNING);
    else if (p->conf->start == CONF_START_MANUAL)
        pool_enter(p, POOL_STOPPED);
    else
        pool_enter(p, POOL_WAITING);
}

void pool_idle(struct pool *p)
{
    pool_enter(p, POOL_WAITING);
}

void pool_wake(struct pool *p)
{
    loop_untimer(&p->retry);
    p->reason[0] = 0;
    pool_enter(p, POOL_RUNNING);
}

void pool_stop(struct pool *p, const char *why)
{
    (void)snprintf(p->reason, sizeof p->reason, "%s", why);
    loop_untimer(&p->retry);
    pool_enter(p, POOL_STOPPED);
}

void pool_pause(struct pool *p, const char *reason, uint32_t ms)
{
    (void)snprintf(p->reason, sizeof p->reason, "%s", reason);
    loop_timer(&p->server->loop, &p->retry, ms);
    pool_enter(p, POOL_PAUSED);
}

void worker_replace(struct worker *w, const char *text)
{
    struct pool *p = w->pool;
    char reason[REASON_MAX] = "";
    if (!is_active(w) || w->replaced || w->replaces)
        return;
    if (!p->conf->overlap) {
        p->restarts++;
        worker_drain(w, text);
        return;
    }
    struct worker *fresh = worker_start(p, reason);
    if (!fresh) {
        log_error("worker not replaced app=%s reason=%s", p->conf->name, reason);
        health_kept(w, reason);
        return;
    }
    fresh->replaces = w;
    w->replaced = true;
    (void)snprintf(w->why, sizeof w->why, "%s", text);
    p->restarts++;
    pool_changed(p);
}

void pool_restart(struct pool *p, const char *why)
{
    list_for_each(w, &p->workers, struct worker, link) worker_replace(w, why);
}

static void pool_block(struct pool *p)
{
    p->state = POOL_BLOCKED;
    log_warn("pool blocked app=%s reason=%s", p->conf->name, p->reason);
    loop_timer(&p->server->loop, &p->listen, BLOCKED_RETRY_MS);
}

/* Names and addresses first: a worker is started only for a pool that can be reached. */
static void pool_listen_all(struct pool *p)
{
    char reason[REASON_MAX] = "";
    if (pool_bases_make(p, reason) < 0) {
        if (strncmp(p->reason, reason, sizeof p->reason - 1) != 0 || p->state != POOL_BLOCKED) {
            (void)snprintf(p->reason, sizeof p->reason, "%s", reason);
            pool_block(p);
        } else {
            loop_timer(&p->server->loop, &p->listen, BLOCKED_RETRY_MS);
        }
        return;
    }
    p->state = POOL_STOPPED;
    if (p->was_stopped)
        pool_stop(p, "stopped by hand");
    else if (pool_active(p) > 0)
        pool_enter(p, POOL_RUNNING);
    else
        pool_rest(p);
    p->was_stopped = false;
}

void pool_start(struct pool *p)
{
    health_forget(p);
    p->was_stopped = false;
    if (p->state == POOL_BLOCKED)
        pool_listen_all(p);
    if (p->state != POOL_BLOCKED)
        pool_wake(p);
}

/* Whoever waits is served by a new worker at once; else the pool rests as it was defined. One that
 * was started by hand goes on. */
static void pool_resume(struct pool *p)
{
    if (p->conf->start == CONF_START_MANUAL)
        pool_wake(p);
    else
        pool_rest(p);
}

static void retry(struct timer *t)
{
    struct pool *p = container_of(t, struct pool, retry);
    if (p->state == POOL_PAUSED)
        pool_resume(p);
    else
        pool_changed(p);
    (void)dispatch_commit(p->server);
}

/* A change of its definition asked for what it cannot have: what it had it keeps. */
static void pool_listen_change(struct pool *p)
{
    char reason[REASON_MAX] = "";
    if (pool_bases_make(p, reason) == 0) {
        if (p->state == POOL_RUNNING || p->state == POOL_WAITING)
            p->reason[0] = 0;
        pool_changed(p);
        return;
    }
    if (strncmp(p->reason, reason, sizeof p->reason - 1) != 0)
        log_warn("addresses not changed app=%s reason=%s", p->conf->name, reason);
    (void)snprintf(p->reason, sizeof p->reason, "%s", reason);
    loop_timer(&p->server->loop, &p->listen, BLOCKED_RETRY_MS);
}

static void listen_again(struct timer *t)
{
    struct pool *p = container_of(t, struct pool, listen);
    loop_untimer(t);
    if (p->state == POOL_BLOCKED)
        pool_listen_all(p);
    else
        pool_listen_change(p);
    (void)dispatch_commit(p->server);
}

void pool_retry(struct pool *p, uint32_t ms)
{
    loop_timer(&p->server->loop, &p->retry, ms);
}

static void tick(struct timer *t)
{
    struct pool *p = container_of(t, struct pool, tick);
    uint64_t now = clock_now_ms();
    list_for_each(w, &p->workers, struct worker, link) health_tick(w, now);
    recycle_tick(p, now);
    if (!list_empty(&p->workers))
        loop_timer(&p->server->loop, &p->tick, TICK_MS);
    (void)dispatch_commit(p->server);
}

static void app_define(struct app *a, const struct conf_app *conf)
{
    a->routes = conf->routes.items;
    a->route_count = conf->routes.count;
    a->listen_count =
        conf->listen.count < APPMSG_LISTENS_MAX ? conf->listen.count : APPMSG_LISTENS_MAX;
    for (size_t i = 0; i < a->listen_count; i++)
        a->listens[i] = conf->listen.items[i];
    a->flags = conf->proxy ? APPMSG_PROXY : 0;
}

static struct app *app_make(struct pool *p, const struct conf_app *conf, const uint8_t *instance)
{
    uint8_t fresh[APPMSG_INSTANCE];
    if (!instance && getrandom(fresh, sizeof fresh, 0) != sizeof fresh)
        return NULL;
    struct app *a = app_new(p->server, conf->name, instance ? instance : fresh);
    if (!a)
        return NULL;
    a->pool = p;
    a->command =
        conf->to ? environment_join((const char *const[]){"to", conf->to}, 2)
                 : environment_join((const char *const *)conf->command.items, conf->command.count);
    if (a->command) {
        app_define(a, conf);
        return a;
    }
    a->pool = NULL;
    app_free(a);
    return NULL;
}

/* Files of workers have the pool's name and their number: one of the same name may still drain. */
static uint32_t first_number(const struct server *s, const char *name)
{
    uint32_t number = 1;
    list_for_each(p, &s->pools, struct pool, link)
    {
        if (strcmp(p->conf->name, name) == 0 && p->next_number > number)
            number = p->next_number;
    }
    return number;
}

struct pool *pool_new(struct server *s, struct definition *d, const struct conf_app *conf,
                      const uint8_t *instance)
{
    struct pool *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->server = s;
    list_init(&p->workers);
    p->tick.fire = tick;
    p->retry.fire = retry;
    p->listen.fire = listen_again;
    p->conf = conf;
    p->next_number = first_number(s, conf->name);
    p->schedule_minute = -1;
    p->app = app_make(p, conf, instance);
    if (!p->app) {
        free(p);
        return NULL;
    }
    p->definition = definition_ref(d);
    list_append(&s->pools, &p->link);
    index_add(&s->pool_names, &p->by_name, index_hash(conf->name, strlen(conf->name)));
    return p;
}

void pool_open(struct pool *p)
{
    pool_listen_all(p);
    (void)dispatch_commit(p->server);
}

void pool_redefine(struct pool *p, struct definition *d, const struct conf_app *conf,
                   unsigned changed)
{
    struct definition *old = p->definition;
    bool start_changed = p->conf->start != conf->start;
    p->definition = definition_ref(d);
    p->conf = conf;
    app_define(p->app, conf);
    definition_unref(old);
    if (changed)
        watched_begin(p);
    if (changed & CONF_CHANGED_ROUTES)
        listen_again(&p->listen);
    if (changed && p->state == POOL_RUNNING) {
        uint32_t low = conf->workers.low ? (uint32_t)conf->workers.low : 1;
        p->wanted = p->wanted < low ? low : p->wanted;
        p->wanted = p->wanted > conf->workers.high ? (uint32_t)conf->workers.high : p->wanted;
    }
    if (changed & CONF_CHANGED_PROCESS)
        pool_restart(p, "configuration changed");
    if (changed & CONF_CHANGED_PROCESS && p->state == POOL_PAUSED) {
        health_forget(p);
        loop_untimer(&p->retry);
        pool_resume(p);
    }
    /* What was stopped by hand stays so. */
    if (changed && (p->state == POOL_WAITING || (p->state == POOL_STOPPED && start_changed)))
        pool_rest(p);
    if (changed)
        pool_adjust(p);
}

/* When berthd is asked to end, its workers end first. */
static void end_check(struct server *s)
{
    if (!s->ending || !list_empty(&s->pools))
        return;
    pool_store_now(s);
    loop_stop(&s->loop);
}

static void pool_free(struct pool *p)
{
    struct server *s = p->server;
    struct app *a = p->app;
    loop_untimer(&p->tick);
    loop_untimer(&p->retry);
    loop_untimer(&p->listen);
    list_for_each(w, &p->workers, struct worker, link) worker_free(w);
    list_for_each(b, &a->binds, struct bind, app_link) bind_free(b);
    /* Programs that still hold on to it find nothing that they could claim. */
    a->pool = NULL;
    a->routes = NULL;
    a->route_count = 0;
    app_free_if_idle(a);
    list_remove(&p->link);
    index_remove(&s->pool_names, &p->by_name);
    definition_unref(p->definition);
    for (char **e = p->environment; e && *e; e++)
        free(*e);
    free(p->environment);
    free(p);
    pool_store_save(s);
    server_idle_check(s);
    end_check(s);
}

void pool_leave(struct pool *p, const char *why)
{
    p->leaving = true;
    loop_untimer(&p->listen);
    list_for_each(b, &p->app->binds, struct bind, app_link) claims_free(b);
    pool_stop(p, why);
    pool_ended(p);
}

void pool_ended(struct pool *p)
{
    struct server *s = p->server;
    if (p->leaving && list_empty(&p->workers))
        pool_free(p);
    else
        pool_changed(p);
    (void)dispatch_commit(s);
}

void pools_end(struct server *s)
{
    s->ending = true;
    list_for_each(p, &s->pools, struct pool, link)
    {
        p->leaving = true;
        list_for_each(w, &p->workers, struct worker, link) worker_end(w, "berthd ends", END_MS);
        pool_stop(p, "berthd ends");
        pool_ended(p);
    }
    end_check(s);
}
