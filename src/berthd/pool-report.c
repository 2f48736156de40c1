/* What `berth ls`, `top` and the metrics show of a pool. */
#include "berthd/pool-report.h"

#include <time.h>

#include "base/clock.h"

/* From the monotonic clock to the calendar's, in milliseconds. */
static json_int_t calendar_ms(uint64_t monotonic_ms)
{
    return (json_int_t)time(NULL) * 1000 - (json_int_t)(clock_now_ms() - monotonic_ms);
}

static json_t *worker_json(const struct worker *w)
{
    return json_pack("{s:i, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:s, s:s}", "number",
                     (int)w->number, "pid", (int)w->pid, "state", worker_state_text(w->state),
                     "open", (json_int_t)w->open, "waiting", (json_int_t)worker_waiting(w),
                     "connections", (json_int_t)worker_delivered(w), "memory",
                     (json_int_t)w->memory, "started_ms", calendar_ms(w->started_ms), "replaced",
                     w->replaced, "why", w->why, "status", w->status);
}

static void count_fresh(struct pool *p)
{
    if (workers_count_due(p))
        workers_count(p);
}

json_t *pool_report(struct pool *p)
{
    json_t *workers = json_array();
    uint64_t parked = 0, refused = 0;
    struct board *board = p->server->board;
    count_fresh(p);
    list_for_each(b, &p->app->binds, struct bind, app_link)
    {
        parked += bind_waiting(b);
        refused += board ? board_get(&board->queues[b->id].refused) - b->refused_before : 0;
    }
    list_for_each(w, &p->workers, struct worker, link)(void)
        json_array_append_new(workers, worker_json(w));
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:o}", "state",
                     p->leaving ? "leaving" : pool_state_text(p->state), "reason", p->reason,
                     "wanted", (json_int_t)p->wanted, "min", (json_int_t)p->conf->workers.low,
                     "max", (json_int_t)p->conf->workers.high, "by_hand", p->by_hand, "parked",
                     (json_int_t)parked, "refused", (json_int_t)refused, "starts",
                     (json_int_t)p->starts, "restarts", (json_int_t)p->restarts, "failures",
                     (json_int_t)p->failed, "workers", workers);
}

void pool_measure(struct pool *p, struct metrics_app *ret_app)
{
    struct board *board = p->server->board;
    count_fresh(p);
    ret_app->pool = true;
    list_for_each(w, &p->workers, struct worker, link)
    {
        ret_app->open += w->open;
        ret_app->memory += w->memory;
        ret_app->waiting += worker_waiting(w);
    }
    for (size_t i = 0; i < WORKER_STATES; i++)
        ret_app->workers[i] = (struct metrics_count){worker_state_text((enum worker_state)i),
                                                     pool_count(p, (enum worker_state)i)};
    list_for_each(b, &p->app->binds, struct bind, app_link)
    {
        if (board)
            ret_app->refused += board_get(&board->queues[b->id].refused) - b->refused_before;
    }
    ret_app->restarts[0] = (struct metrics_count){"replaced", p->restarts};
    ret_app->restarts[1] = (struct metrics_count){"failed", p->failed};
}
