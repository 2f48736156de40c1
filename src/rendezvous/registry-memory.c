/* The registry in the server's own memory: shards by hash, each with a lock and a table of its own,
 * so that threads seldom meet and a growing table holds up one request in 256 at most. A lease is
 * one allocation: where and when its owner was seen, and the signed record as it came, which has
 * the key and the sequence in it.
 *
 * All leases are equally long, so a timer wheel would only add pointers to every lease: expired
 * ones are passed over when they are met, and a sweep through the shards frees them. */
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/rd.h"
#include "rendezvous/registry.h"
#include "rendezvous/table.h"

#define SHARDS 256
/* Where they stand in a record. */
#define KEY_AT       1
#define SEQUENCE_AT  (KEY_AT + RECORD_KEY)
#define RECORD_LEAST (SEQUENCE_AT + 8)

struct lease {
    uint32_t renewed_s;
    uint16_t size;
    uint16_t port;
    uint8_t family;
    uint8_t ip[16];
    uint8_t record[];
};

struct shard {
    pthread_mutex_t lock;
    struct table leases;
} __attribute__((aligned(64)));

struct registry {
    struct shard shards[SHARDS];
    size_t peers_max;
    uint32_t lease_s;
    _Atomic size_t count;
    _Atomic uint32_t swept; /* the next shard */
    _Atomic uint64_t swept_at_s;
    struct table_type type;
    uint8_t hash_key[crypto_shorthash_KEYBYTES];
};

static struct str key_of(const void *entry)
{
    return (struct str){(const char *)((const struct lease *)entry)->record + KEY_AT, RECORD_KEY};
}

static uint64_t hash_of(const void *context, struct str key)
{
    uint64_t hash;
    (void)crypto_shorthash((uint8_t *)&hash, (const uint8_t *)key.p, key.n, context);
    return hash;
}

static struct str record_key(struct str record)
{
    return (struct str){record.p + KEY_AT, RECORD_KEY};
}

static uint64_t record_sequence(struct str record)
{
    struct rd r = rd_init(record.p, record.n);
    (void)rd_bytes(&r, SEQUENCE_AT);
    return rd_u64(&r);
}

static struct str lease_record(const struct lease *l)
{
    return (struct str){(const char *)l->record, l->size};
}

struct registry *registry_new(size_t peers_max, uint32_t lease_s)
{
    struct registry *r = aligned_alloc(64, (sizeof *r + 63) / 64 * 64);
    if (!r)
        return NULL;
    memset(r, 0, sizeof *r);
    r->peers_max = peers_max;
    r->lease_s = lease_s;
    randombytes_buf(r->hash_key, sizeof r->hash_key);
    r->type = (struct table_type){key_of, hash_of, r->hash_key};
    for (size_t i = 0; i < SHARDS; i++)
        (void)pthread_mutex_init(&r->shards[i].lock, NULL);
    return r;
}

void registry_free(struct registry *r)
{
    for (size_t i = 0; r && i < SHARDS; i++) {
        struct table *t = &r->shards[i].leases;
        for (size_t k = 0; k < t->size; k++)
            if (t->tags[k])
                free(t->slots[k]);
        table_done(t);
        (void)pthread_mutex_destroy(&r->shards[i].lock);
    }
    free(r);
}

/* Chosen by bits that neither the slot nor the tag is taken from. */
static struct shard *shard_lock(struct registry *r, uint64_t hash)
{
    struct shard *s = &r->shards[hash >> 48 & (SHARDS - 1)];
    (void)pthread_mutex_lock(&s->lock);
    return s;
}

static void shard_unlock(struct shard *s)
{
    (void)pthread_mutex_unlock(&s->lock);
}

static bool is_alive(const struct registry *r, const struct lease *l, uint32_t now_s)
{
    return l && now_s - l->renewed_s < r->lease_s;
}

static void seen(struct lease *l, const struct addr *from, uint32_t now_s)
{
    l->renewed_s = now_s;
    l->port = addr_port(from);
    l->family = (uint8_t)from->sa.sa_family;
    if (l->family == AF_INET6)
        memcpy(l->ip, &from->v6.sin6_addr, 16);
    else
        memcpy(l->ip, &from->v4.sin_addr, 4);
}

static struct lease *lease_new(struct str record)
{
    struct lease *l = calloc(1, offsetof(struct lease, record) + record.n);
    if (l) {
        l->size = (uint16_t)record.n;
        memcpy(l->record, record.p, record.n);
    }
    return l;
}

/* What the known lease says about a record for the same key. */
static enum registry_result compare(const struct lease *known, struct str record)
{
    uint64_t old = record_sequence(lease_record(known)), new = record_sequence(record);
    if (new < old)
        return REGISTRY_OLDER;
    if (new == old && !str_eq(record, lease_record(known)))
        return REGISTRY_OTHER;
    return REGISTRY_OK;
}

