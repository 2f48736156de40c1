/* Workers that fail, and pools that fail too often. A failure is a worker that ends without having
 * been asked to, is not ready in time, does not answer its probe, stays silent to its watchdog or
 * leaves connections untaken. Too many in too short a time pause the pool; it comes back by itself,
 * each time later. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "berthd/pool.h"
#include "ipc/fdmsg.h"

/* A failing pool that is not yet paused starts the next worker a little later each time. */
#define AGAIN_MS 100
/* A worker that could not be replaced is let alone. */
#define KEPT_MS 60000

void health_forget(struct pool *p)
{
    p->failure_count = 0;
    p->pause_ms = 0;
}

/* Failures within the interval, the new one counted. */
static size_t failures_note(struct pool *p, uint64_t now_ms)
{
    size_t kept = 0;
    uint64_t since =
        now_ms > p->conf->failure_interval_ms ? now_ms - p->conf->failure_interval_ms : 0;
    for (size_t i = 0; i < p->failure_count; i++)
        if (p->failures[i] >= since)
            p->failures[kept++] = p->failures[i];
    if (now_ms - p->failed_ms > p->pause_ms + p->conf->failure_interval_ms)
        p->pause_ms = 0;
    p->failed_ms = now_ms;
    if (kept == FAILURES_MAX)
        memmove(p->failures, p->failures + 1, --kept * sizeof *p->failures);
    p->failures[kept++] = now_ms;
    p->failure_count = kept;
    return kept;
}

static uint32_t next_pause(struct pool *p)
{
    uint64_t low = p->conf->pause_ms.low, high = p->conf->pause_ms.high;
    uint64_t ms = p->pause_ms ? 2ull * p->pause_ms : low;
    p->pause_ms = (uint32_t)(ms > high ? high : ms);
    return p->pause_ms;
}

void health_failed(struct pool *p, const char *what)
{
    uint64_t now = clock_now_ms();
    size_t count = failures_note(p, now);
    char text[sizeof p->reason];
    p->failed++;
    if (p->state != POOL_RUNNING)
        return;
    if (p->conf->failures > 0 && count >= p->conf->failures) {
        (void)snprintf(text, sizeof text, "%zu failures in %llu s, the last: %s", count,
                       (unsigned long long)(p->conf->failure_interval_ms / 1000), what);
        log_warn("pool paused reason=RapidFail app=%s what=%s", p->conf->name, text);
        p->failure_count = 0;
        pool_pause(p, text, next_pause(p));
        return;
    }
    (void)snprintf(p->reason, sizeof p->reason, "%s", what);
    pool_retry(p, AGAIN_MS << (count < 6 ? count - 1 : 5));
}

void health_kept(struct worker *w, const char *what)
{
    struct pool *p = w->pool;
    p->failed++;
    w->kept_ms = clock_now_ms() + KEPT_MS;
    (void)snprintf(p->reason, sizeof p->reason, "%s", what);
}

/* A worker that has lost its queue cannot be reached by anybody. */
#define UNBOUND_MS 5000
/* While a worker starts, it is asked this often whether it is ready. */
#define START_PROBE_MS 250
#define SETTLE_MS      10

void health_unwell(struct worker *w, const char *what)
{
    struct pool *p = w->pool;
    if (w->state != WORKER_READY)
        return;
    log_warn("worker unwell app=%s number=%u pid=%d what=%s", p->conf->name, w->number, w->pid,
             what);
    worker_terminate(w, what);
    health_failed(p, what);
    pool_changed(p);
}

static bool is_bound(const struct worker *w)
{
    list_for_each(b, &w->binds, struct bind, app_link) if (b->listening) return true;
    return false;
}

static void probed(struct probe *probe, bool healthy, const char *sentence)
{
    struct worker *w = container_of(probe, struct worker, probe);
    struct server *s = w->pool->server;
    if (w->state == WORKER_STARTING && healthy)
        worker_ready(w);
    else if (w->state == WORKER_STARTING)
        loop_timer(&s->loop, &w->check, START_PROBE_MS);
    else if (w->state == WORKER_READY && !healthy)
        health_unwell(w, sentence);
    (void)dispatch_commit(s);
}

