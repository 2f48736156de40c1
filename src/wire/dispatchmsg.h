#pragma once
/* The typed channel between berthd and berth-dispatch: one SOCK_SEQPACKET packet a message, with
 * the descriptors that it is about. berthd tells what is to be served; dispatch changes nothing for
 * the connections until COMMIT, and then everything at once.
 *
 *   berthd → dispatch                                             dispatch → berthd
 *   LISTENER  a listening address, one socket a thread            COMMITTED serial
 *   QUEUE     both ends of a queue, its policy, a note            and, answering RECOVER:
 *   OPTION    for every connection of a queue                     QUEUE..., BOARD, RECOVERED
 *   CLAIM     a route, the address it is bound to, its queue      RETIRED: nothing is left here
 *   BOARD     the shared page of counters
 *   LIMITS    of all connections that are undecided
 *   LOG       where lines of one kind go: a descriptor, or none
 *   DIAG      sock_diag sockets, one a thread
 *   OPEN      a connection that a worker has had since before this dispatch was started
 *   SOURCE    one end of a pair on which a peer's streams come (wire/streammsg.h)
 *   RETIRE    accept nothing more, finish what is in hand: another dispatch has taken over
 *   DROP_LISTENER, DROP_QUEUE, DROP_CLAIM, RESET (all of them)
 *   COMMIT    serial
 *   RECOVER   a new berthd asks for what the dead one had given */

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/fd.h"
#include "base/str.h"

#define DISPATCHMSG_MAX     32768
#define DISPATCHMSG_FDS_MAX 64
#define DISPATCH_THREADS    64

enum dispatchmsg_type {
    DISPATCH_LISTENER = 1,
    DISPATCH_QUEUE,
    DISPATCH_OPTION,
    DISPATCH_CLAIM,
    DISPATCH_BOARD,
    DISPATCH_DROP_LISTENER,
    DISPATCH_DROP_QUEUE,
    DISPATCH_DROP_CLAIM,
    DISPATCH_RESET,
    DISPATCH_COMMIT,
    DISPATCH_COMMITTED,
    DISPATCH_RECOVER,
    DISPATCH_RECOVERED,
    DISPATCH_LIMITS,
    DISPATCH_LOG,
    DISPATCH_DIAG,
    DISPATCH_OPEN,
    DISPATCH_RETIRE,
    DISPATCH_RETIRED,
    DISPATCH_SOURCE,
    DISPATCH_TYPE_COUNT,
};

/* POOL: a base queue. Connections are parked in it while it has no member; only dispatch reads it.
 * MEMBER: the queue of one worker of a pool. PROXIED: its program expects a PROXY header.
 */
enum {
    DISPATCH_PROXY = 1,
    DISPATCH_RICH = 2,
    DISPATCH_POOL = 4,
    DISPATCH_MEMBER = 8,
    DISPATCH_PROXIED = 16,
};

enum dispatch_log { DISPATCH_LOG_ACCESS, DISPATCH_LOG_REFUSAL, DISPATCH_LOG_COUNT };

/* HOLD: a member that drains gets nothing new, and what waits in it goes to others. REFUSE: what
 * comes, and what is parked, is refused with `reason`. */
enum dispatch_queue_state { DISPATCH_SERVE, DISPATCH_HOLD, DISPATCH_REFUSE, DISPATCH_STATE_COUNT };
enum dispatch_overflow { DISPATCH_ANSWER, DISPATCH_RESET_TCP, DISPATCH_OVERFLOW_COUNT };

/* How a queue treats its connections. A number that is 0 means: no limit. */
struct dispatch_policy {
    uint8_t state;        /* enum dispatch_queue_state */
    uint8_t overflow;     /* enum dispatch_overflow: when `length` is reached */
    uint8_t reason;       /* enum reason; REFUSE */
    uint16_t status;      /* HTTP; REFUSE; 0: the reason's own */
    uint32_t retry_s;     /* Retry-After of an answer 503 */
    uint32_t length;      /* connections that wait */
    uint32_t patience_ms; /* an HTTP caller that has waited so long gets 503 */
    uint32_t connections; /* handed over and open */
    uint32_t per_source;  /* of them, from one address */
};

/* Times in milliseconds, of a connection whose name is not known yet. */
struct dispatch_limits {
    uint32_t silence_ms;     /* no byte at all: the fallback's turn */
    uint32_t header_wait_ms; /* from the first byte until the name is known */
    uint32_t min_rate;       /* bytes a second, from the first byte on; 0: any */
    uint32_t sniff_bytes;    /* a name must be known by then */
    uint32_t connections;    /* held by all threads; beyond it a thread's oldest goes */
    uint32_t per_source;     /* of them, from one address; 0: any */
};

struct dispatchmsg {
    enum dispatchmsg_type type;
    uint32_t id; /* of the listener, queue or claim; COMMIT: serial; RECOVERED: dispatch's pid; LOG:
                    enum dispatch_log */
    uint32_t flags;                /* RECOVERED: the keeper's pid, or 0 */
    uint32_t parent;               /* QUEUE: the base queue of a MEMBER */
    struct dispatch_policy policy; /* QUEUE */
    struct dispatch_limits limits; /* LIMITS */
    uint32_t queue, app;           /* CLAIM; OPEN: the member */
    uint16_t refuse;  /* CLAIM: nobody serves it, and this HTTP status says so; 0: somebody does */
    struct addr addr; /* LISTENER, CLAIM; OPEN: the local one; Unix addresses with their path */
    bool v6only;
    struct addr peer; /* OPEN */
    uint64_t cookie;  /* OPEN: SO_COOKIE of the socket */
    struct str route; /* CLAIM: canonical text */
    struct str note;  /* QUEUE: berthd's own memory, given back by RECOVER */
    struct str name;  /* QUEUE: of the application, for the lines of LOG */
    int32_t level, option;
    struct str value;
};

/* Bytes written (positive), or -EMSGSIZE. */
int dispatchmsg_encode(const struct dispatchmsg *m, void *buf, size_t size) WARN_UNUSED;
/* 0 or -EBADMSG. Slices point into buf. */
int dispatchmsg_decode(struct dispatchmsg *ret_msg, const void *buf, size_t n) WARN_UNUSED;
