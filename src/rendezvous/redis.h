#pragma once
/* Names and leases in Redis, so that several servers are one. A peer is registered in the memory of
 * the server that it talks to; Redis has a copy of its record, which expires by itself, and every
 * name. Each thread that serves has a struct redis with connections of its own. */

#include "loop/loop.h"
#include "rendezvous/names.h"
#include "rendezvous/redis-link.h"
#include "rendezvous/registry.h"

#define REDIS_NODE 8 /* bytes that name a server's process; random at each start */

/* For all threads. */
struct redis_shared {
    struct redis_target target;
    struct registry *registry;
    uint32_t lease_s;
    size_t names_max;
    uint8_t node[REDIS_NODE];
    /* When copies may have been lost a new round begins, and threads share the shards of the
     * registry among them to write all copies anew. */
    _Atomic uint8_t round;
    _Atomic uint64_t round_ms;
    _Atomic size_t walked;
};

struct redis;

struct redis_host {
    struct loop *loop;
    struct names_outbox *outbox;
    /* Redis has come, or has gone and why, or refuses to write and why. */
    void (*changed)(struct redis_host *h, const char *event, const char *why);
};

/* The shared part, target and all, and the host outlive it. NULL without memory. */
struct redis *redis_new(struct redis_shared *shared, struct redis_host *host);
void redis_free(struct redis *r);
/* Writes the copy of this key's lease if it is due. */
void redis_renew(struct redis *r, const uint8_t key[RECORD_KEY], uint32_t now_s);
/* Takes the job over, of any type; its end comes through the outbox. RDV_OK, RDV_STORAGE while
 * Redis is away, RDV_BUSY when too much waits. */
enum rdv_reason redis_post(struct redis *r, struct names_job *job);
