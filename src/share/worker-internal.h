#pragma once
/* The state of one dispatch thread, shared by the files of its stages: accept.c, deliver.c,
 * pool.c, refuse-conn.c and worker.c, which runs them. */

#include "share/conn.h"
#include "share/parked.h"
#include "share/worker.h"

#define WORKER_EVENTS 128
#define WORKER_BATCH  64

/* This thread's socket of one listener. What can be said of every connection to it before a byte is
 * read is worked out once a snapshot. */
struct shard {
    struct source source;
    struct listener *listener; /* referenced */
    int fd;                    /* the listener's */
    bool local_matters;
    bool uniform;
    enum route_early early;
    uint32_t claim;
};

/* Connections of this thread that wait for room in one queue. */
struct waitq {
    struct source source;
    struct list link;
    struct list conns;
    struct queue *queue; /* referenced */
};

struct worker {
    size_t index;
    struct worker_limits limits;
    struct board *board;
    pthread_t thread;
    int epoll_fd, wake_fd;
    struct source wake, left;
    int left_fd;          /* not ours; -EBADF: none */
    _Atomic int *sending; /* not ours; NULL: nobody wants to know */

    /* The mailbox: under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t served;
    struct snapshot *next;
    struct queue *drain;
    bool mail;

    /* The thread's own. */
    struct snapshot *snapshot;
    struct shard **shards;
    size_t shard_count;
    uint64_t now_ms;
    uint64_t resume_ms; /* accepting is paused until then; 0: it is not */
    uint32_t conn_count;
    struct list silent, partial, linger, gone, waitqs;
    bool pools_due;    /* the keeper has something to do at once */
    uint64_t pools_ms; /* or at that time; 0: it waits for an event */
    uint64_t pools_serial;
    uint64_t log_second;
    uint32_t log_count;
    struct conn_judgement judgement;
    char peeked[SNIFF_BYTES_MAX];
};

/* accept.c: takes what has come, one batch a turn. */
void accept_batch(struct worker *w, struct shard *s);
/* Takes everything that is left, before the listener goes; not what comes meanwhile without end. */
void accept_rest(struct worker *w, struct shard *s);
/* Takes up what a killed dispatch left, one batch a turn. */
void accept_left(struct worker *w);
void accept_pause(struct worker *w);
void accept_resume(struct worker *w);
void shard_update(struct worker *w, struct shard *s);

/* worker.c: a connection that is kept gets a life on the heap; `c` itself stays the caller's, its
 * descriptor does not. worker_hold() does nothing more; NULL when memory is short. */
void worker_keep(struct worker *w, const struct conn *c, struct conn_judgement *j);
struct conn *worker_hold(struct worker *w, const struct conn *c);
/* More bytes are needed. */
void worker_await(struct worker *w, struct conn *c);
void worker_close(struct worker *w, struct conn *c);
bool worker_evict(struct worker *w);
void worker_move(struct worker *w, struct conn *c, enum conn_state state, struct list *to,
                 uint32_t after_ms);
int worker_poll(struct worker *w, struct conn *c, uint32_t events);

/* The socket that worker_sending() was called with is closed, or still ours. */
static inline void worker_sent(struct worker *w)
{
    if (w->sending)
        atomic_store_explicit(w->sending, -1, memory_order_release);
}

/* This socket is about to be somebody's. */
static inline void worker_sending(struct worker *w, int fd)
{
    if (w->sending)
        atomic_store_explicit(w->sending, fd, memory_order_release);
}

/* deliver.c: 0 when the socket is on its way (the caller closes its own), -EAGAIN when it must
 * wait; other errors are final, and j->refusal says why. */
int deliver(struct worker *w, struct conn *c, uint32_t claim, struct conn_judgement *j);
struct pool *deliver_pool(const struct worker *w, uint32_t claim);
int deliver_send(struct worker *w, struct queue *q, struct conn *c, const struct conn_judgement *j);
/* c went to q, which may be a member's. */
void deliver_count(struct worker *w, const struct queue *q, const struct conn *c);
/* Keeps the connection until its queue has room; refuses it when too many wait, or when there is no
 * pool. */
void deliver_wait(struct worker *w, struct conn *c, const struct pool *p);
void deliver_flush(struct worker *w, struct waitq *q);
void deliver_flush_all(struct worker *w);

/* pool.c: to a member, or parked; as deliver(). */
int pool_give(struct worker *w, const struct pool *p, struct conn *c,
              const struct conn_judgement *j);
/* Of this queue, which must not be a member's; NULL when it is served no more. */
struct pool *pool_find(const struct worker *w, const struct queue *q);
/* Empties a queue: what is in a member's goes to others, all else is refused. */
void pool_drain(struct worker *w, struct queue *q);
void pools_run(struct worker *w);
void pools_watch(struct worker *w, const struct snapshot *old);

/* Its program is told what was sniffed. */
static inline bool pool_is_rich(const struct pool *p)
{
    const struct queue *q = p->member_count > 0 ? p->members[0].queue : p->queue;
    return q->flags & DISPATCH_RICH;
}

/* What the policy of a pool that refuses says. */
static inline struct refusal policy_refusal(const struct pool *p)
{
    return (struct refusal){p->policy.reason ? p->policy.reason : REASON_APP_STOPPED,
                            p->policy.status, p->policy.retry_s, 1 + p->queue->id};
}

static inline void board_queue_set_parked(struct board *b, const struct queue *q)
{
    int64_t n = q->parked;
    atomic_store(&b->queues[q->id % BOARD_QUEUES_MAX].parked, n > 0 ? (uint64_t)n : 0);
}

/* refuse-conn.c: answers in the client's protocol, logs the reason, and lets it go. Without a
 * judgement the client is looked at anew, and, when it has not yet said enough, waited for. */
void refuse(struct worker *w, struct conn *c, const struct refusal *why,
            const struct conn_judgement *j);
/* The line alone, of which there are only so many a second. j may be NULL. */
void refuse_log(struct worker *w, const struct conn *c, const struct refusal *why,
                const struct conn_judgement *j);
void refusal_count(struct worker *w, const struct refusal *why);
void refuse_linger(struct worker *w, struct conn *c);
