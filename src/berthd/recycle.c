/* When a worker is replaced, when one more is needed, and when none is: looked at once a second, in
 * numbers that the kernel or dispatch has counted. A worker is always replaced by one that is ready
 * before it stops taking connections. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "berthd/pool.h"
#include "launch/opencount.h"
#include "launch/proctree.h"

/* How long workers above the least number must not have been needed, unless idle_timeout is less.
 */
#define SURPLUS_MS 30000
/* Exact counting looks at every process: not more often than this, nor less. */
#define COUNT_MS_MIN 200
#define COUNT_MS_MAX 30000

static bool clock_passed(const struct pool *p, int64_t minute_before, int64_t minute)
{
    for (size_t i = 0; i < p->conf->recycle_at.count; i++) {
        int64_t at = p->conf->recycle_at.items[i];
        if (minute_before < at && at <= minute)
            return true;
    }
    return false;
}

/* Minutes of this day, in local time. */
static int64_t minute_of_day(void)
{
    time_t now = time(NULL);
    struct tm tm;
    (void)localtime_r(&now, &tm);
    return tm.tm_hour * 60 + tm.tm_min;
}

static bool schedule_due(struct pool *p)
{
    int64_t before = p->schedule_minute, now = minute_of_day();
    p->schedule_minute = now;
    if (before < 0 || before == now || p->conf->recycle_at.count == 0)
        return false;
    /* Past midnight the minutes begin again. */
    return before < now ? clock_passed(p, before, now)
                        : clock_passed(p, before, 24 * 60) || clock_passed(p, -1, now);
}

/* True once when the files have been at rest for a while after a change. */
static bool watched_due(struct pool *p, uint64_t now_ms)
{
    if (p->conf->watch.count == 0)
        return false;
    uint64_t stamp = watched_stamp(p);
    if (stamp != p->stamp) {
        p->stamp = stamp;
        p->changed_ms = now_ms;
    }
    if (p->changed_ms == 0 || now_ms - p->changed_ms < p->conf->watch_delay_ms)
        return false;
    p->changed_ms = 0;
    return true;
}

static const char *worker_due(const struct worker *w, uint64_t now_ms)
{
    const struct conf_app *c = w->pool->conf;
    if (c->recycle_after_ms && now_ms - w->ready_ms >= c->recycle_after_ms)
        return "recycle_after";
    if (c->recycle_connections && worker_delivered(w) >= c->recycle_connections)
        return "recycle_connections";
    if (c->recycle_memory && w->memory >= c->recycle_memory)
        return "recycle_memory";
    return NULL;
}

static void workers_recycle(struct pool *p, uint64_t now_ms)
{
    list_for_each(w, &p->workers, struct worker, link)
    {
        if (w->state != WORKER_READY || w->replaced || now_ms < w->kept_ms)
            continue;
        const char *due = worker_due(w, now_ms);
        if (due)
            worker_replace(w, due);
    }
}

static uint64_t surplus_limit(const struct pool *p)
{
    uint64_t idle = p->conf->idle_timeout_ms;
    return idle > 0 && idle < SURPLUS_MS ? idle : SURPLUS_MS;
}

/* One more when everybody has connections waiting; one less when the newest has had none. */
static void workers_scale(struct pool *p, uint64_t now_ms)
{
    if (p->state != POOL_RUNNING || p->conf->workers.low == p->conf->workers.high)
        return;
    bool all_busy = pool_active(p) > 0;
    list_for_each(w, &p->workers, struct worker, link)
    {
        if (w->state == WORKER_READY)
            all_busy &= worker_waiting(w) > 0;
        if (w->state == WORKER_STARTING)
            all_busy = false;
    }
    if ((all_busy || pool_parked(p) > 0) && p->wanted < p->conf->workers.high &&
        pool_count(p, WORKER_STARTING) == 0 && pool_count(p, WORKER_READY) > 0) {
        p->wanted++;
        p->surplus_ms = now_ms;
        log_info("pool app=%s workers=%u", p->conf->name, p->wanted);
        pool_changed(p);
    }
    if (all_busy)
        p->surplus_ms = now_ms;
    if (p->wanted > p->conf->workers.low && p->wanted > 1 &&
        now_ms - p->surplus_ms >= surplus_limit(p)) {
        p->wanted--;
        p->surplus_ms = now_ms;
        pool_changed(p);
    }
}

static size_t open_total(const struct pool *p)
{
    size_t n = 0;
    list_for_each(w, &p->workers, struct worker, link) n += w->open;
    return n;
}

static uint64_t delivered_total(const struct pool *p)
{
    uint64_t n = 0;
    list_for_each(w, &p->workers, struct worker, link) n += worker_delivered(w);
    return n;
}

static void count_due(struct pool *p, uint64_t now_ms)
{
    uint64_t every = p->conf->idle_timeout_ms / 10;
    every = every < COUNT_MS_MIN ? COUNT_MS_MIN : every > COUNT_MS_MAX ? COUNT_MS_MAX : every;
    bool wanted = p->conf->idle_timeout_ms > 0 || p->conf->recycle_memory > 0;
    if (!wanted || now_ms - p->count_ms < every || !workers_count_due(p))
        return;
    workers_count(p);
}

/* Idle is a pool to which nothing was delivered, for which nothing waits, and none of whose handed
 * connections is open, for the whole of the time. */
static void pool_idle_check(struct pool *p, uint64_t now_ms)
{
    uint64_t delivered = delivered_total(p);
    if (delivered != p->delivered_seen || open_total(p) > 0 || pool_parked(p) > 0 ||
        pool_count(p, WORKER_READY) == 0)
        p->busy_ms = now_ms;
    p->delivered_seen = delivered;
    if (p->state != POOL_RUNNING || p->conf->start != CONF_START_DEMAND ||
        p->conf->idle_timeout_ms == 0 || now_ms - p->busy_ms < p->conf->idle_timeout_ms)
        return;
    workers_count(p);
    if (open_total(p) > 0) {
        p->busy_ms = now_ms;
        return;
    }
    log_info("pool idle app=%s", p->conf->name);
    pool_idle(p);
}

void recycle_tick(struct pool *p, uint64_t now_ms)
{
    count_due(p, now_ms);
    if (p->state == POOL_RUNNING && schedule_due(p))
        pool_restart(p, "recycle_at");
    if (p->state == POOL_RUNNING && watched_due(p, now_ms))
        pool_restart(p, "watched file changed");
    workers_recycle(p, now_ms);
    workers_scale(p, now_ms);
    pool_idle_check(p, now_ms);
}
