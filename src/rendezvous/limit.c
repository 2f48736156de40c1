/* Token buckets in a table that is indexed by a keyed hash of the source. Addresses and the time
 * come in; the thread that made the table owns it. */
#include "rendezvous/limit.h"

#include <sodium.h>
#include <stdlib.h>

#define BUCKETS 32768
/* An empty bucket never holds anybody up for longer. */
#define MILLI 1000

struct bucket {
    uint32_t at_ms; /* the low half of the clock */
    uint32_t spent; /* in thousandths */
};

struct limits {
    struct {
        uint32_t rate, burst;         /* a second and source */
        uint32_t all_rate, all_burst; /* for the thread; 0: no limit */
        struct bucket all;
    } kinds[LIMIT_KIND_COUNT];
    uint8_t hash_key[crypto_shorthash_KEYBYTES];
    struct bucket buckets[BUCKETS];
};

struct limits *limits_new(uint32_t signatures)
{
    struct limits *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    randombytes_buf(l->hash_key, sizeof l->hash_key);
    l->kinds[LIMIT_SIGNATURE].rate = signatures;
    l->kinds[LIMIT_SIGNATURE].burst = 4 * signatures;
    /* Half of what a core can check, so that refreshes and lookups always get the other half. */
    l->kinds[LIMIT_SIGNATURE].all_rate = 10000;
    l->kinds[LIMIT_SIGNATURE].all_burst = 2000;
    l->kinds[LIMIT_STUN].rate = 20;
    l->kinds[LIMIT_STUN].burst = 100;
    l->kinds[LIMIT_STUN].all_rate = 5000;
    l->kinds[LIMIT_STUN].all_burst = 5000;
    l->kinds[LIMIT_ACCEPT].rate = 10;
    l->kinds[LIMIT_ACCEPT].burst = 100;
    l->kinds[LIMIT_CALL].rate = signatures;
    l->kinds[LIMIT_CALL].burst = 4 * signatures;
    return l;
}

void limits_free(struct limits *l)
{
    free(l);
}

/* A network of IPv4 (/24) for what may be reflected, an address otherwise; /56 for IPv6. */
static struct bucket *find(struct limits *l, enum limit_kind kind, const struct addr *from)
{
    uint8_t bytes[18] = {(uint8_t)kind, (uint8_t)from->sa.sa_family};
    uint64_t hash;
    if (from->sa.sa_family == AF_INET6)
        memcpy(bytes + 2, &from->v6.sin6_addr, 7);
    else
        memcpy(bytes + 2, &from->v4.sin_addr, kind == LIMIT_STUN ? 3 : 4);
    (void)crypto_shorthash((uint8_t *)&hash, bytes, sizeof bytes, l->hash_key);
    return &l->buckets[hash % BUCKETS];
}

static bool take(struct bucket *b, uint32_t rate, uint32_t burst, uint64_t now_ms)
{
    uint32_t passed = (uint32_t)now_ms - b->at_ms;
    uint64_t back = (uint64_t)passed * rate;
    b->spent = back >= b->spent ? 0 : b->spent - (uint32_t)back;
    b->at_ms = (uint32_t)now_ms;
    if (b->spent + MILLI > burst * MILLI)
        return false;
    b->spent += MILLI;
    return true;
}

bool limits_take(struct limits *l, enum limit_kind kind, const struct addr *from, uint64_t now_ms)
{
    uint32_t rate = l->kinds[kind].rate;
    return rate == 0 || take(find(l, kind, from), rate, l->kinds[kind].burst, now_ms);
}

bool limits_take_all(struct limits *l, enum limit_kind kind, uint64_t now_ms)
{
    uint32_t rate = l->kinds[kind].all_rate;
    if (rate == 0 || l->kinds[kind].rate == 0)
        return true;
    return take(&l->kinds[kind].all, rate, l->kinds[kind].all_burst, now_ms);
}
