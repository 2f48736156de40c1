#pragma once
/* What berthd knows: applications, what they bound, the claims that follow, the listeners that
 * claims need. One struct on main's stack holds all of it; each file below runs one part.
 *
 *   app.c      applications: who may have one
 *   bind.c     what they bound, and until when
 *   pool.h     applications whose workers berthd starts
 *   claim.c    from a bind to its claims, and conflicts
 *   listener.c the listeners that claims need
 *   dispatch.c berth-dispatch: started, told, revived, recovered from
 *   control.c  the control socket
 *   retire.c   a dispatch that another one has replaced
 *   upgrade.c, handover.c  a new berthd in the place of this one, by exec
 *   systemd.c  the service manager, and what it keeps for us
 *   holders.c  which processes hold a queue
 *   instances.c whose applications berthd remembers
 *   reserve.h  names owned by users
 *   applog.c   what the workers write
 *   metrics.c  what Prometheus asks for
 *   ownlog.c   our own log stays small
 *   report.c   berth ls, berth status */

#include <sys/types.h>

#include "base/siphash.h"
#include "berthd/applog.h"
#include "berthd/index.h"
#include "berthd/metrics-http.h"
#include "berthd/systemd.h"
#include "loop/acceptor.h"
#include "share/board.h"
#include "share/option.h"
#include "share/queue.h"
#include "share/route.h"
#include "wire/appmsg.h"
#include "wire/dispatchmsg.h"

#define REASON_MAX     4400
#define APP_NAME_MAX   64
#define OPTIONS_MAX    QUEUE_OPTIONS_MAX
#define ORPHAN_MS      5000 /* how long waiting connections wait for a successor */
#define APPS_MAX       4096
#define BINDS_MAX      BOARD_QUEUES_MAX /* two descriptors each */
#define BIND_ADDRS_MAX (2 * (APPMSG_LISTENS_MAX + APPMSG_ROUTES_MAX))

/* Small numbers; the one given back last is dealt out first. */
struct numbers {
    uint32_t *free;
    size_t free_count, free_size;
    uint32_t next, max;
};

/* The address of claims that are for peers is none: AF_UNSPEC. */
struct shared_listener {
    struct list link;
    struct index_node by_addr;
    uint32_t id;
    unsigned refs; /* claims */
    struct addr bound;
    bool v6only, proxy, listening;
    bool named; /* reserve-refuse.c: names are looked for here */
    size_t fd_count;
    int fds[DISPATCH_THREADS]; /* owned */
};

struct server {
    struct loop loop;
    uid_t uid;
    uint32_t nonce;
    uint8_t seal_key[SIPHASH_KEY];       /* seal.c */
    uint32_t silence_ms, header_wait_ms; /* as asked for on the command line; 0: not */
    struct dispatch_limits limits;       /* in force */
    size_t threads;
    bool quit_when_idle; /* started by a command, not by hand: ends when nothing is left to do */
    bool ending;         /* was asked to: waits for its workers */
    uint64_t started_ms;

    struct list apps;
    struct list pools;
    struct list binds; /* of all applications */
    struct list listeners;
    struct shared_listener peers;   /* stands for where streams of peers come in; in no list */
    struct index claims;            /* by route */
    struct index claim_hosts;       /* by scheme, host and port */
    struct index listeners_by_addr; /* shared_listener */
    struct index pool_names;
    struct numbers app_numbers, bind_numbers, claim_numbers, listener_numbers;
    struct timer idle, log_look;
    struct reserve *reserve; /* owned; reserve.h */
    struct names *names;     /* owned; names.h */
    int notify_fd;           /* owned */
    struct watch notify_watch;
    struct cgroup *cgroup; /* owned; NULL: not looked for yet, or there is none */
    bool cgroup_missing;
    struct timer store;            /* pool-store.c: writes when this turn is over */
    char *config_path;             /* NULL: the default place */
    struct definition *definition; /* the configuration; counted */
    struct applogs applogs;
    struct metrics_http metrics;
    const char *metrics_option; /* --metrics; NULL: as the configuration says */
    uint64_t started_unix_ms;
    uint64_t dispatch_restarts;

