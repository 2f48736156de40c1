/* Deliver: the accepted socket goes to its application's queue in one message. A queue without room
 * keeps a bounded number of connections waiting here, in order; an edge of EPOLLOUT moves them on.
 */
#include <sys/epoll.h>
#include <sys/socket.h>

#include <stdlib.h>

#include "base/log.h"
#include "ipc/fdmsg.h"
#include "share/worker-internal.h"
#include "wire/appmsg.h"
#include "wire/dispatchmsg.h"

static struct appmsg message_of(const struct queue *q, const struct conn *c,
                                const struct conn_judgement *j)
{
    struct appmsg m = {.type = APPMSG_CONN, .addr = c->peer};
    if (j->sniffed_valid)
        m.proto = (uint8_t)j->sniffed.proto;
    if (c->stream)
        m.flags |= APPMSG_STREAM;
    if (q->flags & DISPATCH_RICH) {
        m.flags |= APPMSG_RICH;
        socklen_t len = sizeof m.local.un;
        if (getsockname(c->fd, &m.local.sa, &len) == 0)
            m.local = addr_from(&m.local.sa, len);
    }
    if (m.flags & APPMSG_RICH && j->sniffed_valid) {
        m.host = j->sniffed.host;
        m.path = j->sniffed.path.n <= ROUTE_PATH_MAX ? j->sniffed.path : STR("");
    }
    return m;
}

/* Under the queue's lock. Our copy goes at once, not with the batch: until then a program that
 * closes its own still has the socket in its epoll set, and the client does not see the end. The
 * counter tells the program when that is, as it may well run before us. */
static int send_and_close(struct worker *w, struct queue *q, struct conn *c, struct appmsg *m,
                          struct ledger_entry *e)
{
    uint8_t buf[APPMSG_CONN_MAX];
    m->flags |= handing_mark(&q->handing);
    int n = appmsg_encode(m, buf, sizeof buf);
    if (n < 0)
        return n;
    worker_sending(w, c->fd);
    int r = fdmsg_send(q->write_fd, buf, (size_t)n, &c->fd, 1, MSG_DONTWAIT);
    if (r < 0) {
        worker_sent(w);
        return r;
    }
    if (e)
        open_note_consume(w, q, e, c);
    c->fd = fd_close(c->fd);
    worker_sent(w);
    handing_closed(&q->handing);
    return 0;
}

int deliver_send(struct worker *w, struct queue *q, struct conn *c, const struct conn_judgement *j,
                 struct ledger_entry *e)
{
    struct appmsg m = message_of(q, c, j);
    unsigned options = atomic_load_explicit(&q->option_count, memory_order_acquire);
    for (unsigned i = 0; i < options; i++)
        option_apply(c->fd, &q->options[i]);
    if (w->snapshot->logs[DISPATCH_LOG_ACCESS])
        conn_local(c->fd, &w->sent_local);
    (void)pthread_mutex_lock(&q->lock);
    int r = send_and_close(w, q, c, &m, e);
    (void)pthread_mutex_unlock(&q->lock);
    /* Too many of our descriptors are in flight or the kernel is short: both pass. */
    return r == -ETOOMANYREFS || r == -ENOBUFS || r == -ENOMEM ? -EAGAIN : r;
}

struct pool *deliver_pool(const struct worker *w, uint32_t claim)
{
    return claim < w->snapshot->claim_count ? w->snapshot->targets[claim].pool : NULL;
}

void deliver_count(struct worker *w, const struct queue *q, const struct conn *c,
                   const struct conn_judgement *j)
{
    if (w->snapshot->logs[DISPATCH_LOG_ACCESS])
        lines_access(w, q, c, j);
    board_add(&w->board->queues[q->id % BOARD_QUEUES_MAX].delivered, 1);
    if (q->base)
        board_add(&w->board->queues[q->base->id % BOARD_QUEUES_MAX].delivered, 1);
    if (c->claim != ROUTE_NONE)
        board_add(&w->board->delivered[c->claim % BOARD_CLAIMS_MAX], 1);
    if (log_level() >= LOG_DEBUG)
        log_debug("delivered queue=%u claim=%u", q->id, c->claim);
}

