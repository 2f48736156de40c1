/* Parking: a socket that no member can take waits in the base queue, in the kernel, where it
 * outlives this dispatch. The steward goes through what is parked, from the oldest on: passes on
 * what a member has room for, refuses whom it was told to and who has waited too long, and leaves
 * the order of all others as it was. */
#include <sys/epoll.h>
#include <sys/socket.h>

#include "ipc/fdmsg.h"
#include "share/worker-internal.h"

/* How often is looked whether a member has room, beside the kernel's own word for it. */
#define RETRY_MS    20
#define PATIENCE_MS 100

/* Under the base queue's lock. */
static int base_push(struct queue *base, const struct parked *parked, int fd)
{
    uint8_t bytes[PARKED_BYTES];
    parked_encode(parked, bytes);
    (void)atomic_fetch_add(&base->parked, 1);
    int r = fdmsg_send(base->write_fd, bytes, PARKED_BYTES, &fd, 1, MSG_DONTWAIT);
    if (r < 0)
        (void)atomic_fetch_sub(&base->parked, 1);
    return r;
}

/* Under the base queue's lock. False when nothing is parked; what is no parked connection is thrown
 * away. */
static bool base_pop(struct queue *base, struct parked *ret_parked, int *ret_fd)
{
    for (;;) {
        uint8_t bytes[PARKED_BYTES];
        size_t count = 0;
        ssize_t n = fdmsg_recv(base->read_fd, bytes, sizeof bytes, ret_fd, 1, &count, MSG_DONTWAIT);
        if (n <= 0 && n != -EBADMSG) {
            atomic_store(&base->parked, 0);
            return false;
        }
        (void)atomic_fetch_sub(&base->parked, 1);
        if (n > 0 && count == 1 && parked_decode(ret_parked, bytes, (size_t)n) == 0)
            return true;
        if (n > 0 && count == 1)
            (void)fd_close(*ret_fd);
    }
}