/* A connection of our own on the worker's queue, as if dispatch had accepted it: the program has no
 * other door. */
static int probe_by_queue(struct worker *w, const struct probe_ask *ask)
{
    struct bind *b = container_of(w->binds.next, struct bind, app_link);
    uint8_t ip[4] = {127, 0, 0, 1}, buf[APPMSG_CONN_MAX];
    /* Dispatch counts here, not we. Nothing is asked before ours is closed, and the program rests.
     */
    struct appmsg m = {.type = APPMSG_CONN,
                       .flags = APPMSG_REST,
                       .addr = addr_make(AF_INET, ip, 1),
                       .local = b->addr};
    int ours, theirs, n = appmsg_encode(&m, buf, sizeof buf);
    if (n < 0 || probe_tcp_pair(&ours, &theirs) < 0)
        return -EIO;
    int r = fdmsg_send(b->write_fd, buf, (size_t)n, &theirs, 1, MSG_DONTWAIT);
    (void)fd_close(theirs);
    if (r == 0)
        return probe_start_consume(&w->probe, &w->pool->server->loop, ours, ask);
    (void)fd_close(ours);
    return r;
}

static void probe_ask(struct worker *w)
{
    const struct conf_app *c = w->pool->conf;
    uint8_t ip[4] = {127, 0, 0, 1};
    struct addr at = addr_make(AF_INET, ip, c->health.port);
    struct probe_ask ask = {
        .path = c->health.path, .limit_ms = (uint32_t)c->health_timeout_ms, .done = probed};
    w->probe_ms = clock_now_ms();
    int r = c->health.port ? probe_start(&w->probe, &w->pool->server->loop, &at, &ask)
                           : probe_by_queue(w, &ask);
    if (r < 0)
        log_debug("not probed app=%s err=%d", c->name, -r);
}

static bool has_probe(const struct conf_app *c)
{
    return c->health.path || c->health.port;
}

/* Dispatch takes out what lies in a member that it is told to hold, our question as well: first it
 * has to have done so. */
static void probe_starting(struct worker *w)
{
    struct server *s = w->pool->server;
    if (dispatch_is_settled(s))
        probe_ask(w);
    else
        loop_timer(&s->loop, &w->check, SETTLE_MS);
}

void health_starting(struct worker *w)
{
    if (w->state != WORKER_STARTING || !is_bound(w))
        return;
    enum conf_ready ready = w->pool->conf->ready;
    if (ready == CONF_READY_LISTEN || (ready == CONF_READY_NOTIFY && w->said_ready))
        worker_ready(w);
    else if (ready == CONF_READY_PROBE && w->probe.state == PROBE_IDLE)
        probe_starting(w);
}

/* Connections that wait for it, and none of them taken for a long time. */
static bool is_stalled(struct worker *w, uint64_t now_ms)
{
    uint64_t taken = worker_taken(w);
    if (worker_waiting(w) == 0 || taken != w->taken)
        w->taken_ms = now_ms;
    w->taken = taken;
    return w->pool->conf->stall_timeout_ms > 0 &&
           now_ms - w->taken_ms >= w->pool->conf->stall_timeout_ms;
}

void health_tick(struct worker *w, uint64_t now_ms)
{
    const struct conf_app *c = w->pool->conf;
    if (w->state != WORKER_READY)
        return;
    if (is_bound(w))
        w->bound_ms = now_ms;
    if (now_ms - w->bound_ms >= UNBOUND_MS)
        health_unwell(w, "it has closed its listening socket");
    else if (w->watchdog_limit_ms && now_ms - w->watchdog_ms >= w->watchdog_limit_ms)
        health_unwell(w, "its watchdog has heard nothing");
    else if (is_stalled(w, now_ms))
        health_unwell(w, "it takes no connections");
    else if (has_probe(c) && c->health_interval_ms && w->probe.state == PROBE_IDLE && is_bound(w) &&
             now_ms - w->probe_ms >= c->health_interval_ms)
        probe_ask(w);
}

void health_done(struct worker *w)
{
    probe_stop(&w->probe);
}
