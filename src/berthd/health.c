/* Workers that fail, and pools that fail too often. A failure is a worker that ends without having
 * been asked to, is not ready in time, does not answer its probe, stays silent to its watchdog or
 * leaves connections untaken. Too many in too short a time pause the pool; it comes back by itself,
 * each time later. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "berthd/pool.h"

/* A failing pool that is not yet paused starts the next worker a little later each time. */
#define AGAIN_MS 100

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
    if (kept == 0)
        p->pause_ms = 0;
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

/* A worker that has lost its queue cannot be reached by anybody. */
#define UNBOUND_MS 5000

void health_tick(struct worker *w, uint64_t now_ms)
{
    if (w->state != WORKER_READY)
        return;
    if (!list_empty(&w->binds))
        w->bound_ms = now_ms;
    if (now_ms - w->bound_ms < UNBOUND_MS)
        return;
    w->failing = true;
    worker_terminate(w, "it has closed its listening socket");
}
