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
    struct shared *shared;
    atomic_int diag_fd; /* owned */
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
    bool retire;
    int streams_fd; /* owned; -EBADF: none has come */
    bool mail;

    /* The thread's own. */
    struct snapshot *snapshot;
    struct shard **shards;
    size_t shard_count;
    uint64_t now_ms;
    uint64_t resume_ms; /* accepting is paused until then; 0: it is not */
    _Atomic uint32_t conn_count;
    atomic_bool retired; /* another dispatch accepts and looks after the pools */
    uint64_t rate_ms;    /* when to look for those who speak too slowly */
    struct logbuf lines[DISPATCH_LOG_COUNT];
    uint64_t lines_ms; /* when to try again to write them; 0: all is written */
    struct list silent, partial, linger, gone, waitqs;
    struct list streams; /* sources of peers' streams */
    size_t streams_count;
    bool pools_due;    /* the steward has something to do at once */
    uint64_t pools_ms; /* or at that time; 0: it waits for an event */
    uint64_t pools_serial;
    uint64_t tick_ms; /* when to look what was closed; 0: nothing is open */
    size_t tick_at;   /* the pool to begin with */
    uint64_t turn;
    uint64_t checked_turn; /* when this thread last looked, before it chose a member */
    const struct pool *checked_pool;
    uint64_t log_second;
    uint32_t log_count;
    struct addr sent_local; /* of the connection that went last, for the access log */
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
/* Polls no listener any more. */
void accept_stop(struct worker *w);
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

/* Has it go round once, from another thread. */
void worker_wake(struct worker *w);

/* deliver.c: 0 when the socket is on its way, and ours is closed; -EAGAIN when it must wait; other
 * errors are final, and j->refusal says why. */
int deliver(struct worker *w, struct conn *c, uint32_t claim, struct conn_judgement *j);
struct pool *deliver_pool(const struct worker *w, uint32_t claim);
/* e is what the queue's ledger is to say of it, or NULL; it goes with the socket. */
int deliver_send(struct worker *w, struct queue *q, struct conn *c, const struct conn_judgement *j,
                 struct ledger_entry *e);
/* c went to q, which may be a member's. */
void deliver_count(struct worker *w, const struct queue *q, const struct conn *c,
                   const struct conn_judgement *j);
/* As many wait as may? Then *ret says how one more is refused. */
bool deliver_overflows(struct worker *w, const struct pool *p, const struct conn *c,
                       struct refusal *ret);
/* Keeps the connection until its queue has room; refuses it when too many wait, or when there is no
 * pool. */
void deliver_wait(struct worker *w, struct conn *c, const struct pool *p);
void deliver_flush(struct worker *w, struct waitq *q);
void deliver_flush_all(struct worker *w);

/* open.c: what programs were given and have not closed. Sends as deliver_send() does; when the
 * queue is tracked the caller has counted the connection to it, which is undone when it is not
 * sent. */
int open_send(struct worker *w, struct queue *q, struct conn *c, const struct conn_judgement *j);
bool open_is_tracked(struct worker *w, const struct queue *q);
/* Under the queue's lock, before our copy is closed: nobody sees it closed and still counted. */
void open_note_consume(struct worker *w, struct queue *q, struct ledger_entry *e,
                       const struct conn *c);
void open_change(struct worker *w, struct queue *q, int64_t n);
/* Asks the kernel for some of those that the least busy members have, once a turn. */
void open_refresh(struct worker *w, const struct pool *p);
/* The steward looks every now and then, while there is something open. */
void open_tick(struct worker *w);
uint64_t open_sum(const struct pool *p);
/* What was taken back out of q: when it came, and for which claim, is put into c. */
void open_take_back(struct worker *w, struct queue *q, struct conn *c);
/* Whether this connection must wait until others are closed: Limit, SourceLimit, or none. */
enum reason open_limit(struct worker *w, const struct pool *p, const struct conn *c);

/* pool.c: to a member, or parked; as deliver(). */
int pool_give(struct worker *w, const struct pool *p, struct conn *c, struct conn_judgement *j);
/* To a member with room, or -EAGAIN. */
int members_give(struct worker *w, const struct pool *p, struct conn *c,
                 const struct conn_judgement *j);
bool pool_can_take(struct worker *w, const struct pool *p);
/* Do as many wait as may? Then *ret says how it is refused. */
bool pool_overflows(struct worker *w, const struct pool *p, const struct conn *c,
                    struct refusal *ret);

/* park.c: in the base queue. -EAGAIN when the kernel takes no more. */
int park(struct worker *w, const struct pool *p, struct conn *c, const struct conn_judgement *j,
         bool stuck);
bool park_take(struct worker *w, struct queue *base, struct conn *ret_c, struct parked *ret_parked);
struct conn park_conn(const struct parked *parked, int fd);
/* These two take the descriptor over. */
void park_pass_on(struct worker *w, struct pool *p, struct conn *c, const struct parked *parked);
void park_refuse(struct worker *w, const struct conn *c, const struct refusal *why);
/* Puts the first n behind the others. */
void park_rotate(struct worker *w, struct pool *p, int64_t n);
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

/* stream.c: streams that peers have dialled. */
void streams_add_consume(struct worker *w, int fd);
void streams_event(struct worker *w, struct source *s, uint32_t events);
/* Delivers what has come and ends all sources: who has the other end asks for a new one. */
void streams_end(struct worker *w);

/* limit.c: counts a connection that is kept; false when its source has too many. */
bool limit_source(struct worker *w, struct conn *c);
void limit_forget(struct worker *w, struct conn *c);
void limit_rate(struct worker *w);
void limit_adopt(struct worker *w, const struct worker_limits *limits);

/* lines.c: of the logs. j may be NULL in a refusal. */
void lines_access(struct worker *w, const struct queue *q, const struct conn *c,
                  const struct conn_judgement *j);
void lines_refusal(struct worker *w, const struct conn *c, const struct refusal *why,
                   const struct conn_judgement *j);
void lines_flush(struct worker *w);

/* What the policy of a pool that refuses says. */
static inline struct refusal policy_refusal(const struct pool *p)
{
    return (struct refusal){.reason = p->policy.reason ? p->policy.reason : REASON_APP_STOPPED,
                            .status = p->policy.status,
                            .retry_s = p->policy.retry_s,
                            .whose = 1 + p->queue->id};
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