static enum registry_result insert(struct registry *r, struct shard *s, struct lease *l,
                                   uint64_t hash)
{
    if (atomic_fetch_add(&r->count, 1) < r->peers_max &&
        table_insert(&s->leases, &r->type, l, hash) == 0)
        return REGISTRY_OK;
    atomic_fetch_sub(&r->count, 1);
    free(l);
    return REGISTRY_FULL;
}

/* With the shard locked: the record is new, or newer than what is known. */
static enum registry_result store(struct registry *r, struct shard *s, struct lease *known,
                                  struct str record, struct lease **ret_lease)
{
    struct lease *l = lease_new(record);
    uint64_t hash = hash_of(r->hash_key, record_key(record));
    if (!l)
        return REGISTRY_FULL;
    if (!known) {
        enum registry_result result = insert(r, s, l, hash);
        if (result != REGISTRY_OK)
            return result;
    } else {
        table_replace(&s->leases, &r->type, l, hash);
        free(known);
    }
    *ret_lease = l;
    return REGISTRY_OK;
}

enum registry_result registry_put(struct registry *r, struct str record, const struct addr *from,
                                  uint32_t now_s, uint64_t *ret_known)
{
    if (record.n < RECORD_LEAST || record.n > RECORD_MAX)
        return REGISTRY_FULL;
    uint64_t hash = hash_of(r->hash_key, record_key(record));
    struct shard *s = shard_lock(r, hash);
    struct lease *l = table_find(&s->leases, &r->type, record_key(record), hash);
    enum registry_result result = REGISTRY_OK;
    if (is_alive(r, l, now_s))
        result = compare(l, record);
    if (result == REGISTRY_OK && !(l && str_eq(record, lease_record(l))))
        result = store(r, s, l, record, &l);
    if (result == REGISTRY_OK)
        seen(l, from, now_s);
    *ret_known = l ? record_sequence(lease_record(l)) : 0;
    shard_unlock(s);
    return result;
}

bool registry_has(struct registry *r, struct str record, uint32_t now_s)
{
    if (record.n < RECORD_LEAST)
        return false;
    uint64_t hash = hash_of(r->hash_key, record_key(record));
    struct shard *s = shard_lock(r, hash);
    const struct lease *l = table_find(&s->leases, &r->type, record_key(record), hash);
    bool same = is_alive(r, l, now_s) && str_eq(record, lease_record(l));
    shard_unlock(s);
    return same;
}

bool registry_refresh(struct registry *r, const uint8_t key[RECORD_KEY], const struct addr *from,
                      uint32_t now_s, uint64_t *ret_sequence)
{
    struct str k = {(const char *)key, RECORD_KEY};
    uint64_t hash = hash_of(r->hash_key, k);
    struct shard *s = shard_lock(r, hash);
    struct lease *l = table_find(&s->leases, &r->type, k, hash);
    bool alive = is_alive(r, l, now_s);
    if (alive) {
        seen(l, from, now_s);
        *ret_sequence = record_sequence(lease_record(l));
    }
    shard_unlock(s);
    return alive;
}

size_t registry_get(struct registry *r, const uint8_t key[RECORD_KEY], uint32_t now_s,
                    uint8_t buf[RECORD_MAX], uint32_t *ret_age_s)
{
    struct str k = {(const char *)key, RECORD_KEY};
    uint64_t hash = hash_of(r->hash_key, k);
    struct shard *s = shard_lock(r, hash);
    const struct lease *l = table_find(&s->leases, &r->type, k, hash);
    size_t n = is_alive(r, l, now_s) ? l->size : 0;
    if (n > 0) {
        memcpy(buf, l->record, n);
        *ret_age_s = now_s - l->renewed_s;
    }
    shard_unlock(s);
    return n;
}

/* Taking one out may move another into its place, so a place is looked at again until it is good.
 */
static void shard_sweep(struct registry *r, struct shard *s, uint32_t now_s)
{
    (void)pthread_mutex_lock(&s->lock);
    struct table *t = &s->leases;
    for (size_t i = 0; i < t->size;) {
        struct lease *l = t->tags[i] ? t->slots[i] : NULL;
        if (!l || is_alive(r, l, now_s)) {
            i++;
            continue;
        }
        struct str key = key_of(l);
        free(table_remove(t, &r->type, key, hash_of(r->hash_key, key)));
        atomic_fetch_sub(&r->count, 1);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

void registry_sweep(struct registry *r, uint32_t now_s)
{
    /* Any thread may call; one a second does the work. */
    if (atomic_exchange(&r->swept_at_s, now_s) == now_s)
        return;
    uint32_t part = SHARDS / (r->lease_s < SHARDS ? r->lease_s : SHARDS) + 1;
    for (uint32_t i = 0; i < part; i++)
        shard_sweep(r, &r->shards[atomic_fetch_add(&r->swept, 1) % SHARDS], now_s);
}

size_t registry_count(struct registry *r)
{
    return atomic_load(&r->count);
}