    /* dispatch.c */
    pid_t dispatch_pid; /* 0 when it is not our child */
    pid_t keeper_pid;   /* the process that shares its descriptors; 0: none known */
    int left[2];        /* owned: the queue of what a killed dispatch had in hand */
    int channel;        /* owned */
    int successor_fd;   /* listening; dispatch has a copy */
    int board_fd;
    struct board *board;
    struct watch channel_watch;
    struct timer revive;
    uint32_t revive_ms;        /* how long the next start waits */
    uint64_t dispatch_born_ms; /* when the last one was started */
    struct list retiring;      /* replaced, with connections still in hand: retire.c */
    uint32_t serial;           /* of the last COMMIT */
    uint32_t committed;        /* answered */
    bool changed;              /* since then */
    bool holding;              /* many changes are on their way: no COMMIT before the last */

    struct upgrade *upgrade; /* owned; NULL: none is under way */
    char **argv;             /* as we were started */
    int lock_fd;             /* owned */
    struct systemd systemd;
    bool control_is_given; /* the control socket is the service manager's */
    int exit_status;

    /* control.c */
    struct acceptor control;
    struct list clients;
    size_t client_count;
    uint64_t refusal_second; /* of the newest log lines about clients */
    uint32_t refusal_count;
};

struct app {
    struct list link;
    struct list binds;
    uint32_t id;
    uint8_t instance[APPMSG_INSTANCE];
    uid_t uid;
    pid_t pid; /* of `berth run`: the program has the same */
    char *name, *command;
    struct pool *pool; /* whose it is; NULL: a program of its own */
    char **routes;     /* as text: app_route(); owned, but those of a pool are in its definition */
    size_t route_count;
    struct addr listens[APPMSG_LISTENS_MAX];
    size_t listen_count;
    uint32_t flags;
    unsigned users; /* clients of the control socket that speak for it */
    int pidfd;      /* owned; -EBADF when the process is gone or was never known */
    struct watch pid_watch;
    struct server *server;
};

/* What a program bound, and the queue it takes from. */
struct bind {
    struct list link, app_link;
    struct list claims;
    struct app *app;
    struct server *server;
    uint32_t id;      /* of the queue */
    struct addr addr; /* as the program gave it; AF_UNSPEC for native ones */
    bool v6only;
    uint32_t flags;
    int write_fd, read_fd; /* owned */
    ino_t inode;           /* of the reading end */
    bool listening;
    bool orphan; /* no process holds it: its waiting connections may get a successor until the timer
                  */
    struct timer timer;
    pid_t holder;
    int holder_fd; /* pidfd, owned */
    struct watch holder_watch, write_watch;
    size_t option_count;
    struct option_value options[OPTIONS_MAX];

    /* Pools only. */
    bool base;             /* read by dispatch alone: what it holds waits for a worker */
    bool preset;           /* a base whose address is in the definition */
    uint16_t port;         /* a base's */
    uint16_t program_port; /* that the workers bind for it; 0: not known yet */
    struct list members;   /* of a base */
    struct watch demand_watch;
    struct bind *parent; /* a member's base; NULL: it is none */
    struct worker *worker;
    uint32_t recovered_parent; /* between the note and recover_finish() */
    struct list member_link;
    uint64_t delivered_before, refused_before; /* its number's counters when it was made */
};

/* There may be 100,000, so it holds the text of its route and not its 1.5 KiB of values. */
struct claim {
    struct list link;           /* of its bind */
    struct index_node by_route; /* in claims */
    struct index_node by_host;  /* in claim_hosts */
    struct bind *bind;
    struct shared_listener *listener; /* counted; its address is the claim's */
    uint64_t delivered_before;        /* the number's counter when the claim was made */
    uint32_t id;
    uint16_t host_len; /* of the route: scheme, host and port */
    uint8_t scheme;    /* enum route_scheme */
    bool told;         /* dispatch knows it */
    bool stale, kept;  /* while the claims of its bind are changed */
    char route[];      /* canonical, port filled in */
};

void numbers_init(struct numbers *n, uint32_t max);
/* UINT32_MAX when all are taken. */
uint32_t numbers_take(struct numbers *n);
void numbers_give(struct numbers *n, uint32_t number);
/* Takes this very number, which somebody has from an earlier berthd. Only before the first take. */
void numbers_reserve(struct numbers *n, uint32_t number);

/* app.c */
/* Finds the instance or creates it; `creator` is checked only then. NULL with a reason. */
struct app *app_get(struct server *s, const struct appmsg *m, const struct ucred *creator,
                    char reason[REASON_MAX], int *ret_err);
/* An application without routes, for its pool to fill. NULL without memory. */
struct app *app_new(struct server *s, const char *name, const uint8_t instance[APPMSG_INSTANCE]);
/* The process of `berth run` itself has introduced its application. */
void app_watch_pid(struct app *a, pid_t pid);
/* The values of route i, where a port may be 0: 1 or 2. */
size_t app_route(const struct app *a, size_t i, struct route ret_routes[2]);
void app_free_if_idle(struct app *a);
void app_free(struct app *a);
/* A descriptor that is readable when the process has ended; -EBADF when it has. */
int pidfd_of(pid_t pid);

