/* Pools: a connection goes to the member with the fewest open ones; while no member can take it, it
 * is parked in the base queue, in the kernel, where it outlives this dispatch. One thread, the
 * keeper, moves parked ones on, in order, when a member begins to serve or gets room. */
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "ipc/fdmsg.h"
#include "share/worker-internal.h"
#include "wire/appmsg.h"

/* How often the keeper looks whether a member has room, beside the kernel's own word for it. */
#define RETRY_MS 20

struct pool *pool_find(const struct worker *w, const struct queue *base)
{
    for (size_t i = 0; base && w->snapshot && i < w->snapshot->pool_count; i++)
        if (w->snapshot->pools[i]->queue == base)
            return w->snapshot->pools[i];
    return NULL;
}

/* The least busy of those that serve and were not tried yet; among equals the next in turn. */
static struct member *member_choose(const struct pool *p, const bool *tried)
{
    struct member *best = NULL;
    uint64_t best_open = 0;
    size_t first = p->member_count ? atomic_fetch_add(&p->queue->turn, 1) % p->member_count : 0;
    for (size_t i = 0; i < p->member_count; i++) {
        size_t at = (first + i) % p->member_count;
        struct member *m = &p->members[at];
        if (!m->serves || tried[at])
            continue;
        uint64_t open = atomic_load_explicit(&m->queue->open, memory_order_relaxed);
        if (!best || open < best_open) {
            best = m;
            best_open = open;
        }
    }
    return best;
}

/* Passes the socket to a member. -EAGAIN when none that serves has room. */
static int members_give(struct worker *w, const struct pool *p, struct conn *c,
                        const struct conn_judgement *j)
{
    bool tried[POOL_MEMBERS_MAX] = {false};
    for (struct member *m; (m = member_choose(p, tried));) {
        if (deliver_send(w, m->queue, c, j) == 0) {
            deliver_count(w, m->queue, c);
            return 0;
        }
        tried[m - p->members] = true;
    }
    return -EAGAIN;
}

/* Under the base queue's lock. */
static int base_push(struct queue *base, const uint8_t bytes[PARKED_BYTES], int fd)
{
    (void)atomic_fetch_add(&base->parked, 1);
    int r = fdmsg_send(base->write_fd, bytes, PARKED_BYTES, &fd, 1, MSG_DONTWAIT);
    if (r < 0)
        (void)atomic_fetch_sub(&base->parked, 1);
    return r;
}

/* Under the base queue's lock. False when nothing is parked; what is no parked connection is thrown
 * away. */
