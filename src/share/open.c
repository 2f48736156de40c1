/* How many connections each program has open: counted when one is passed on, and taken off when the
 * kernel says that the program closed it. Only of members, and of queues with a limit; for all
 * others nothing is asked. */
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "share/worker-internal.h"

/* The steward's look: so often while connections are passed on, else less often; and for so many at
 * once, so that many that stay open cost little. */
#define TICK_MS      20
#define TICK_REST_MS 100
#define TICK_CHECKS  256
/* What a choice among busy members may cost. */
#define TURN_CHECKS 8

/* One round of questions about a queue's. */
struct round {
    struct ledger_closed closed;
    struct worker *worker;
    struct queue *queue;
    size_t count;
};

bool open_is_tracked(struct worker *w, const struct queue *q)
{
    (void)q;
    return atomic_load_explicit(&w->diag_fd, memory_order_relaxed) >= 0;
}

void open_change(struct worker *w, struct queue *q, int64_t n)
{
    uint64_t open = atomic_fetch_add(&q->open, (uint64_t)n) + (uint64_t)n;
    atomic_store_explicit(&w->board->queues[q->id % BOARD_QUEUES_MAX].open, open,
                          memory_order_relaxed);
}

/* The pool's counters are with its base; a queue that is no member's has its own. */
static struct queue *base_of(struct queue *q)
{
    return q->base ? q->base : q;
}

static void entry_closed(struct worker *w, struct queue *q, const struct ledger_entry *e)
{
    struct sources *sources = base_of(q)->sources;
    struct addr peer = ledger_peer(e);
    if (e->counted && sources)
        sources_remove(sources, &peer);
    open_change(w, q, -1);
}

static void round_closed(struct ledger_closed *self, const struct ledger_entry *e)
{
    struct round *r = container_of(self, struct round, closed);
    entry_closed(r->worker, r->queue, e);
    r->count++;
}

/* Returns how many were asked for; *closed gets how many of them were closed. */
static size_t check(struct worker *w, struct queue *q, size_t max, size_t *closed)
{
    struct round r = {.closed.fn = round_closed, .worker = w, .queue = q};
    size_t asked = 0;
    if (atomic_load_explicit(&q->open, memory_order_relaxed) > 0)
        asked = ledger_check(&q->ledger, w->diag_fd, max, &r.closed);
    *closed += r.count;
    return asked;
}

static void keep_ticking(struct worker *w)
{
    struct shared *s = w->shared;
    if (!atomic_load_explicit(&s->busy, memory_order_relaxed))
        atomic_store(&s->busy, true);
    if (!atomic_load_explicit(&s->ticking, memory_order_relaxed) &&
        !atomic_exchange(&s->ticking, true))
        worker_wake(s->steward);
}

void open_note_consume(struct worker *w, struct queue *q, struct ledger_entry *e,
                       const struct conn *c)
{
    struct sources *sources = base_of(q)->sources;
    e->since_ms = c->since_ms;
    e->claim = c->claim;
    e->counted = sources && sources_add(sources, &c->peer) > 0;
    ledger_add_consume(&q->ledger, e);
    keep_ticking(w);
}

int open_send(struct worker *w, struct queue *q, struct conn *c, const struct conn_judgement *j)
{
    bool tracked = open_is_tracked(w, q);
    struct ledger_entry *e = tracked ? ledger_entry_new(c->fd, &c->peer) : NULL;
    int r = deliver_send(w, q, c, j, e);
    if (r == 0)
        deliver_count(w, q, c, j);
    if (r == 0)
        window_sent(&q->window);
    if (r == 0 && e) {
        open_change(w, q, 0);
        return 0;
    }
    free(e);
    if (tracked)
        open_change(w, q, -1);
    return r;
}

void open_rebuild(struct worker *w, struct queue *q, struct ledger_entry *e)
{
    struct sources *sources = base_of(q)->sources;
    struct addr peer = ledger_peer(e);
    e->since_ms = clock_now_ms();
    e->claim = ROUTE_NONE;
    e->counted = sources && sources_add(sources, &peer) > 0;
    open_change(w, q, 1);
    ledger_add_consume(&q->ledger, e);
    keep_ticking(w);
}

void open_take_back(struct worker *w, struct queue *q, struct conn *c)
{
    struct ledger_entry *e = ledger_take(&q->ledger, c->fd);
    if (!e)
        return;
    c->since_ms = e->since_ms;
    c->claim = e->claim;
    entry_closed(w, q, e);
    free(e);
}