/* bind.c */
/* 0 and the bind, whose reading end the caller may pass on; or a negative errno with a reason. */
int bind_get(struct app *a, const struct appmsg *m, pid_t pid, struct bind **ret_bind,
             char reason[REASON_MAX]);
struct bind *bind_find(struct server *s, uint32_t id);
/* Whether berthd may take more of them for applications and still answer people. */
bool descriptors_left(bool for_base);
/* A new queue for the address, with a name. NULL when memory or descriptors are short. */
struct bind *bind_open(struct app *a, const struct appmsg *m);
/* Tells every process that holds the queue that it listens: SO_ACCEPTCONN is answered from it. */
void bind_mark_listening(const struct bind *b);
int bind_listen(struct bind *b, char reason[REASON_MAX]);
/* What programs said through the queue itself, of which a LISTEN on the control socket is the end.
 */
void bind_read_messages(struct bind *b);
void bind_unlisten(struct bind *b);
void bind_free(struct bind *b);
/* Looks who holds the queue; nobody: the bind goes. True when somebody does. */
bool bind_check(struct bind *b);
void bind_add_option(struct bind *b, const struct option_value *o);
/* Takes both ends of a queue into a new bind. Consumes them on failure, too. NULL when memory is
 * short. */
struct bind *bind_new_consume(struct app *a, uint32_t id, int write_fd, int read_fd);
void bind_watch_holder(struct bind *b, pid_t pid);

/* claim.c */
int claims_make(struct bind *b, char reason[REASON_MAX]);
void claims_free(struct bind *b);
/* Brings the claims to what the application's routes are now. Those that stay are not touched; when
 * one of the new cannot be had, all is as before. */
int claims_update(struct bind *b, char reason[REASON_MAX]);
int claims_listen(struct bind *b, char reason[REASON_MAX]);
/* Writes a sentence when this bind shares a host with another application; else an empty one. */
void claims_notice(const struct bind *b, char reason[REASON_MAX]);
bool claims_share_host(const struct claim *c);
/* A claim that is served, of this very route, for all connections that come to the address. */
const struct claim *claim_serving(struct server *s, const struct route *r,
                                  const struct addr *bound);

/* listener.c */
/* The one for the address, opened when nobody had it. The caller has it until he unrefs it. */
int listener_get(const struct bind *b, const struct addr *bound,
                 struct shared_listener **ret_listener, char reason[REASON_MAX]);
void listener_unref(struct server *s, struct shared_listener *l);
/* Puts it where it is looked for. */
void listener_list(struct server *s, struct shared_listener *l);
void listener_unlist(struct server *s, struct shared_listener *l);

struct client;
struct handover;
struct rd;
struct wr;

/* dispatch.c: each tells dispatch and remembers that a COMMIT is due */
void dispatch_init(struct server *s);
int dispatch_start(struct server *s) WARN_UNUSED;
void dispatch_stop(struct server *s);
/* A new one, with all that this berthd knows; 0 when it serves. */
int dispatch_replace(struct server *s) WARN_UNUSED;
/* The one at this channel, which knows everything already, stays ours; is it dead by now, another
 * one is due. Consumes the channel. */
void dispatch_keep_consume(struct server *s, int channel, pid_t pid);
/* Ours, or one that retires. */
bool dispatch_is(const struct server *s, pid_t pid);
/* Whether `berth-dispatch` runs and is of our version. Writes why not. */
bool dispatch_runs(char reason[REASON_MAX]);
/* The messages by which a queue and a listener are told and remembered; the first points into
 * `note`. */
void dispatch_bind_message(const struct bind *b, uint8_t *note, struct dispatchmsg *ret_msg);
void dispatch_listener_message(const struct shared_listener *l, struct dispatchmsg *ret_msg);
void dispatch_listener(struct server *s, const struct shared_listener *l);
void dispatch_bind(struct server *s, const struct bind *b);
void dispatch_bind_note(struct server *s, const struct bind *b);
void dispatch_option(struct server *s, const struct bind *b, const struct option_value *o);
void dispatch_claim(struct server *s, const struct claim *c);
/* A claim that nobody serves: it is answered with this HTTP status. */
void dispatch_refusal(struct server *s, uint32_t id, const struct route *r,
                      const struct shared_listener *l, uint16_t status);
