/* The registry in the server's own memory: shards by hash, each with a lock and a table of its own,
 * so that threads seldom meet and a growing table holds up one request in 256 at most. A lease is
 * one allocation: where and when its owner was seen, the signed record as it came, which has the
 * key and the sequence in it, and behind it the list of who may call.
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

#define SHARDS REGISTRY_SHARDS
/* Where they stand in a record. */
#define KEY_AT       1
#define SEQUENCE_AT  (KEY_AT + RECORD_KEY)
#define RECORD_LEAST (SEQUENCE_AT + 8)

struct lease {
    struct place place;
    uint32_t renewed_s;
    uint32_t copied_s;
    uint16_t size;
    uint8_t copied_round;  /* 0: never */
    bool anyone;           /* may call */
    uint8_t allowed_count; /* REGISTRY_ALLOWED bytes each, behind the record */
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

/* The key's shard, locked, and its lease, or NULL. */
static struct lease *lease_lock(struct registry *r, struct str key, struct shard **ret_shard)
{
    uint64_t hash = hash_of(r->hash_key, key);
    *ret_shard = shard_lock(r, hash);
    return table_find(&(*ret_shard)->leases, &r->type, key, hash);
}

static struct str key_str(const uint8_t key[RECORD_KEY])
{
    return (struct str){(const char *)key, RECORD_KEY};
}

/* Signed: another thread's clock may be a little ahead. */
static bool is_alive(const struct registry *r, const struct lease *l, uint32_t now_s)
{
    return l && (int32_t)(now_s - l->renewed_s) < (int32_t)r->lease_s;
}

static void seen(struct lease *l, const struct place *at, uint32_t now_s)
{
    l->renewed_s = now_s;
    l->place = *at;
}

static struct lease *lease_new(struct str record, struct str allowed)
{
    struct lease *l = calloc(1, offsetof(struct lease, record) + record.n + allowed.n);
    if (l) {
        l->size = (uint16_t)record.n;
        l->allowed_count = (uint8_t)(allowed.n / REGISTRY_ALLOWED);
        memcpy(l->record, record.p, record.n);
        memcpy(l->record + record.n, allowed.p, allowed.n);
    }
    return l;
}

static struct str lease_allowed(const struct lease *l)
{
    return (struct str){(const char *)l->record + l->size,
                        (size_t)l->allowed_count * REGISTRY_ALLOWED};
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

static void replace(struct registry *r, struct shard *s, struct lease *known, struct lease *l)
{
    table_replace(&s->leases, &r->type, l, hash_of(r->hash_key, key_of(l)));
    free(known);
}

/* With the shard locked: the record is new, or newer than what is known. The list of who may call
 * goes on with a lease that is alive. */
static enum registry_result store(struct registry *r, struct shard *s, struct lease *known,
                                  bool alive, struct str record, struct lease **ret_lease)
{
    struct lease *l = lease_new(record, alive ? lease_allowed(known) : STR(""));
    if (!l)
        return REGISTRY_FULL;
    l->anyone = alive && known->anyone;
    if (!known) {
        enum registry_result result = insert(r, s, l, hash_of(r->hash_key, record_key(record)));
        if (result != REGISTRY_OK)
            return result;
    } else {
        replace(r, s, known, l);
    }
    *ret_lease = l;
    return REGISTRY_OK;
}

enum registry_result registry_put(struct registry *r, struct str record, const struct place *at,
                                  uint32_t now_s, uint64_t *ret_known)
{
    if (record.n < RECORD_LEAST || record.n > RECORD_MAX)
        return REGISTRY_FULL;
    struct shard *s;
    struct lease *l = lease_lock(r, record_key(record), &s);
    bool alive = is_alive(r, l, now_s);
    enum registry_result result = alive ? compare(l, record) : REGISTRY_OK;
    if (result == REGISTRY_OK && !(alive && str_eq(record, lease_record(l))))
        result = store(r, s, l, alive, record, &l);
    if (result == REGISTRY_OK) {
        seen(l, at, now_s);
        l->copied_round = 0;
    }
    *ret_known = l ? record_sequence(lease_record(l)) : 0;
    shard_unlock(s);
    return result;
}

bool registry_has(struct registry *r, struct str record, uint32_t now_s)
{
    if (record.n < RECORD_LEAST)
        return false;
    struct shard *s;
    const struct lease *l = lease_lock(r, record_key(record), &s);
    bool same = is_alive(r, l, now_s) && str_eq(record, lease_record(l));
    shard_unlock(s);
    return same;
}

bool registry_refresh(struct registry *r, const uint8_t key[RECORD_KEY], const struct place *at,
                      uint32_t now_s, uint64_t *ret_sequence)
{
    struct shard *s;
    struct lease *l = lease_lock(r, key_str(key), &s);
    bool alive = is_alive(r, l, now_s);
    if (alive) {
        seen(l, at, now_s);
        *ret_sequence = record_sequence(lease_record(l));
    }
    shard_unlock(s);
    return alive;
}

bool registry_allow(struct registry *r, const uint8_t key[RECORD_KEY], bool anyone,
                    struct str allowed, uint32_t now_s)
{
    struct shard *s;
    struct lease *l = lease_lock(r, key_str(key), &s);
    bool alive = is_alive(r, l, now_s);
    if (alive && !str_eq(allowed, lease_allowed(l))) {
        struct lease *other = lease_new(lease_record(l), allowed);
        alive = other != NULL;
        if (alive) {
            seen(other, &l->place, l->renewed_s);
            other->copied_s = l->copied_s;
            other->copied_round = l->copied_round;
            replace(r, s, l, other);
            l = other;
        }
    }
    if (alive)
        l->anyone = anyone;
    shard_unlock(s);
    return alive;
}

static bool is_allowed(const struct lease *l, const uint8_t caller[RECORD_KEY])
{
    struct str list = lease_allowed(l);
    for (size_t i = 0; i < list.n; i += REGISTRY_ALLOWED)
        if (memcmp(list.p + i, caller, REGISTRY_ALLOWED) == 0)
            return true;
    return l->anyone;
}

enum registry_access registry_access(struct registry *r, const uint8_t key[RECORD_KEY],
                                     const uint8_t caller[RECORD_KEY], uint32_t now_s,
                                     struct place *ret_place)
{
    struct shard *s;
    const struct lease *l = lease_lock(r, key_str(key), &s);
    enum registry_access access = REGISTRY_NOT_THERE;
    if (is_alive(r, l, now_s))
        access = is_allowed(l, caller) ? REGISTRY_MAY_CALL : REGISTRY_MAY_NOT;
    if (access == REGISTRY_MAY_CALL)
        *ret_place = l->place;
    shard_unlock(s);
    return access;
}

bool registry_place(struct registry *r, const uint8_t key[RECORD_KEY], uint32_t now_s,
                    struct place *ret_place)
{
    struct shard *s;
    const struct lease *l = lease_lock(r, key_str(key), &s);
    bool alive = is_alive(r, l, now_s);
    if (alive)
        *ret_place = l->place;
    shard_unlock(s);
    return alive;
}

size_t registry_get(struct registry *r, const uint8_t key[RECORD_KEY], uint32_t now_s,
                    uint8_t buf[RECORD_MAX], uint32_t *ret_age_s)
{
    struct shard *s;
    const struct lease *l = lease_lock(r, key_str(key), &s);
    size_t n = is_alive(r, l, now_s) ? l->size : 0;
    if (n > 0) {
        memcpy(buf, l->record, n);
        *ret_age_s = now_s - l->renewed_s;
    }
    shard_unlock(s);
    return n;
}

/* With the shard locked. */
static size_t due(const struct registry *r, const struct registry_copies *c, struct lease *l,
                  uint8_t buf[RECORD_MAX], uint32_t *ret_age_s)
{
    if (!is_alive(r, l, c->now_s) ||
        (l->copied_round == c->round && (int32_t)(c->now_s - l->copied_s) < (int32_t)c->every_s))
        return 0;
    l->copied_round = c->round;
    l->copied_s = c->now_s;
    memcpy(buf, l->record, l->size);
    int32_t age_s = (int32_t)(c->now_s - l->renewed_s);
    *ret_age_s = age_s > 0 ? (uint32_t)age_s : 0;
    return l->size;
}

size_t registry_due(struct registry *r, const struct registry_copies *c,
                    const uint8_t key[RECORD_KEY], uint8_t buf[RECORD_MAX], uint32_t *ret_age_s)
{
    struct shard *s;
    struct lease *l = lease_lock(r, key_str(key), &s);
    size_t n = due(r, c, l, buf, ret_age_s);
    shard_unlock(s);
    return n;
}

size_t registry_due_next(struct registry *r, const struct registry_copies *c,
                         struct registry_cursor *at, uint8_t buf[RECORD_MAX], uint32_t *ret_age_s)
{
    struct shard *s = &r->shards[at->shard % SHARDS];
    size_t n = 0;
    (void)pthread_mutex_lock(&s->lock);
    for (; n == 0 && at->place < s->leases.size; at->place++)
        if (s->leases.tags[at->place])
            n = due(r, c, s->leases.slots[at->place], buf, ret_age_s);
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
