#pragma once
/* Pools: applications whose workers berthd starts itself. A pool has a base queue for each port
 * that it listens on, where connections are parked while no worker can take them; each worker has a
 * member queue beside each base. A connection that is parked while no worker lives starts one.
 *
 *   pool.c        what a pool is, and how many workers it should have
 *   pool-bind.c   its base queues, and the member queues of its workers
 *   pool-store.c  what a successor of this berthd has to know
 *   pool-config.c pools from the configuration, and changes of it
 *   worker.c      one worker: started, ready, draining, stopped, gone
 *   health.c      workers that fail, and pools that fail too often
 *   pool-notify.c what workers say of themselves
 *   pool-cgroup.c limits that the kernel keeps
 *   recycle.c     when a worker is replaced or not needed any more
 *   watched.c     the files whose change replaces workers
 *   count.c       what the kernel knows of its workers */

#include "berthd/server.h"
#include "conf/conf.h"
#include "launch/probe.h"

#define FAILURES_MAX 64

/* A configuration that pools point into. */
struct definition {
    unsigned refs;
    struct conf *conf; /* owned */
};

enum pool_state {
    POOL_WAITING, /* no worker; a connection starts one */
    POOL_RUNNING,
    POOL_PAUSED,  /* it failed too often: by itself it tries again */
    POOL_STOPPED, /* by hand, until it is started by hand */
    POOL_BLOCKED, /* its names or addresses are somebody else's: it tries again */
};

enum worker_state {
    WORKER_STARTING,
    WORKER_READY,
    WORKER_DRAINING, /* gets nothing new */
    WORKER_STOPPING, /* was sent TERM */
    WORKER_KILLED,
};
#define WORKER_STATES (WORKER_KILLED + 1)

struct pool {
    struct list link;
    struct index_node by_name; /* in pool_names */
    struct server *server;
    struct app *app;               /* its bases are app->binds */
    struct definition *definition; /* counted */
    const struct conf_app *conf;   /* in it */
    char **environment;            /* of `berth run`: owned, NULL-terminated; NULL: a clean one */
    bool leaving;                  /* it ends with its last worker */
    bool was_stopped;              /* by hand, under an earlier berthd */
    bool by_hand;                  /* from `berth run`, not from the configuration */
    enum pool_state state;
    char reason[256]; /* of PAUSED, BLOCKED */
    char notice[256]; /* what its definition asks for and this machine lacks */
    struct applog *log;
    struct list workers;
    uint32_t next_number;
    uint32_t wanted;     /* workers now, between workers_min and workers_max */
    struct timer tick;   /* health, recycling, idle; while it has workers */
    struct timer retry;  /* the pause is over, or the next start after a failure is due */
    struct timer listen; /* asks again for names and addresses that it could not have */
    uint64_t busy_ms;    /* when it last had a connection */
    uint64_t count_every_ms;
    uint64_t count_ms; /* when connections are counted next */
    uint64_t delivered_seen;
    uint64_t restarts, starts, failed;

    uint64_t failures[FAILURES_MAX]; /* ring of times */
    size_t failure_count;
    uint32_t pause_ms;       /* the last pause; the next is twice as long */
    uint64_t failed_ms;      /* the last failure */
    int64_t schedule_minute; /* of the day, when recycle_at was looked at last; -1: never */
    uint64_t stamp;          /* of the watched files */
    uint64_t changed_ms;     /* they changed then; 0: not since */
    uint64_t surplus_ms;     /* since when fewer workers may do */
};

