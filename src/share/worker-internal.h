#pragma once
/* The state of one dispatch thread, shared by the files of its stages: accept.c, deliver.c,
 * refuse.c and worker.c, which runs them. */

#include "share/conn.h"
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
    struct source wake;

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
    uint64_t log_second;
    uint32_t log_count;
    struct conn_judgement judgement;
    char peeked[SNIFF_BYTES_MAX];
};

/* accept.c: takes what has come, one batch a turn. */
void accept_batch(struct worker *w, struct shard *s);
/* Takes everything that is left, before the listener goes; not what comes meanwhile without end. */
void accept_rest(struct worker *w, struct shard *s);
void accept_pause(struct worker *w);
void accept_resume(struct worker *w);
void shard_update(struct worker *w, struct shard *s);

/* worker.c: a connection that is kept gets a life on the heap; `c` itself stays the caller's. */
void worker_keep(struct worker *w, const struct conn *c, const struct conn_judgement *j);
void worker_close(struct worker *w, struct conn *c);
bool worker_evict(struct worker *w);
void worker_move(struct worker *w, struct conn *c, enum conn_state state, struct list *to,
                 uint32_t after_ms);
int worker_poll(struct worker *w, struct conn *c, uint32_t events);

/* deliver.c: 0 when the socket is on its way (the caller closes its own), -EAGAIN when it must
 * wait, other errors are final. */
int deliver(struct worker *w, struct conn *c, uint32_t claim, const struct conn_judgement *j);
/* Keeps the connection until its queue has room; refuses it when too many wait. */
void deliver_wait(struct worker *w, struct conn *c, uint32_t claim);
void deliver_flush(struct worker *w, struct waitq *q);
void deliver_flush_all(struct worker *w);

/* refuse.c: answers in the client's protocol, logs the reason, and lets it go. j may be NULL. */
void refuse(struct worker *w, struct conn *c, const char *reason, const struct conn_judgement *j);
/* The line alone, of which there are only so many a second. j may be NULL. */
void refuse_log(struct worker *w, const struct conn *c, const char *reason,
                const struct conn_judgement *j);
void refuse_linger(struct worker *w, struct conn *c);
void refuse_queue(struct worker *w, struct queue *q);