uint64_t open_sum(const struct pool *p)
{
    uint64_t n = p->member_count ? 0 : p->queue->open;
    for (size_t i = 0; i < p->member_count; i++)
        n += atomic_load_explicit(&p->members[i].queue->open, memory_order_relaxed);
    return n;
}

enum reason open_limit(struct worker *w, const struct pool *p, const struct conn *c)
{
    const struct dispatch_policy *policy = &p->policy;
    if (policy->connections && open_sum(p) >= policy->connections)
        open_refresh(w, p);
    if (policy->connections && open_sum(p) >= policy->connections)
        return REASON_LIMIT;
    struct sources *sources = p->queue->sources;
    if (c && policy->per_source && sources &&
        sources_count(sources, &c->peer) >= policy->per_source)
        return REASON_SOURCE_LIMIT;
    return REASON_NONE;
}

/* The smallest number of open connections above this one that a member has who serves. */
static uint64_t level_above(const struct pool *p, uint64_t above)
{
    uint64_t level = UINT64_MAX;
    for (size_t i = 0; i < p->member_count; i++) {
        uint64_t open = p->members[i].queue->open;
        if (p->members[i].serves && open > above && open < level)
            level = open;
    }
    return level;
}

static size_t check_level(struct worker *w, const struct pool *p, uint64_t level, size_t left)
{
    size_t closed = 0;
    for (size_t i = 0; i < p->member_count; i++)
        if (p->members[i].serves && p->members[i].queue->open == level)
            left -= check(w, p->members[i].queue, left, &closed);
    return left;
}

void open_refresh(struct worker *w, const struct pool *p)
{
    if (w->checked_turn == w->turn && w->checked_pool == p)
        return;
    w->checked_turn = w->turn;
    w->checked_pool = p;
    if (!open_is_tracked(w, p->queue))
        return;
    size_t left = TURN_CHECKS, closed = 0;
    if (p->member_count == 0)
        (void)check(w, p->queue, left, &closed);
    for (uint64_t level = 0; left > 0 && (level = level_above(p, level)) != UINT64_MAX;)
        left = check_level(w, p, level, left);
}

static void windows_tick(struct worker *w, struct pool *p)
{
    uint64_t best = 0;
    for (size_t i = 0; i < p->member_count; i++) {
        struct queue *q = p->members[i].queue;
        uint64_t pace = window_tick(&q->window, q->write_fd, w->now_ms);
        if (pace > best)
            best = pace;
    }
    for (size_t i = 0; i < p->member_count; i++)
        window_adapt(&p->members[i].queue->window, best);
}

/* All queues of one pool; what is left of the budget. */
static size_t pool_tick(struct worker *w, struct pool *p, size_t left, uint64_t *open)
{
    size_t closed = 0;
    left -= check(w, p->queue, left, &closed);
    for (size_t i = 0; i < p->member_count; i++)
        left -= check(w, p->members[i].queue, left, &closed);
    windows_tick(w, p);
    if (closed > 0 && p->queue->parked > 0)
        w->pools_due = true;
    *open += open_sum(p);
    return left;
}

static void tick(struct worker *w)
{
    const struct snapshot *s = w->snapshot;
    bool busy = atomic_exchange(&w->shared->busy, false);
    size_t left = TICK_CHECKS;
    uint64_t open = 0;
    for (size_t i = 0; i < s->pool_count; i++)
        left = pool_tick(w, s->pools[(w->tick_at + i) % s->pool_count], left, &open);
    w->tick_at++;
    w->tick_ms = w->now_ms + (busy ? TICK_MS : TICK_REST_MS);
    if (open > 0 || busy)
        return;
    w->tick_ms = 0;
    atomic_store(&w->shared->ticking, false);
    /* Somebody may have passed one on just before: then nobody would wake us. */
    if (atomic_load(&w->shared->busy) && !atomic_exchange(&w->shared->ticking, true))
        w->tick_ms = w->now_ms + TICK_MS;
}

void open_tick(struct worker *w)
{
    if (w != w->shared->steward || !w->snapshot)
        return;
    if (w->tick_ms == 0 && atomic_load_explicit(&w->shared->ticking, memory_order_relaxed))
        w->tick_ms = w->now_ms + TICK_MS;
    if (w->tick_ms && w->tick_ms <= w->now_ms)
        tick(w);
}
