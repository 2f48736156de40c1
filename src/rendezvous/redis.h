#pragma once
/* Names and leases in Redis, so that several servers are one. A peer is registered in the memory of
 * the server that it talks to; Redis has a copy of its record, which expires by itself, and every
 * name. Each thread that serves has a struct redis with connections of its own. */

#include "loop/loop.h"
#include "rendezvous/job.h"
#include "rendezvous/redis-link.h"
#include "rendezvous/registry.h"
#include "wire/nodemsg.h"

/* For all threads. */
struct redis_shared {
    struct redis_target target;
    struct registry *registry;
    uint32_t lease_s;
    size_t names_max;
    uint8_t node[NODEMSG_NODE]; /* random at each start; the last byte is the thread's */
    /* When copies may have been lost a new round begins, and threads share the shards of the
     * registry among them to write all copies anew. */
    _Atomic uint8_t round;
    _Atomic uint64_t round_ms;
    _Atomic size_t walked;
};

struct redis;

struct redis_host {
    struct loop *loop;
    uint8_t thread;
    /* Redis has come, or has gone and why, or refuses to write and why. */
    void (*changed)(struct redis_host *h, const char *event, const char *why);
    /* ASK or SEARCH, which is answered by redis_reply(), or PUSH. */
    void (*message)(struct redis_host *h, const struct nodemsg *m);
};

/* The shared part, target and all, and the host outlive it. NULL without memory. */
struct redis *redis_new(struct redis_shared *shared, struct redis_host *host);
void redis_free(struct redis *r);
/* Writes the copy of this key's lease if it is due. False when it is and there is no room or no
 * Redis: it stays due. */
bool redis_renew(struct redis *r, const uint8_t key[RECORD_KEY], uint32_t now_s);
/* Copies that Redis has taken. */
uint64_t redis_copied(const struct redis *r);
/* Takes the job over: CLAIM, RELEASE, LIST, LOOKUP, or CALL or WORKED of a call to a peer that is
 * not registered here.
 * Its end comes through the outbox. RDV_OK, RDV_STORAGE while
 * Redis is away, RDV_BUSY when too much waits. */
enum rdv_reason redis_post(struct redis *r, struct job *job);
/* How long what we publish takes until we hear it: Redis' share of the way to a peer of another
 * server. 0: not known. */
uint32_t redis_hop_us(const struct redis *r);
/* To a thread of another server; lost when it is gone. */
void redis_send(struct redis *r, const uint8_t node[NODEMSG_NODE], const struct nodemsg *m);