/* One message; the descriptors stay the caller's. Without a dispatch nothing is lost: the next one
 * is told everything. */
void dispatch_tell(struct server *s, const struct dispatchmsg *m, const int *fds, size_t fd_count);
void dispatch_limits(struct server *s);
/* dispatch-files.c: opened anew each time, so that logs may be rotated */
void dispatch_logs(struct server *s);
void dispatch_diag(struct server *s);
void dispatch_drop(struct server *s, enum dispatchmsg_type type, uint32_t id);
/* Dispatch has done everything that it was told. */
bool dispatch_is_settled(const struct server *s);
/* Waits until dispatch has done everything that it was told. False when it had done so before. */
bool dispatch_settle(struct server *s);
/* COMMIT, if anything changed; the serial to wait for. */
uint32_t dispatch_commit(struct server *s);

/* seal.c */
int seal_start(struct server *s) WARN_UNUSED;
/* Puts the seal behind the n bytes of a note about queue `id`. The new length; 0: no room. */
size_t seal_put(const struct server *s, uint32_t id, uint8_t *note, size_t n, size_t size);
/* Takes the seal off. False when it is not ours, or not for this queue. */
bool seal_check(const struct server *s, uint32_t id, struct str *note);

/* control.c */
int control_start(struct server *s) WARN_UNUSED;
void control_stop(struct server *s);
void control_committed(struct server *s);
/* The answer to a command that said COMMAND_LATER: takes the text. err 0, or negative with a
 * reason as the text. `c` NULL: nobody waits for it any more. */
void control_answer_consume(struct client *c, int err, char *text);
/* For a handover: the clients one by one, from the first (c NULL) on; false at the end. */
bool control_save(struct server *s, struct client **c, struct wr *w);
/* 0 and the client that asked for the upgrade, or NULL when this is another one. */
int control_restore(struct server *s, struct rd *r, struct client **ret_asker);
/* Serves at a socket that listens already. Consumes it. */
int control_adopt_consume(struct server *s, int fd) WARN_UNUSED;

/* retire.c */
/* Has the dispatch at this channel accept nothing more, finish what is in hand, and end. */
void retire_consume(struct server *s, int channel, pid_t pid, pid_t keeper);
bool retire_has(const struct server *s, pid_t pid);
size_t retire_count(const struct server *s);

/* upgrade.c */
/* 1: the answer comes later, to the client; or a negative errno with a reason. */
int upgrade_start(struct server *s, struct client *asker, char *reason, size_t size);
/* The client is gone: nobody is to be answered. */
void upgrade_forget(struct server *s, const struct client *asker);
/* In the new berthd: NULL when it was not started by an upgrade. */
struct handover *upgrade_came(void);
/* The lock that came with it. */
int upgrade_lock(struct handover *h);
/* Takes over what the old one left. Returns only when this berthd serves, or must not. */
int upgrade_finish(struct server *s, struct handover *h) WARN_UNUSED;
/* `berthd --trial`: would this binary, started so, take over? An exit status. */
int upgrade_trial(void);

/* instances.c: the applications that were started, also under an earlier berthd, and by whom */
void instances_add(const struct server *s, const uint8_t instance[APPMSG_INSTANCE], uid_t uid);
/* 0 and the user, or -ENOENT. */
int instances_find(const uint8_t instance[APPMSG_INSTANCE], uid_t *ret_uid) WARN_UNUSED;

/* holders.c: up to max pids of processes with a descriptor of the inode, ours and dispatch's left
 * out; a negative errno when none was found and not all could be looked at */
int holders_find(const struct server *s, ino_t inode, pid_t *ret_pids, size_t max);
bool holders_has(ino_t inode, pid_t pid);
/* Several inodes in one walk: fn is called for each descriptor found. */
int holders_walk(const struct server *s, void (*fn)(void *ctx, ino_t inode, pid_t pid), void *ctx);

/* report.c: JSON text, malloc()ed; NULL when memory is short. Command lines are for their owner and
 * for root. */
char *report_list(struct server *s, uid_t viewer);
char *report_status(struct server *s);
/* Connections that a claim brought. */
uint64_t report_delivered(struct server *s, const struct claim *c);
/* "NAME (pid 1, python3, user joe)" */
void report_owner(const struct bind *b, char *buf, size_t size);

/* ownlog.c */
void ownlog_start(struct server *s);
void ownlog_bound(void);

/* main.c: one source of text for failed binds */
void server_idle_check(struct server *s);