struct worker {
    struct list link;
    struct list binds; /* members */
    struct pool *pool;
    uint32_t number;
    uint8_t instance[APPMSG_INSTANCE];
    enum worker_state state;
    pid_t pid;
    bool child;
    int pidfd; /* owned */
    struct watch pid_watch;
    struct timer timer;      /* the limit of its state */
    struct timer check;      /* of a draining one */
    struct worker *replaces; /* drains when this one is ready; NULL: none */
    bool replaced;           /* somebody replaces it */
    bool failing;            /* its end is a failure, whatever its state */
    uint64_t kept_ms;        /* one that was to replace it failed: not tried again before then */
    char why[128];           /* it is to go */
    uint64_t started_ms, ready_ms, held_ms;
    uint64_t watchdog_ms,
        watchdog_limit_ms; /* when it last spoke, how often it must; 0: need not */
    bool said_ready;
    int cgroup_fd;            /* owned; -EBADF: it has none of its own */
    uint64_t taken_before;    /* connections out of queues that it has no more */
    uint64_t taken, taken_ms; /* connections out of its queues, and when that changed */
    uint64_t memory;          /* bytes, as sampled last */
    size_t open;              /* connections, as counted last */
    char status[128];         /* sd_notify */
    struct probe probe;
    uint64_t probe_ms; /* when it was asked last */
    uint64_t bound_ms; /* when it was seen with a queue */
};

/* pool.c */
/* A pool that listens, or is BLOCKED and says why in its reason. `conf` is in the definition.
 * instance NULL: a new one. NULL: no memory. */
struct pool *pool_new(struct server *s, struct definition *d, const struct conf_app *conf,
                      const uint8_t *instance);
/* Another definition of the same name; `changed` has bits of enum conf_change. */
void pool_redefine(struct pool *p, struct definition *d, const struct conf_app *conf,
                   unsigned changed);
struct pool *pool_find(const struct server *s, const char *name);
/* Opens what it listens on and goes where its definition says. */
void pool_open(struct pool *p);
/* Its names are free at once; it ends when its workers have finished. */
void pool_leave(struct pool *p, const char *why);
/* berthd ends for good, as soon as all workers have ended. */
void pools_end(struct server *s);
/* A worker has gone. */
void pool_ended(struct pool *p);
/* No worker is needed until the next connection. */
void pool_idle(struct pool *p);
/* Looks again after that time. */
void pool_retry(struct pool *p, uint32_t ms);
/* Brings workers and state to what they should be. */
void pool_adjust(struct pool *p);
/* Whether a connection that is parked starts a worker. */
void pool_demand_update(struct pool *p);
/* Somebody wants it to run: what has failed before is forgotten. */
void pool_start(struct pool *p);
/* A connection wants it to. */
void pool_wake(struct pool *p);
void pool_stop(struct pool *p, const char *why);
void pool_pause(struct pool *p, const char *reason, uint32_t ms);
/* Starts another, which takes its place when it is ready. */
void worker_replace(struct worker *w, const char *why);
/* Each worker is replaced by one that is started before it goes. */
void pool_restart(struct pool *p, const char *why);
size_t pool_count(const struct pool *p, enum worker_state state);
/* Workers that count as the pool's: starting or ready, and not about to be replaced. */
size_t pool_active(const struct pool *p);
const char *pool_state_text(enum pool_state state);
const char *worker_state_text(enum worker_state state);
/* One worker has come or gone, or its state has changed. */
void pool_changed(struct pool *p);

/* pool-bind.c */
int pool_bases_make(struct pool *p, char reason[REASON_MAX]);
/* A queue that a dead berthd has left becomes a base, or a worker's member. */
void pool_base_adopt(struct bind *b);
void pool_member_adopt(struct bind *b, struct bind *base, struct worker *w);
int pool_bind(struct worker *w, const struct appmsg *m, pid_t pid, struct bind **ret_bind,
              char reason[REASON_MAX]);
/* A member for each base, which listens already; their reading ends, which stay theirs, are for the
 * program to inherit. */
size_t pool_pass(struct worker *w, int *fds, size_t max);
/* A worker's program listens: its member takes connections when the worker is ready. */
int pool_listen(struct bind *member, char reason[REASON_MAX]);
void pool_describe(const struct bind *b, struct dispatchmsg *m);
/* Tells dispatch the present policy of all its queues. */
void pool_tell(struct pool *p);
void worker_tell(struct worker *w);
/* Connections that wait: parked, and those in the members. */
size_t bind_waiting(const struct bind *b);
size_t pool_parked(const struct pool *p);
size_t worker_waiting(const struct worker *w);
/* Connections that were given to its members. */
uint64_t worker_delivered(const struct worker *w);
/* A queue of the worker's goes. */
void pool_member_gone(struct bind *member);
/* Connections that its program took out of its queues. */
uint64_t worker_taken(const struct worker *w);
void pool_demand_watch(struct pool *p, bool on);

