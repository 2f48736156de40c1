#pragma once
/* berth-upstream: takes accepted sockets from the queues that berthd gave it, connects each to the
 * address, and passes the bytes on both ways. One process, one thread, one loop.
 *
 *   attach.c  a queue again, when berthd and dispatch were both gone
 *   take.c    sockets from the queues, as long as there are descriptors
 *   link.c    one connection: named, connected, passed on, ended
 *   flow.c    one direction of it
 *   pipes.c   pipes for splice(2)
 *   target.c  where to connect; resolve.c asks for names, in a process of its own
 *   refuse.c  what a client is told that cannot be connected */

#include "base/addr.h"
#include "base/list.h"
#include "loop/loop.h"
#include "share/reason.h"
#include "upstreamd/flow.h"
#include "upstreamd/target.h"
#include "wire/appmsg.h"

#define QUEUES_MAX 64

struct queue_end {
    struct watch watch;
    struct upstream *upstream;
    int fd;                 /* owned; -EBADF: it has ended */
    struct queue_name name; /* what it is bound to */
};

struct upstream {
    struct loop loop;
    struct flow_common common;
    struct target target;
    unsigned proxy;         /* version of the header that is written; 0: none */
    bool proxied;           /* connections begin with one, which is taken off */
    uint32_t timeout_ms;    /* to connect */
    size_t link_count;      /* links that live */
    size_t link_max;        /* descriptors are for so many */
    bool ending, paused;    /* takes nothing new: for good, or until a link ends */
    struct list links;      /* all */
    struct list naming;     /* that wait for the target's addresses */
    struct list connecting; /* with a deadline, soonest first */
    struct list again;      /* to be connected in a moment */
    struct list lingering;  /* refused, with a deadline */
    struct list turns;      /* had their turn and have more to do */
    struct list gone;       /* freed when the turn is over: an event may still name them */
    struct timer deadline, turn;
    struct queue_end queues[QUEUES_MAX];
    size_t queue_count;
    struct timer attach; /* while one has ended */
    uint64_t lost_ms;    /* since when */
    uint64_t log_second;
    uint32_t log_count;
};

enum link_state {
    LINK_HEADER,     /* its own PROXY header is awaited */
    LINK_NAMING,     /* the target's addresses are */
    LINK_CONNECTING, /* to one of them */
    LINK_OPEN,
    LINK_LINGERING, /* refused; the answer is on its way */
    LINK_GONE,
};

struct link {
    struct list all;        /* in links */
    struct list state_link; /* in the list of its state */
    struct list turn_link;
    struct upstream *upstream;
    enum link_state state;
    struct end client, server;
    struct flow up, down; /* client to server, and back */
    size_t address;       /* of the target, which is tried */
    uint64_t deadline_ms;
    bool announced; /* a peer's: berth-peer has put the header in front */
    struct addr src,
        dst; /* who connected to what, as the PROXY header says; AF_UNSPEC: the socket's */
};

/* take.c */
/* The queues at descriptor 3 and on. -ENOENT when there are none. */
int take_start(struct upstream *u) WARN_UNUSED;
/* attach.c: 0 and the queue in the place of one that has ended; negative while there is none. */
int attach_queue(const struct queue_name *was, int *ret_fd) WARN_UNUSED;

/* No more than the descriptors are for, and none when it ends. */
void take_settle(struct upstream *u);

/* link.c */
void link_start_consume(struct upstream *u, int fd, const struct appmsg *m);
/* The target's addresses have come, or cannot be had. */
void links_named(struct upstream *u);
void links_init(struct upstream *u);

/* refuse.c */
/* Tells the client why, in its own protocol where it has one. True when an answer is on its way;
 * false: it is to be closed, with a reset. */
bool refuse_answer(int fd, enum reason reason);
void refuse_log(struct upstream *u, const struct addr *peer, enum reason reason, int err);
enum reason refuse_reason(int err);
