#pragma once
/* The typed channel between berthd and berth-dispatch: one SOCK_SEQPACKET packet a message, with
 * the descriptors that it is about. berthd tells what is to be served; dispatch changes nothing for
 * the connections until COMMIT, and then everything at once.
 *
 *   berthd → dispatch                                             dispatch → berthd
 *   LISTENER  a listening address, one socket a thread            COMMITTED serial
 *   QUEUE     both ends of a queue, and a note for recovery       and, answering RECOVER:
 *   OPTION    for every connection of a queue                     QUEUE..., BOARD, RECOVERED
 *   CLAIM     a route, the address it is bound to, its queue
 *   BOARD     the shared page of counters
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
    DISPATCH_TYPE_COUNT,
};

enum { DISPATCH_PROXY = 1, DISPATCH_RICH = 2 };

struct dispatchmsg {
    enum dispatchmsg_type type;
    uint32_t id; /* of the listener, queue or claim; COMMIT: serial; RECOVERED: dispatch's pid */
    uint32_t flags;
    uint32_t queue, app; /* CLAIM */
    struct addr addr;    /* LISTENER, CLAIM; Unix addresses with their path */
    bool v6only;
    struct str route; /* CLAIM: canonical text */
    struct str note;  /* QUEUE: berthd's own memory, given back by RECOVER */
    int32_t level, option;
    struct str value;
};

/* Bytes written (positive), or -EMSGSIZE. */
int dispatchmsg_encode(const struct dispatchmsg *m, void *buf, size_t size) WARN_UNUSED;
/* 0 or -EBADMSG. Slices point into buf. */
int dispatchmsg_decode(struct dispatchmsg *ret_msg, const void *buf, size_t n) WARN_UNUSED;
