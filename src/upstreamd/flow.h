#pragma once
/* One direction of a connection that is passed on: bytes from one socket to another. Small ones by
 * a read and a write, which costs least; of a stream that fills the buffer each time the kernel
 * moves the pages itself, through a pipe (splice). Nothing is read that could not be written
 * before, so that what is in flight is one buffer or one pipe, and a receiver that does not read
 * stops the sender. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/loop.h"
#include "upstreamd/pipes.h"

#define FLOW_BUFFER 65536

/* What all flows of the process share. */
struct flow_common {
    struct pipes pipes;
    char buffer[FLOW_BUFFER];
};

/* A socket, registered edge-triggered: what the kernel said last, until it says otherwise. */
struct end {
    int fd; /* owned by the link */
    struct watch watch;
    bool readable, writable;
    bool blocking; /* as accept() makes them: a splice would wait */
    bool hung_up;  /* its end of stream is near: a short read is not the last one */
    bool failed;   /* it was reset, or the network gave up */
};

struct flow {
    struct end *from, *to;
    int pipe[2];              /* owned while there is something in it; from the common pool */
    size_t piped;             /* bytes in it */
    char *held;               /* owned; what a write has left over, or a header; NULL: nothing */
    size_t held_at, held_end; /* of it */
    unsigned full;            /* reads that filled the buffer, one after the other */
    unsigned scant;           /* splices that moved little, one after the other */
    bool bulk;                /* by splice */
    bool plain;               /* these sockets cannot be spliced */
    bool finished;            /* nothing more comes */
    bool closed;              /* and that was passed on */
    bool last;                /* the other direction is: its end is the connection's */
    bool broken;              /* the receiver takes nothing any more */
};

enum flow_result {
    FLOW_WAITS, /* for an event of one of its sockets */
    FLOW_MORE,  /* it had its turn; there is more to do */
    FLOW_ENDED, /* all was passed on, the end of the stream, too */
    FLOW_RESET, /* the sender is gone, and all that it had said has been passed on */
};

void flow_init(struct flow *f, struct end *from, struct end *to);
void flow_done(struct flow *f, struct flow_common *common);
/* Sent before everything else. -ENOMEM. */
int flow_put(struct flow *f, const void *bytes, size_t n) WARN_UNUSED;
/* Moves what can be moved. */
enum flow_result flow_run(struct flow *f, struct flow_common *common);
