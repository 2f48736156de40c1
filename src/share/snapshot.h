#pragma once
/* Everything that the threads of dispatch need to serve, frozen: a change is a new snapshot.
 * Counted; a thread holds exactly one. */

#include <stdatomic.h>

#include "share/queue.h"
#include "share/route.h"

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

struct snapshot {
    atomic_uint refs;
    struct route_table *routes;
    size_t listener_count;
    struct listener **listeners;
    size_t claim_count;
    struct queue **claim_queues; /* by claim number; NULL where there is none */
};

/* Owns the descriptors from here on, on failure, too. */
struct listener *listener_new_consume(uint32_t id, const int *fds, size_t fd_count);
struct listener *listener_ref(struct listener *l);
void listener_unref(struct listener *l);

struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot *s);