static bool base_pop(struct queue *base, uint8_t bytes[PARKED_BYTES], struct parked *ret_parked,
                     int *ret_fd)
{
    for (;;) {
        size_t count = 0;
        ssize_t n = fdmsg_recv(base->read_fd, bytes, PARKED_BYTES, ret_fd, 1, &count, MSG_DONTWAIT);
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

static int park(struct worker *w, const struct pool *p, struct conn *c,
                const struct conn_judgement *j)
{
    uint8_t bytes[PARKED_BYTES];
    struct queue *base = p->queue;
    struct parked parked = {.proto = j->sniffed_valid ? j->sniffed.proto : PROTO_NONE,
                            .heard = j->sniffed_valid,
                            .proxy = c->proxy,
                            .claim = c->claim,
                            .since_ms = c->since_ms,
                            .peer = c->peer};
    parked_encode(&parked, bytes);
    (void)pthread_mutex_lock(&base->lock);
    worker_sending(w, c->fd);
    int r = base_push(base, bytes, c->fd);
    if (r < 0)
        worker_sent(w);
    (void)pthread_mutex_unlock(&base->lock);
    board_queue_set_parked(w->board, base);
    return r < 0 ? -EAGAIN : 0;
}

int pool_give(struct worker *w, const struct pool *p, struct conn *c,
              const struct conn_judgement *j)
{
    /* First come, first served: nobody overtakes those who are parked. */
    int r = atomic_load_explicit(&p->queue->parked, memory_order_relaxed) > 0
                ? -EAGAIN
                : members_give(w, p, c, j);
    return r == 0 ? 0 : park(w, p, c, j);
}

/* A connection that came out of a queue again. */
static struct conn conn_again(const struct worker *w, int fd)
{
    struct conn c = {.source.kind = SOURCE_CONN,
                     .state = CONN_SNIFF,
                     .fd = fd,
                     .claim = ROUTE_NONE,
                     .since_ms = w->now_ms};
    return c;
}

static bool take_parked(struct worker *w, struct queue *base, struct conn *ret_c,
                        struct parked *ret_parked)
{
    uint8_t bytes[PARKED_BYTES];
    int fd;
    (void)pthread_mutex_lock(&base->lock);
    bool taken = base_pop(base, bytes, ret_parked, &fd);
    (void)pthread_mutex_unlock(&base->lock);
    board_queue_set_parked(w->board, base);
    if (!taken)
        return false;
    *ret_c = conn_again(w, fd);
    ret_c->peer = ret_parked->peer;
    ret_c->proxy = ret_parked->proxy;
    ret_c->claim = ret_parked->claim;
    ret_c->since_ms = ret_parked->since_ms;
    return true;
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
        ssize_t n = fdmsg_recv(q->read_fd, buf, sizeof buf, &fd, 1, &count, MSG_DONTWAIT);
        if (n <= 0 && n != -EBADMSG)
            return false;
        if (n <= 0 || count == 0)
            continue;
        *ret_c = conn_again(w, fd);
        *ret_parked = (struct parked){.heard = false};
        if (appmsg_decode(&m, buf, (size_t)n) == 0) {
            ret_c->peer = m.addr;
            ret_parked->proto = m.proto < PROTO_COUNT ? m.proto : PROTO_NONE;
            ret_parked->heard = ret_parked->proto != PROTO_NONE;
        }
        return true;
    }
}

/* What was sniffed of it when it came is not kept: libberth's programs are told, so look again. */
static struct conn_judgement *judge_again(struct worker *w, const struct conn *c,
                                          const struct parked *p, bool rich)
{
    struct conn_judgement *j = &w->judgement;
    j->local.sa.sa_family = AF_UNSPEC;
    j->sniffed_valid = p->heard;
    j->sniffed.proto = p->proto;
    j->sniffed.host = j->sniffed.path = STR("");
    if (rich)
        conn_judge(c, w->snapshot->routes, CONN_WAIT_OVER, w->peeked, j);
    return j;
}

static void refuse_taken(struct worker *w, const struct conn *c, const struct refusal *why)
{
    struct conn *kept = worker_hold(w, c);
    if (kept)
        refuse(w, kept, why, NULL);
}

/* To a member, or to those who are parked, or, when the kernel takes no more, it waits here. */
static void pass_on(struct worker *w, struct pool *p, struct conn *c, const struct parked *parked)
{
    struct conn_judgement *j = judge_again(w, c, parked, pool_is_rich(p));
    if (members_give(w, p, c, j) == 0 || park(w, p, c, j) == 0) {
        c->fd = fd_close(c->fd);
        worker_sent(w);
        return;
    }
    struct conn *kept = worker_hold(w, c);
    if (kept)
        deliver_wait(w, kept, p);
}

/* Puts the first n behind the others. */
static void rotate(struct worker *w, struct pool *p, int64_t n)
{
    struct queue *base = p->queue;
    (void)pthread_mutex_lock(&base->lock);
    for (; n > 0; n--) {
        uint8_t bytes[PARKED_BYTES];
        struct parked parked;
        CLEANUP_FD int fd = -EBADF;
        if (!base_pop(base, bytes, &parked, &fd))
            break;
        worker_sending(w, fd);
        if (base_push(base, bytes, fd) == 0) {
            fd = fd_close(fd);
            worker_sent(w);
            continue;
        }
        worker_sent(w);
        struct conn c = conn_again(w, fd_take(&fd)), *kept = worker_hold(w, &c);
        if (!kept)
            continue;
        kept->peer = parked.peer;
        kept->since_ms = parked.since_ms;
        deliver_wait(w, kept, p);
    }
    (void)pthread_mutex_unlock(&base->lock);
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
            pass_on(w, p, &c, &parked);
        else
            refuse_taken(w, &c, &why);
    }
    /* Those that were with a member came earlier than those that were parked meanwhile. */
    if (p && before > 0 && atomic_load(&p->queue->parked) > before)
        rotate(w, p, before);
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
    while (base ? take_parked(w, q, &c, &parked) : take_back(w, q, &c, &parked))
        refuse_taken(w, &c, &why);
}

static bool has_room(const struct queue *q)
{
    struct pollfd p = {.fd = q->write_fd, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && p.revents & POLLOUT;
}

static bool pool_can_take(const struct pool *p)
{
    for (size_t i = 0; i < p->member_count; i++)
        if (p->members[i].serves && has_room(p->members[i].queue))
            return true;
    return false;
}

/* Moves some of the parked ones on; false when nothing more can be done now. */
static bool unpark_some(struct worker *w, struct pool *p)
{
    bool refusing = p->policy.state == DISPATCH_REFUSE;
    struct refusal why = policy_refusal(p);
    for (int i = 0; i < WORKER_BATCH; i++) {
        struct conn c;
        struct parked parked;
        if (!refusing && !pool_can_take(p))
            return false;
        if (!take_parked(w, p->queue, &c, &parked))
            return false;
        if (refusing)
            refuse_taken(w, &c, &why);
        else
            pass_on(w, p, &c, &parked);
    }
    return true;
}

static bool pool_serves(const struct pool *p)
{
    for (size_t i = 0; i < p->member_count; i++)
        if (p->members[i].serves)
            return true;
    return false;
}

void pools_run(struct worker *w)
{
    w->pools_due = false;
    w->pools_ms = 0;
    for (size_t i = 0; w->snapshot && i < w->snapshot->pool_count; i++) {
        struct pool *p = w->snapshot->pools[i];
        if (!(p->queue->flags & DISPATCH_POOL) || atomic_load(&p->queue->parked) <= 0)
            continue;
        if (unpark_some(w, p))
            w->pools_due = true;
        else if (pool_serves(p) && atomic_load(&p->queue->parked) > 0)
            w->pools_ms = w->now_ms + RETRY_MS;
    }
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
    if (w->index != 0)
        return;
    w->pools_serial++;
    w->pools_due = true;
    for (size_t i = 0; i < w->snapshot->pool_count; i++) {
        struct pool *p = w->snapshot->pools[i];
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
