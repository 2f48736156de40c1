#pragma once
/* Everything that the threads of dispatch need to serve, frozen: a change is a new snapshot.
 * Counted; a thread holds exactly one. */

#include <stdatomic.h>

#include "share/accesslog.h"
#include "share/queue.h"
#include "share/route.h"
#include "wire/dispatchmsg.h"
#include "wire/name.h"

#define POOL_MEMBERS_MAX 256

/* Times in milliseconds. */
struct worker_limits {
    uint32_t silence_ms;     /* no byte at all: the fallback's turn */
    uint32_t header_wait_ms; /* from the first byte until the name is known */
    uint32_t connections;    /* held by all threads; beyond it a thread's oldest goes */
    uint32_t min_rate;       /* bytes a second, from the first byte on; 0: any */
    uint32_t sniff_bytes;    /* a name must be known by then; 0: SNIFF_BYTES_MAX */
    uint32_t per_source;     /* held, from one address; 0: any number */
};

/* A listening address with one socket for each thread (SO_REUSEPORT: the kernel spreads). */
struct listener {
    atomic_uint refs;
    uint32_t id;
    struct addr bound;
    bool v6only;
    bool proxy; /* a PROXY header comes first */
    size_t fd_count;
    int fds[];
};

/* A queue that claims name, with its policy. The members of a base queue take turns. */
struct pool {
    struct queue *queue; /* referenced */
    struct dispatch_policy policy;
    size_t member_count;
    struct member {
        struct queue *queue; /* referenced */
        bool serves;
    } * members;
};

/* Where a claim leads. */
struct target {
    struct pool *pool; /* one of the snapshot's; NULL: nowhere */
    uint16_t refuse;   /* the HTTP status of a reserved name that nobody serves; 0: it is served */
};

/* A service that peers dial, and whose claim it is. */
struct service {
    char name[WIRE_NAME_MAX + 1]; /* "": any without an entry of its own */
    uint32_t claim;
};

struct snapshot {
    atomic_uint refs;
    struct route_table *routes;
    size_t listener_count;
    struct listener **listeners;
    size_t claim_count;
    struct target *targets; /* by claim number */
    size_t service_count;
    struct service *services; /* in the order of their names */
    size_t pool_count;
    struct pool **pools; /* in the order of their queues' numbers */
    struct worker_limits limits;
    struct logfile *logs[DISPATCH_LOG_COUNT]; /* referenced; NULL: nobody wants the lines */
};

/* Owns the descriptors from here on, on failure, too. */
struct listener *listener_new_consume(uint32_t id, const int *fds, size_t fd_count);
struct listener *listener_ref(struct listener *l);
void listener_unref(struct listener *l);

/* Takes a reference of its own on the queue. NULL when memory is short. */
struct pool *pool_new(struct queue *q, const struct dispatch_policy *policy);
void pool_free(struct pool *p);
/* -ENOMEM, or -ENOSPC when there are too many. */
int pool_add(struct pool *p, struct queue *member, bool serves) WARN_UNUSED;

/* The claim, or ROUTE_NONE. */
uint32_t snapshot_service(const struct snapshot *s, struct str name);
/* Once all are there. */
void snapshot_services_sort(struct snapshot *s);
struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot *s);
