/* A hash table of chains under one lock. Its size is bounded by the connections that are counted in
 * it; the hash has a secret, so that nobody can have all of theirs in one chain. */
#include "share/sources.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#define BUCKETS 4096

struct entry {
    struct entry *next;
    uint64_t key[2];
    uint32_t count;
};

struct sources {
    pthread_mutex_t lock;
    uint64_t secret[2];
    struct entry *buckets[BUCKETS];
};

struct sources *sources_new(void)
{
    struct sources *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    (void)pthread_mutex_init(&s->lock, NULL);
    if (getrandom(s->secret, sizeof s->secret, GRND_NONBLOCK) < 0)
        s->secret[0] = (uintptr_t)s;
    return s;
}

void sources_free(struct sources *s)
{
    for (size_t i = 0; s && i < BUCKETS; i++)
        for (struct entry *e; (e = s->buckets[i]);) {
            s->buckets[i] = e->next;
            free(e);
        }
    free(s);
}

/* False for what has no address. */
static bool key_of(const struct addr *peer, uint64_t ret_key[2])
{
    struct addr a = addr_unmap(peer);
    ret_key[0] = ret_key[1] = 0;
    if (a.sa.sa_family == AF_INET)
        memcpy(&ret_key[1], &a.v4.sin_addr, 4);
    else if (a.sa.sa_family == AF_INET6)
        memcpy(&ret_key[0], &a.v6.sin6_addr, 8);
    else
        return false;
    ret_key[1] |= (uint64_t)a.sa.sa_family << 32;
    return true;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= 0x9e3779b97f4a7c15u;
    x ^= x >> 29;
    x *= 0xbf58476d1ce4e5b9u;
    return x ^ x >> 32;
}

/* Where the entry is, or where it would be put. */
static struct entry **find(struct sources *s, const uint64_t key[2])
{
    uint64_t h = mix(key[0] ^ s->secret[0]);
    h = mix(h ^ key[1] ^ s->secret[1]);
    struct entry **at = &s->buckets[h % BUCKETS];
    while (*at && ((*at)->key[0] != key[0] || (*at)->key[1] != key[1]))
        at = &(*at)->next;
    return at;
}

static uint32_t add_locked(struct sources *s, const uint64_t key[2])
{
    struct entry **at = find(s, key);
    if (!*at) {
        struct entry *e = calloc(1, sizeof *e);
        if (!e)
            return 0;
        memcpy(e->key, key, sizeof e->key);
        *at = e;
    }
    return ++(*at)->count;
}

uint32_t sources_add(struct sources *s, const struct addr *peer)
{
    uint64_t key[2];
    if (!key_of(peer, key))
        return 0;
    (void)pthread_mutex_lock(&s->lock);
    uint32_t n = add_locked(s, key);
    (void)pthread_mutex_unlock(&s->lock);
    return n;
}

static void remove_locked(struct sources *s, const uint64_t key[2])
{
    struct entry **at = find(s, key), *e = *at;
    if (!e || --e->count > 0)
        return;
    *at = e->next;
    free(e);
}

void sources_remove(struct sources *s, const struct addr *peer)
{
    uint64_t key[2];
    if (!key_of(peer, key))
        return;
    (void)pthread_mutex_lock(&s->lock);
    remove_locked(s, key);
    (void)pthread_mutex_unlock(&s->lock);
}

uint32_t sources_count(struct sources *s, const struct addr *peer)
{
    uint64_t key[2];
    if (!key_of(peer, key))
        return 0;
    (void)pthread_mutex_lock(&s->lock);
    struct entry *e = *find(s, key);
    uint32_t n = e ? e->count : 0;
    (void)pthread_mutex_unlock(&s->lock);
    return n;
}