/* The oldest, which stays where it is. */
static bool base_peek(const struct queue *base, struct parked *ret_parked)
{
    uint8_t bytes[PARKED_BYTES];
    ssize_t n = recv(base->read_fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
    return n > 0 && parked_decode(ret_parked, bytes, (size_t)n) == 0;
}

static void board_parked(struct worker *w, const struct queue *q)
{
    int64_t n = q->parked;
    atomic_store_explicit(&w->board->queues[q->id % BOARD_QUEUES_MAX].parked,
                          n > 0 ? (uint64_t)n : 0, memory_order_relaxed);
}

int park(struct worker *w, const struct pool *p, struct conn *c, const struct conn_judgement *j,
         bool stuck)
{
    struct queue *base = p->queue;
    struct parked parked = {.proto = j->sniffed_valid ? j->sniffed.proto : PROTO_NONE,
                            .heard = j->sniffed_valid,
                            .proxy = c->proxy,
                            .stream = c->stream,
                            .claim = c->claim,
                            .since_ms = c->since_ms,
                            .peer = c->peer};
    (void)pthread_mutex_lock(&base->lock);
    worker_sending(w, c->fd);
    int r = base_push(base, &parked, c->fd);
    /* Before another thread can take it out again and pass it on. */
    if (r == 0)
        c->fd = fd_close(c->fd);
    worker_sent(w);
    if (r == 0 && stuck)
        (void)atomic_fetch_add(&base->stuck, 1);
    board_parked(w, base);
    (void)pthread_mutex_unlock(&base->lock);
    return r < 0 ? -EAGAIN : 0;
}

struct conn park_conn(const struct parked *parked, int fd)
{
    return (struct conn){.source.kind = SOURCE_CONN,
                         .state = CONN_SNIFF,
                         .fd = fd,
                         .proxy = parked->proxy,
                         .stream = parked->stream,
                         .parked = true,
                         .claim = parked->claim,
                         .since_ms = parked->since_ms,
                         .peer = parked->peer};
}

bool park_take(struct worker *w, struct queue *base, struct conn *ret_c, struct parked *ret_parked)
{
    int fd;
    (void)pthread_mutex_lock(&base->lock);
    bool taken = base_pop(base, ret_parked, &fd);
    board_parked(w, base);
    (void)pthread_mutex_unlock(&base->lock);
    if (taken)
        *ret_c = park_conn(ret_parked, fd);
    return taken;
}

/* What was sniffed of it when it came is not kept: libberth's programs are told, so look again. */
static struct conn_judgement *judge_again(struct worker *w, const struct conn *c,
                                          const struct parked *parked, bool rich)
{
    struct conn_judgement *j = &w->judgement;
    j->local.sa.sa_family = AF_UNSPEC;
    j->sniffed_valid = parked->heard;
    j->sniffed.proto = parked->proto;
    j->sniffed.host = j->sniffed.path = STR("");
    if (rich || w->snapshot->logs[DISPATCH_LOG_ACCESS])
        conn_judge(c, w->snapshot->routes, CONN_WAIT_OVER, w->peeked, j);
    return j;
}

void park_refuse(struct worker *w, const struct conn *c, const struct refusal *why)
{
    struct conn *kept = worker_hold(w, c);
    if (kept)
        refuse(w, kept, why, NULL);
}

static void wait_here(struct worker *w, const struct pool *p, const struct conn *c)
{
    struct conn *kept = worker_hold(w, c);
    if (kept)
        deliver_wait(w, kept, p);
}

static bool give(struct worker *w, const struct pool *p, struct conn *c,
                 const struct parked *parked)
{
    return members_give(w, p, c, judge_again(w, c, parked, pool_is_rich(p))) == 0;
}

void park_pass_on(struct worker *w, struct pool *p, struct conn *c, const struct parked *parked)
{
    if (!open_limit(w, p, c) && give(w, p, c, parked))
        return;
    if (park(w, p, c, judge_again(w, c, parked, false), false) < 0)
        wait_here(w, p, c);
}

/* Under the lock; the descriptor goes with it. */
static void push_back(struct worker *w, struct pool *p, const struct parked *parked, int fd)
{
    worker_sending(w, fd);
    if (base_push(p->queue, parked, fd) == 0) {
        (void)fd_close(fd);
        worker_sent(w);
        return;
    }
    worker_sent(w);
    struct conn c = park_conn(parked, fd);
    wait_here(w, p, &c);
}

void park_rotate(struct worker *w, struct pool *p, int64_t n)
{
    struct parked parked;
    int fd;
    (void)pthread_mutex_lock(&p->queue->lock);
    for (; n > 0 && base_pop(p->queue, &parked, &fd); n--)
        push_back(w, p, &parked, fd);
    (void)pthread_mutex_unlock(&p->queue->lock);
}

static bool is_late(const struct worker *w, const struct pool *p, const struct parked *parked)
{
    return p->policy.patience_ms && parked->since_ms + p->policy.patience_ms <= w->now_ms;
}

/* Only somebody who understands "come again later" is told so. */
static bool speaks_http(struct worker *w, const struct conn *c, struct parked *parked)
{
    if (!parked->heard) {
        struct conn_judgement *j = &w->judgement;
        j->local.sa.sa_family = AF_UNSPEC;
        conn_judge(c, w->snapshot->routes, CONN_WAIT_BYTES, w->peeked, j);
        parked->heard = j->sniffed_valid;
        parked->proto = j->sniffed_valid ? j->sniffed.proto : PROTO_NONE;
    }
    return parked->proto == PROTO_HTTP || parked->proto == PROTO_H2;
}

/* One way through what is parked. */
struct pass {
    struct pool *pool;
    bool can_take; /* some member has room */
    int64_t kept;  /* they go to the end, all of them: that leaves their order as it is */
    struct list refused;
    struct refusal late;
};

static void pass_refuse(struct worker *w, struct pass *s, const struct conn *c)
{
    struct conn *kept = worker_hold(w, c);
    if (kept)
        worker_move(w, kept, CONN_SNIFF, &s->refused, 0);
}

static void pass_one(struct worker *w, struct pass *s, struct parked *parked, int fd)
{
    struct pool *p = s->pool;
    struct conn c = park_conn(parked, fd);
    if (p->policy.state == DISPATCH_REFUSE ||
        (is_late(w, p, parked) && speaks_http(w, &c, parked))) {
        pass_refuse(w, s, &c);
        return;
    }
    enum reason limit = s->can_take ? open_limit(w, p, &c) : REASON_NONE;
    if (s->can_take && !limit && give(w, p, &c, parked)) {
        s->can_take = pool_can_take(w, p);
        return;
    }
    if (limit == REASON_SOURCE_LIMIT)
        (void)atomic_fetch_add(&p->queue->stuck, 1);
    else
        s->can_take = false;
    s->kept++;
    push_back(w, p, parked, fd);
}

/* Is there anything to be done with the oldest? */
static bool pass_wanted(struct worker *w, const struct pass *s)
{
    struct parked oldest;
    if (s->pool->policy.state == DISPATCH_REFUSE || s->can_take)
        return true;
    return s->pool->policy.patience_ms && base_peek(s->pool->queue, &oldest) &&
           is_late(w, s->pool, &oldest);
}

static void pass_answer(struct worker *w, struct pass *s)
{
    bool refusing = s->pool->policy.state == DISPATCH_REFUSE;
    struct refusal why = refusing ? policy_refusal(s->pool) : s->late;
    list_for_each(c, &s->refused, struct conn, link)
    {
        worker_move(w, c, CONN_SNIFF, &w->silent, w->limits.silence_ms);
        refuse(w, c, &why, NULL);
    }
}

/* True when there is more to be done at once. Nobody parks meanwhile, so that the order holds. */
static bool pass_run(struct worker *w, struct pool *p)
{
    struct pass s = {.pool = p,
                     .can_take = p->policy.state != DISPATCH_REFUSE && pool_can_take(w, p),
                     .late = {.reason = REASON_PATIENCE,
                              .retry_s = p->policy.retry_s,
                              .whose = 1 + p->queue->id}};
    list_init(&s.refused);
    (void)pthread_mutex_lock(&p->queue->lock);
    int64_t left = p->queue->parked;
    atomic_store(&p->queue->stuck, 0);
    for (int done = 0; left > 0; left--, done++) {
        struct parked parked;
        int fd;
        if (s.kept == 0 && (done >= WORKER_BATCH || !pass_wanted(w, &s)))
            break;
        if (!base_pop(p->queue, &parked, &fd))
            break;
        pass_one(w, &s, &parked, fd);
    }
    board_parked(w, p->queue);
    bool more = s.kept == 0 && left > 0 && pass_wanted(w, &s);
    (void)pthread_mutex_unlock(&p->queue->lock);
    pass_answer(w, &s);
    return more;
}

static bool pool_serves(const struct pool *p)
{
    for (size_t i = 0; i < p->member_count; i++)
        if (p->members[i].serves)
            return true;
    return false;
}

/* What another dispatch parked is found when our own are gone: to count means to go through all
 * that is parked. */
static void recount(struct worker *w, struct queue *base)
{
    if (!base->recount || base->parked > 0)
        return;
    base->recount = false;
    (void)pthread_mutex_lock(&base->lock);
    base->parked = queue_parked(base);
    board_parked(w, base);
    (void)pthread_mutex_unlock(&base->lock);
}

static void soon(uint64_t *at, uint64_t when)
{
    if (*at == 0 || when < *at)
        *at = when;
}

static void pool_run(struct worker *w, struct pool *p)
{
    struct queue *base = p->queue;
    recount(w, base);
    if (base->parked <= 0 || base->rest_ms > w->now_ms) {
        if (base->parked > 0)
            soon(&w->pools_ms, base->rest_ms);
        return;
    }
    if (pass_run(w, p) || (base->recount && base->parked <= 0)) {
        w->pools_due = true;
        return;
    }
    /* A way through all that wait because of their source is dear: not more often than this. */
    base->rest_ms = base->stuck > 0 ? w->now_ms + RETRY_MS : 0;
    if (base->parked > 0 && pool_serves(p))
        soon(&w->pools_ms, w->now_ms + RETRY_MS);
    else if (base->parked > 0 && p->policy.patience_ms)
        soon(&w->pools_ms, w->now_ms + PATIENCE_MS);
}

void pools_run(struct worker *w)
{
    w->pools_due = false;
    w->pools_ms = 0;
    /* What is parked is the successor's. */
    if (w->retired)
        return;
    for (size_t i = 0; w->snapshot && i < w->snapshot->pool_count; i++)
        if (w->snapshot->pools[i]->queue->flags & DISPATCH_POOL)
            pool_run(w, w->snapshot->pools[i]);
}

static void watch(struct worker *w, struct queue *q, int fd, uint32_t events)
{
    struct epoll_event e = {.events = events | EPOLLET, .data.ptr = &q->source};
    if (!q->watched)
        q->watched = epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0;
    q->watched_for = w->pools_serial;
}

static void unwatch(struct worker *w, struct queue *q, int fd)
{
    if (!q->watched || q->watched_for == w->pools_serial)
        return;
    (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    q->watched = false;
}

/* An edge at the base's reading end: something was parked. At a member's writing end: it has room.
 */
void pools_watch(struct worker *w, const struct snapshot *old)
{
    if (w != w->shared->steward)
        return;
    w->pools_serial++;
    w->pools_due = true;
    for (size_t i = 0; i < w->snapshot->pool_count; i++) {
        struct pool *p = w->snapshot->pools[i];
        p->queue->rest_ms = 0;
        if (p->queue->flags & DISPATCH_POOL)
            watch(w, p->queue, p->queue->read_fd, EPOLLIN);
        for (size_t k = 0; k < p->member_count; k++)
            watch(w, p->members[k].queue, p->members[k].queue->write_fd, EPOLLOUT);
    }
    for (size_t i = 0; old && i < old->pool_count; i++) {
        struct pool *p = old->pools[i];
        unwatch(w, p->queue, p->queue->read_fd);
        for (size_t k = 0; k < p->member_count; k++)
            unwatch(w, p->members[k].queue, p->members[k].queue->write_fd);
    }
}