static struct waitq *waitq_find(struct worker *w, const struct queue *q)
{
    list_for_each(wait, &w->waitqs, struct waitq, link) if (wait->queue == q) return wait;
    return NULL;
}

static bool is_pool(const struct pool *p)
{
    return p->queue->flags & DISPATCH_POOL;
}

/* Why there is nothing to deliver to. */
static struct refusal target_refusal(const struct target *t)
{
    if (t && t->refuse)
        return (struct refusal){.reason = REASON_RESERVED, .status = t->refuse};
    if (!t || !t->pool)
        return (struct refusal){.reason = REASON_APP_STOPPED};
    return policy_refusal(t->pool);
}

/* A queue of its own with a limit of open connections. -EBUSY: only its source has to wait. */
static int pass_limited(struct worker *w, const struct pool *p, struct conn *c,
                        const struct conn_judgement *j)
{
    enum reason limit = open_limit(w, p, c);
    if (limit)
        return limit == REASON_SOURCE_LIMIT ? -EBUSY : -EAGAIN;
    if (open_is_tracked(w, p->queue))
        open_change(w, p->queue, 1);
    return open_send(w, p->queue, c, j);
}

/* Into the queue, or to one of its members. */
static int pass(struct worker *w, const struct pool *p, struct conn *c, struct conn_judgement *j)
{
    if (is_pool(p))
        return pool_give(w, p, c, j);
    if (p->policy.connections || p->policy.per_source)
        return pass_limited(w, p, c, j);
    int r = deliver_send(w, p->queue, c, j, NULL);
    if (r == 0)
        deliver_count(w, p->queue, c, j);
    return r;
}

