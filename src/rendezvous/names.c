/* The names in memory: shards by hash, each with a lock and a table. The store writes, everybody
 * reads. An entry is one allocation. */
#include "rendezvous/names.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "rendezvous/table.h"

#define SHARDS 64

struct entry {
    uint64_t since;
    uint8_t key[RDVMSG_KEY];
    uint8_t n;
    char text[];
};

struct shard {
    pthread_rwlock_t lock;
    struct table table;
} __attribute__((aligned(64)));

struct names {
    struct shard shards[SHARDS];
    size_t names_max;
    _Atomic size_t count;
    struct table_type type;
    uint8_t hash_key[crypto_shorthash_KEYBYTES];
};

static struct str key_of(const void *entry)
{
    const struct entry *e = entry;
    return (struct str){e->text, e->n};
}

static uint64_t hash_of(const void *context, struct str key)
{
    uint64_t hash;
    (void)crypto_shorthash((uint8_t *)&hash, (const uint8_t *)key.p, key.n, context);
    return hash;
}

struct names *names_new(size_t names_max)
{
    struct names *n = aligned_alloc(64, (sizeof *n + 63) / 64 * 64);
    if (!n)
        return NULL;
    memset(n, 0, sizeof *n);
    n->names_max = names_max;
    randombytes_buf(n->hash_key, sizeof n->hash_key);
    n->type = (struct table_type){key_of, hash_of, n->hash_key};
    for (size_t i = 0; i < SHARDS; i++)
        (void)pthread_rwlock_init(&n->shards[i].lock, NULL);
    return n;
}

void names_free(struct names *n)
{
    for (size_t i = 0; n && i < SHARDS; i++) {
        struct table *t = &n->shards[i].table;
        for (size_t k = 0; k < t->size; k++)
            if (t->tags[k])
                free(t->slots[k]);
        table_done(t);
        (void)pthread_rwlock_destroy(&n->shards[i].lock);
    }
    free(n);
}

static struct shard *shard_of(struct names *n, uint64_t hash)
{
    return &n->shards[hash >> 48 & (SHARDS - 1)];
}

bool names_find(struct names *n, struct str name, uint8_t ret_key[RDVMSG_KEY], uint64_t *ret_since)
{
    uint64_t hash = hash_of(n->hash_key, name);
    struct shard *s = shard_of(n, hash);
    (void)pthread_rwlock_rdlock(&s->lock);
    const struct entry *e = table_find(&s->table, &n->type, name, hash);
    if (e) {
        memcpy(ret_key, e->key, RDVMSG_KEY);
        *ret_since = e->since;
    }
    (void)pthread_rwlock_unlock(&s->lock);
    return e != NULL;
}

int names_put(struct names *n, struct str name, const uint8_t key[RDVMSG_KEY], uint64_t since)
{
    struct entry *e = malloc(sizeof *e + name.n);
    if (!e)
        return -ENOMEM;
    e->since = since;
    e->n = (uint8_t)name.n;
    memcpy(e->key, key, RDVMSG_KEY);
    memcpy(e->text, name.p, name.n);
    uint64_t hash = hash_of(n->hash_key, name);
    struct shard *s = shard_of(n, hash);
    (void)pthread_rwlock_wrlock(&s->lock);
    void *old = table_remove(&s->table, &n->type, name, hash);
    int r = table_insert(&s->table, &n->type, e, hash);
    (void)pthread_rwlock_unlock(&s->lock);
    if (r == 0 && !old)
        atomic_fetch_add(&n->count, 1);
    free(r < 0 ? e : old);
    return r;
}

void names_remove(struct names *n, struct str name)
{
    uint64_t hash = hash_of(n->hash_key, name);
    struct shard *s = shard_of(n, hash);
    (void)pthread_rwlock_wrlock(&s->lock);
    void *old = table_remove(&s->table, &n->type, name, hash);
    (void)pthread_rwlock_unlock(&s->lock);
    if (old)
        atomic_fetch_sub(&n->count, 1);
    free(old);
}

size_t names_count(struct names *n)
{
    return atomic_load(&n->count);
}

bool names_full(struct names *n)
{
    return names_count(n) >= n->names_max;
}
