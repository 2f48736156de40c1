/* Pools: a connection goes to the member with the fewest open ones; while no member can take it, or
 * all have as many to take as they may (window.c), or the pool has as many open as it may, it is
 * parked (park.c). What a member has not taken when it
 * holds or goes is given to the others. */
#include <poll.h>
#include <sys/ioctl.h>

#include "ipc/fdmsg.h"
#include "share/worker-internal.h"
#include "wire/appmsg.h"

/* The bytes of a message to a program that is not told what was sniffed. */
#define MESSAGE_BYTES 55

struct pool *pool_find(const struct worker *w, const struct queue *q)
{
    for (size_t i = 0; q && w->snapshot && i < w->snapshot->pool_count; i++)
        if (w->snapshot->pools[i]->queue == q)
            return w->snapshot->pools[i];
    return NULL;
}

/* The least busy of those that serve and were not tried yet; among equals the next in turn. */
static struct member *least_busy(const struct pool *p, const bool *tried, size_t first,
                                 uint64_t *ret_open)
{
    struct member *best = NULL;
    for (size_t i = 0; i < p->member_count; i++) {
        size_t at = (first + i) % p->member_count;
        struct member *m = &p->members[at];
        if (!m->serves || tried[at])
            continue;
        uint64_t open = atomic_load_explicit(&m->queue->open, memory_order_relaxed);
        if (best && open >= *ret_open)
            continue;
        best = m;
        *ret_open = open;
    }
    return best;
}

/* Has so much to take that others may become idle before it has taken one more? */
static bool is_full(struct worker *w, const struct pool *p, struct queue *q)
{
    if (p->member_count == 1 || !open_is_tracked(w, q))
        return false;
    if (atomic_load_explicit(&q->open, memory_order_relaxed) > 0)
        return window_is_full(&q->window, q->write_fd);
    window_idle(&q->window);
    return false;
}

/* Counts the connection to the member in the same step, so that two threads do not both take the
 * same one for idle. Who is full counts as tried. */
static struct member *member_choose(struct worker *w, const struct pool *p, bool *tried)
{
    uint64_t open = 0;
    size_t first = p->member_count ? atomic_fetch_add(&p->queue->turn, 1) % p->member_count : 0;
    struct member *m = least_busy(p, tried, first, &open);
    if (m && open > 0 && p->member_count > 1) {
        open_refresh(w, p);
        m = least_busy(p, tried, first, &open);
    }
    for (; m; m = least_busy(p, tried, first, &open)) {
        if (is_full(w, p, m->queue))
            tried[m - p->members] = true;
        else if (!open_is_tracked(w, m->queue) ||
                 atomic_compare_exchange_weak(&m->queue->open, &open, open + 1))
            return m;
    }
    return NULL;
}

int members_give(struct worker *w, const struct pool *p, struct conn *c,
                 const struct conn_judgement *j)
{
    bool tried[POOL_MEMBERS_MAX] = {false};
    for (struct member *m; (m = member_choose(w, p, tried));) {
        tried[m - p->members] = true;
        if (open_send(w, m->queue, c, j) == 0)
            return 0;
    }
    return -EAGAIN;
}

/* Connections that the program of this member has not taken yet. */
static uint64_t member_waiting(const struct queue *q)
{
    int bytes = 0;
    if (q->flags & DISPATCH_RICH || ioctl(q->read_fd, FIONREAD, &bytes) < 0)
        return 0;
    return (uint64_t)bytes / MESSAGE_BYTES;
}

static uint64_t pool_waiting(const struct pool *p)
{
    int64_t parked = p->queue->parked;
    uint64_t n = (parked > 0 ? (uint64_t)parked : 0) + p->queue->waiting;
    /* Who waits is open, too: the kernel need not be asked while there are too few. */
    if (n + open_sum(p) < p->policy.length)
        return n;
    for (size_t i = 0; i < p->member_count; i++)
        n += member_waiting(p->members[i].queue);
    return n;
}