/* worker.c */
struct worker *worker_start(struct pool *p, char reason[REASON_MAX]);
struct worker *worker_find(const struct server *s, const uint8_t instance[APPMSG_INSTANCE]);
struct worker *worker_find_pid(const struct server *s, pid_t pid);
struct worker *worker_new(struct pool *p, uint32_t number);
int worker_watch(struct worker *w, pid_t pid, int pidfd);
/* A worker that an earlier berthd has started goes on where it was. */
void worker_resume(struct worker *w, enum worker_state state);
void worker_listens(struct worker *w);
void worker_ready(struct worker *w);
void worker_drain(struct worker *w, const char *why);
void worker_terminate(struct worker *w, const char *why);
/* The same, and it is killed after this time, whatever its definition says. */
void worker_end(struct worker *w, const char *why, uint64_t limit_ms);
void worker_kill(struct worker *w, const char *why);
/* A child has ended, with the status of waitpid(). */
void worker_reap(struct server *s, pid_t pid, int status);
void worker_free(struct worker *w);

/* health.c */
void health_failed(struct pool *p, const char *what);
void health_forget(struct pool *p);
/* What was to take this worker's place has failed: it goes on. */
void health_kept(struct worker *w, const char *what);
/* Before the worker is freed. */
void health_done(struct worker *w);
void health_tick(struct worker *w, uint64_t now_ms);
/* It is not well: another takes its place. */
void health_unwell(struct worker *w, const char *what);
/* While it starts: has it become ready? */
void health_starting(struct worker *w);

/* pool-notify.c: the socket NOTIFY_SOCKET of all workers */
int pool_notify_start(struct server *s) WARN_UNUSED;

/* pool-cgroup.c */
/* A group with the limits of the definition; -EBADF when there are no groups here or no limits. */
int pool_cgroup_make(struct worker *w);
void pool_cgroup_remove(struct worker *w);

/* recycle.c */
void recycle_tick(struct pool *p, uint64_t now_ms);

/* watched.c */
/* Of the watched files as they are now; what is not there counts as nothing. */
uint64_t watched_stamp(const struct pool *p);
/* Workers that are started now have them as they are now. */
void watched_begin(struct pool *p);

/* count.c */
/* Counts the open connections and the memory of each worker, exactly. */
void workers_count(struct pool *p);
/* The last count is old enough for another one. */
bool workers_count_due(const struct pool *p);
/* A new dispatch is told which connections the workers have. */
void workers_open_tell(struct pool *p);
/* To all processes of the worker. */
void worker_signal(struct worker *w, int signal);
/* Another process of a worker whose first one has ended; 0: there is none. */
pid_t worker_background(const struct worker *w);

/* pool-store.c */
/* At the end of this turn. */
void pool_store_save(struct server *s);
void pool_store_now(struct server *s);
void pool_store_load(struct server *s);

/* config-place.c */
/* The path that was given, remembered for a successor; or what an earlier berthd remembered, when a
 * command has started this one; NULL: the default place. The caller's to free(). */
char *config_place(const char *given, bool by_command);
/* berthd ends for good. */
void config_place_forget(void);

/* pool-config.c */
struct definition *definition_new_consume(struct conf *c);
struct definition *definition_ref(struct definition *d);
void definition_unref(struct definition *d);
/* Reads it and makes the pools, which do not listen yet; complains to standard error. */
int config_start(struct server *s) WARN_UNUSED;
/* Dispatch is there: opens them. */
void config_open(struct server *s);
/* The differences, or the mistakes, come as text. */
int config_reload(struct server *s, bool dry_run, char **ret_text);
