#pragma once
/* One accepted connection from accept() until it is delivered or refused. */

#include <stdint.h>

#include "base/addr.h"
#include "base/list.h"
#include "share/reason.h"
#include "share/route.h"
#include "share/source.h"

enum conn_state {
    CONN_SNIFF,  /* more bytes are needed */
    CONN_WAIT,   /* its queue is full */
    CONN_LINGER, /* refused; the answer is on its way */
    CONN_GONE,   /* closed; freed at the end of the turn, as an event may still name it */
};

struct conn {
    struct source source;
    enum conn_state state;
    struct list link; /* in the list of its state: oldest first */
    uint64_t deadline_ms;
    int fd;              /* owned */
    bool proxy;          /* a PROXY header comes first */
    bool stream;         /* a peer has dialled it: berth-peer gave it to us */
    bool polled;         /* registered with epoll */
    bool got_bytes;      /* it is not silent */
    uint32_t claim;      /* CONN_WAIT: whose */
    uint64_t since_ms;   /* accepted */
    uint64_t first_ms;   /* the first byte came */
    uint32_t bytes;      /* that have come, as far as they are looked at */
    bool counted;        /* among those of its source */
    bool parked;         /* it has been */
    struct refusal doom; /* decided, and told when it is known what the client speaks */
    struct addr peer;
};

/* What is to be done with a connection now. */
enum conn_verdict { CONN_MORE, CONN_DELIVER, CONN_REFUSE };

struct conn_judgement {
    enum conn_verdict verdict;
    uint32_t claim;         /* DELIVER */
    struct refusal refusal; /* REFUSE; DELIVER: set by a delivery that fails for good */
    uint32_t bytes_max;     /* the caller's: a name must be known by then; 0: SNIFF_BYTES_MAX */
    uint32_t bytes;         /* that were looked at */
    bool sniffed_valid;     /* sniffed says something about this connection */
    struct addr local;      /* AF_UNSPEC when it was not asked for */
    struct sniffed sniffed; /* slices point into the buffer that conn_judge() was given */
};

/* The address that the connection came to; AF_UNSPEC when it cannot be told. */
void conn_local(int fd, struct addr *ret_local);

enum conn_wait { CONN_WAIT_BYTES, CONN_WAIT_OVER }; /* the time for bytes has run out */

/* Peeks, never consumes, and says what is to be done. `buf` has SNIFF_BYTES_MAX bytes. The caller
 * may have put the local address into ret_judgement already; with AF_UNSPEC there it is asked for.
 */
void conn_judge(const struct conn *c, const struct route_table *routes, enum conn_wait wait,
                char *buf, struct conn_judgement *ret_judgement);