bool pool_overflows(struct worker *w, const struct pool *p, const struct conn *c,
                    struct refusal *ret)
{
    if (p->policy.length == 0 || pool_waiting(p) < p->policy.length)
        return false;
    enum reason limit = open_limit(w, p, c);
    *ret = (struct refusal){.reason = limit ? limit : REASON_QUEUE_FULL,
                            .retry_s = p->policy.retry_s,
                            .reset = p->policy.overflow == DISPATCH_RESET_TCP,
                            .whose = 1 + p->queue->id};
    return true;
}

int pool_give(struct worker *w, const struct pool *p, struct conn *c, struct conn_judgement *j)
{
    if (pool_overflows(w, p, c, &j->refusal))
        return -EDQUOT;
    /* First come, first served: nobody overtakes those who are parked, but for those who wait only
     * because of where they come from. */
    const struct queue *base = p->queue;
    bool behind = atomic_load_explicit(&base->parked, memory_order_relaxed) >
                  atomic_load_explicit(&base->stuck, memory_order_relaxed);
    enum reason limit = open_limit(w, p, c);
    int r = behind || limit ? -EAGAIN : members_give(w, p, c, j);
    return r == 0 ? 0 : park(w, p, c, j, !behind && limit == REASON_SOURCE_LIMIT);
}

static bool has_room(const struct queue *q)
{
    struct pollfd p = {.fd = q->write_fd, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && p.revents & POLLOUT;
}

bool pool_can_take(struct worker *w, const struct pool *p)
{
    if (open_limit(w, p, NULL))
        return false;
    for (size_t i = 0; i < p->member_count; i++)
        if (p->members[i].serves && !is_full(w, p, p->members[i].queue) &&
            has_room(p->members[i].queue))
            return true;
    return false;
}

/* What a program has not taken yet. */
static bool take_back(struct worker *w, struct queue *q, struct conn *ret_c,
                      struct parked *ret_parked)
{
    for (;;) {
        uint8_t buf[APPMSG_CONN_MAX];
        struct appmsg m;
        int fd = -EBADF;
        size_t count = 0;
        (void)pthread_mutex_lock(&q->lock);
        ssize_t n = fdmsg_recv(q->read_fd, buf, sizeof buf, &fd, 1, &count, MSG_DONTWAIT);
        (void)pthread_mutex_unlock(&q->lock);
        if (n <= 0 && n != -EBADMSG)
            return false;
        if (n <= 0 || count == 0)
            continue;
        *ret_parked = (struct parked){.claim = ROUTE_NONE, .since_ms = w->now_ms};
        if (appmsg_decode(&m, buf, (size_t)n) == 0) {
            ret_parked->peer = m.addr;
            ret_parked->stream = m.flags & APPMSG_STREAM;
            ret_parked->proto = m.proto < PROTO_COUNT ? m.proto : PROTO_NONE;
            ret_parked->heard = ret_parked->proto != PROTO_NONE;
        }
        *ret_c = park_conn(ret_parked, fd);
        open_take_back(w, q, ret_c);
        return true;
    }
}

static void member_drain(struct worker *w, struct queue *q)
{
    struct pool *p = pool_find(w, q->base);
    struct refusal why = {.reason = REASON_APP_STOPPED};
    struct conn c;
    struct parked parked;
    int64_t before = p ? atomic_load(&p->queue->parked) : 0;
    while (take_back(w, q, &c, &parked)) {
        if (p)
            park_pass_on(w, p, &c, &parked);
        else
            park_refuse(w, &c, &why);
    }
    /* Those that were with a member came earlier than those that were parked meanwhile. */
    if (p && before > 0 && atomic_load(&p->queue->parked) > before)
        park_rotate(w, p, before);
}

void pool_drain(struct worker *w, struct queue *q)
{
    if (q->flags & DISPATCH_MEMBER) {
        member_drain(w, q);
        return;
    }
    struct refusal why = {.reason = REASON_APP_STOPPED, .whose = 1 + q->id};
    struct conn c;
    struct parked parked;
    bool base = q->flags & DISPATCH_POOL;
    while (base ? park_take(w, q, &c, &parked) : take_back(w, q, &c, &parked))
        park_refuse(w, &c, &why);
}
