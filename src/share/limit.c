/* Limits of connections whose name is not known yet: how many from one address, and how slowly they
 * may speak. Who is beyond them is refused; nobody else waits for them. */
#include "share/worker-internal.h"

/* How often the rate is looked at, and how long a client has before it counts. */
#define RATE_MS       1000
#define RATE_GRACE_MS 2000

bool limit_source(struct worker *w, struct conn *c)
{
    uint32_t limit = w->limits.per_source;
    if (limit == 0)
        return true;
    uint32_t count = sources_add(w->shared->undecided, &c->peer);
    c->counted = count > 0;
    return count <= limit;
}

void limit_forget(struct worker *w, struct conn *c)
{
    if (c->counted)
        sources_remove(w->shared->undecided, &c->peer);
    c->counted = false;
}

static bool is_slow(const struct worker *w, const struct conn *c)
{
    uint64_t ms = w->now_ms - c->first_ms;
    return (uint64_t)c->bytes * 1000 < w->limits.min_rate * ms;
}

void limit_rate(struct worker *w)
{
    if (w->limits.min_rate == 0 || w->rate_ms > w->now_ms)
        return;
    w->rate_ms = w->now_ms + RATE_MS;
    list_for_each(c, &w->partial, struct conn, link)
    {
        /* The list is in the order in which they began. */
        if (c->first_ms + RATE_GRACE_MS > w->now_ms)
            return;
        if (!is_slow(w, c))
            continue;
        w->judgement.sniffed_valid = false;
        refuse(w, c, &(struct refusal){.reason = REASON_SLOW_HEADER}, &w->judgement);
    }
}

/* A list is in the order of its deadlines, and stays so: none becomes later, those that come now
 * have the new time. */
static void deadlines_cut(struct list *l, uint64_t at)
{
    list_for_each(c, l, struct conn, link) if (c->deadline_ms > at) c->deadline_ms = at;
}

void limit_adopt(struct worker *w, const struct worker_limits *limits)
{
    w->limits = *limits;
    w->judgement.bytes_max = limits->sniff_bytes;
    deadlines_cut(&w->silent, w->now_ms + limits->silence_ms);
    deadlines_cut(&w->partial, w->now_ms + limits->header_wait_ms);
}