int deliver(struct worker *w, struct conn *c, uint32_t claim, struct conn_judgement *j)
{
    const struct target *t = claim < w->snapshot->claim_count ? &w->snapshot->targets[claim] : NULL;
    c->claim = claim;
    if (!t || t->refuse || !t->pool || t->pool->policy.state == DISPATCH_REFUSE) {
        j->refusal = target_refusal(t);
        return -ECONNREFUSED;
    }
    const struct pool *p = t->pool;
    /* First come, first served: nobody overtakes those who wait. */
    if (!list_empty(&w->waitqs) && waitq_find(w, p->queue))
        return -EAGAIN;
    if (c->polled) {
        /* The open file lives on in the program: closing ours would leave it in the set for ever.
         */
        (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
        c->polled = false;
    }
    int r = pass(w, p, c, j);
    if (r == -EBUSY)
        return -EAGAIN;
    if (r < 0 && r != -EAGAIN && r != -EDQUOT)
        j->refusal = (struct refusal){.reason = REASON_APP_STOPPED, .whose = 1 + p->queue->id};
    return r;
}

static struct waitq *waitq_get(struct worker *w, struct queue *q)
{
    struct waitq *wait = waitq_find(w, q);
    if (wait)
        return wait;
    wait = calloc(1, sizeof *wait);
    if (!wait)
        return NULL;
    wait->source.kind = SOURCE_WAITQ;
    wait->queue = queue_ref(q);
    list_init(&wait->conns);
    list_append(&w->waitqs, &wait->link);
    struct epoll_event e = {.events = EPOLLOUT | EPOLLET, .data.ptr = wait};
    (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, q->write_fd, &e);
    return wait;
}

/* The event that is being handled may name it: it is emptied here and freed when the turn is over.
 */
static void waitq_free(struct worker *w, struct waitq *wait)
{
    (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, wait->queue->write_fd, NULL);
    queue_unref(wait->queue);
    list_remove(&wait->link);
    free(wait);
}

/* In a pool those who are parked count, too, and were counted before. */
static uint32_t waiting_max(const struct pool *p)
{
    return p->policy.length ? p->policy.length : QUEUE_WAITING_MAX;
}

static struct refusal overflow_refusal(struct worker *w, const struct pool *p, const struct conn *c)
{
    enum reason limit = open_limit(w, p, c);
    return (struct refusal){.reason = limit ? limit : REASON_QUEUE_FULL,
                            .retry_s = p->policy.retry_s,
                            .reset = p->policy.overflow == DISPATCH_RESET_TCP,
                            .whose = 1 + p->queue->id};
}

bool deliver_overflows(struct worker *w, const struct pool *p, const struct conn *c,
                       struct refusal *ret)
{
    if (atomic_load(&p->queue->waiting) < waiting_max(p))
        return false;
    *ret = overflow_refusal(w, p, c);
    return true;
}

void deliver_wait(struct worker *w, struct conn *c, const struct pool *p)
{
    struct queue *q = p ? p->queue : NULL;
    struct waitq *wait = q && !atomic_load(&q->dropped) ? waitq_get(w, q) : NULL;
    if (!wait) {
        refuse(w, c, &(struct refusal){.reason = REASON_APP_STOPPED, .whose = q ? 1 + q->id : 0},
               NULL);
        return;
    }
    struct refusal why;
    if (atomic_fetch_add(&q->waiting, 1) >= waiting_max(p)) {
        (void)atomic_fetch_sub(&q->waiting, 1);
        why = overflow_refusal(w, p, c);
        refuse(w, c, &why, NULL);
        return;
    }
    if (c->polled)
        (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    c->polled = false;
    board_add(&w->board->waiting, 1);
    worker_move(w, c, CONN_WAIT, &wait->conns, 0);
}

static void unwait(struct worker *w, struct waitq *wait)
{
    (void)atomic_fetch_sub(&wait->queue->waiting, 1);
    board_add(&w->board->waiting, -1);
}

/* What was sniffed of it when it came is not kept: libberth's programs are told, so look again. */
static void judge_waiting(struct worker *w, const struct conn *c, const struct pool *p)
{
    struct conn_judgement *j = &w->judgement;
    j->sniffed_valid = false;
    j->local.sa.sa_family = AF_UNSPEC;
    if (pool_is_rich(p) || w->snapshot->logs[DISPATCH_LOG_ACCESS])
        conn_judge(c, w->snapshot->routes, CONN_WAIT_OVER, w->peeked, j);
}

/* -EAGAIN: it waits on, and all behind it; -EBUSY: it alone. */
static int pass_waiting(struct worker *w, const struct pool *p, struct conn *c,
                        struct refusal *ret_why)
{
    if (!p || p->policy.state == DISPATCH_REFUSE) {
        *ret_why = p ? policy_refusal(p) : (struct refusal){.reason = REASON_APP_STOPPED};
        return -ECONNREFUSED;
    }
    *ret_why = (struct refusal){.reason = REASON_APP_STOPPED, .whose = 1 + p->queue->id};
    judge_waiting(w, c, p);
    int r = pass(w, p, c, &w->judgement);
    if (r == -EDQUOT)
        *ret_why = w->judgement.refusal;
    return r;
}

void deliver_flush(struct worker *w, struct waitq *wait)
{
    bool dropped = atomic_load(&wait->queue->dropped);
    const struct pool *p = dropped ? NULL : pool_find(w, wait->queue);
    list_for_each(c, &wait->conns, struct conn, link)
    {
        struct refusal why;
        int r = pass_waiting(w, p, c, &why);
        if (r == -EAGAIN)
            return;
        if (r == -EBUSY)
            continue;
        unwait(w, wait);
        if (r == 0)
            worker_close(w, c);
        else
            refuse(w, c, &why, NULL);
    }
}

void deliver_flush_all(struct worker *w)
{
    list_for_each(wait, &w->waitqs, struct waitq, link)
    {
        deliver_flush(w, wait);
        if (list_empty(&wait->conns))
            waitq_free(w, wait);
    }
}
