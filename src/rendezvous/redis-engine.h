#pragma once
/* What the parts of redis.h share. */

#include "rendezvous/redis.h"

/* The fuller the queue, the less is taken: first copies of leases, which come again by themselves,
 * then lookups, whoever sends them; claims need a signature. */
#define REDIS_COPIES_MAX  (REDIS_PENDING_MAX / 2)
#define REDIS_LOOKUPS_MAX (REDIS_PENDING_MAX / 4 * 3)

#define REDIS_KEY_PEER  "berth:peer:" /* + 32 bytes of the key: a copy */
#define REDIS_KEY_NAMES "berth:names" /* a hash: name -> 32 bytes of the key, 8 of the time */
#define REDIS_KEY_HELD  "berth:held:" /* + 32 bytes of the key: the set of its names */
#define REDIS_CHANNEL   "berth:node:" /* + 16 hexadecimal digits of the node */
#define REDIS_ALL       "berth:nodes" /* the channel of all servers */

struct redis {
    struct redis_shared *shared;
    struct redis_host *host;
    struct redis_link link, pushes;
    uint8_t node[NODEMSG_NODE];
    struct redis_call sent;
    struct timer check;
    uint32_t checks;
    uint64_t heard_ms;   /* from ourselves */
    uint64_t alive_us;   /* when we said the word that we have not heard yet; 0: none */
    uint32_t hop_us;     /* smoothed */
    struct list waiting; /* asks at other servers */
    size_t waiting_count;
    uint64_t last_request;
    uint64_t down_ms;
    struct redis_call copy;
    uint64_t copied;
    struct timer pace;
    struct registry_cursor walk;
    bool refuses;         /* to write copies */
    char told[REDIS_WHY]; /* why it is away */
};

/* A question to Redis for a job. */
struct redis_ask {
    struct redis_call call;
    struct redis *redis;
    struct job *job;
    struct list link; /* among those that wait for another server */
    uint64_t request, since_ms;
    bool is_sent, is_answered, is_search;
    /* The reply is no error. False when another question follows. */
    bool (*answered)(struct redis_ask *a, const struct redisReply *reply);
};

struct redis_copy {
    uint8_t node[NODEMSG_NODE];
    uint64_t seen_s; /* Unix time of the last sign of life */
    struct str record;
};

/* A key of ours in Redis. */
struct redis_key {
    uint8_t bytes[16 + RECORD_KEY];
    size_t n;
};
struct redis_key redis_key_make(const char *prefix, const uint8_t key[RECORD_KEY]);
struct str redis_key_str(const struct redis_key *k);

/* Why a question could not be sent. */
enum rdv_reason redis_reason(int r);

/* names-redis.c, registry-redis.c and nodes-redis.c */
int redis_name_ask(struct redis_ask *a) WARN_UNUSED;   /* CLAIM, RELEASE, LIST */
int redis_lookup_ask(struct redis_ask *a) WARN_UNUSED; /* LOOKUP */
int redis_call_ask(struct redis_ask *a) WARN_UNUSED;   /* CALL, WORKED */
/* Ends the ask and the job. */
void redis_ask_done(struct redis_ask *a);
void redis_nodes_start(struct redis *r);
void redis_nodes_stop(struct redis *r);
/* The node that wrote a copy, and the record in it, which is not looked at; false when it makes no
 * sense. */
bool redis_copy_decode(struct str value, struct redis_copy *ret_copy);
void redis_copies_start(struct redis *r);
/* Begins to write all copies anew, where that is called for. */
void redis_copies_renew(struct redis *r);
