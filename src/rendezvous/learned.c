/* Buckets of four entries, found by a keyed hash, so that strangers cannot choose whom they push
 * out; the entry with the fewest reports makes room for a new one. Prints and reports come in from
 * handlers of calls, hints go out. One lock: it is held for some dozen instructions, and a call
 * takes it twice. */
#include "rendezvous/learned.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

#define WAYS    4
#define BUCKETS (LEARNED_PAIRS / WAYS)
/* A report in units, so that it survives some halvings. One of a call that had no hint weighs as
 * much as all those that had one, because those mostly repeat what they were told; but that nothing
 * worked is said only where there is no hint, so all those weigh the same, and who has found out
 * which of its numbers get none gains nothing there. */
#define UNIT        16
#define SAMPLE_RATE 16
#define SAMPLE_UNIT (UNIT * SAMPLE_RATE)
/* With more than these all are halved: when NATs change, this many reports change the hint. */
#define UNITS_MAX (64 * SAMPLE_UNIT)
/* So often it failed before it is said that nothing works. */
#define RELAY_MIN (32 * UNIT)

struct entry {
    uint64_t key;      /* both prints; 0: free */
    uint64_t heard;    /* a bit for network and technique, by hash, in this period */
    uint32_t period;   /* of LEARNED_EACH_S */
    uint32_t halved_s; /* when it was halved last */
    uint16_t units[TECHNIQUE_END];
};
_Static_assert(sizeof(struct entry) * LEARNED_PAIRS == 160 << 10, "as learned.h says");
_Static_assert(UNITS_MAX + SAMPLE_UNIT <= UINT16_MAX, "units do not overflow");

struct learned {
    pthread_mutex_t lock;
    uint8_t hash_key[crypto_shorthash_KEYBYTES];
    struct entry entries[BUCKETS][WAYS];
};

struct learned *learned_new(void)
{
    struct learned *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    (void)pthread_mutex_init(&l->lock, NULL);
    randombytes_buf(l->hash_key, sizeof l->hash_key);
    return l;
}

void learned_free(struct learned *l)
{
    free(l);
}

static uint64_t hash_of(const struct learned *l, const void *bytes, size_t n)
{
    uint64_t hash;
    (void)crypto_shorthash((uint8_t *)&hash, bytes, n, l->hash_key);
    return hash;
}

static uint32_t print_number(const struct nat_print *p)
{
    return (uint32_t)p->mapping << 24 | (uint32_t)p->filtering << 16 |
           (uint32_t)p->allocation << 8 | p->step;
}

/* Both fire at once, so it makes no difference which of the two calls. 0 when one is not known. */
static uint64_t key_make(const struct nat_print prints[2])
{
    uint32_t a = print_number(&prints[0]), b = print_number(&prints[1]);
    if (prints[0].mapping == 0 || prints[1].mapping == 0)
        return 0;
    return a < b ? (uint64_t)a << 32 | b : (uint64_t)b << 32 | a;
}

/* Has this call no hint? A caller chooses its number, but does not know what it hashes to. */
static bool is_sample(const struct learned *l, uint64_t call)
{
    return hash_of(l, &call, sizeof call) % SAMPLE_RATE == 0;
}

static void halve(struct entry *e, uint32_t times)
{
    for (size_t i = 0; i < TECHNIQUE_END; i++)
        e->units[i] = times < 16 ? e->units[i] >> times : 0;
}

/* Signed: another thread's clock may be a little ahead. */
static void age(struct entry *e, uint32_t now_s)
{
    int32_t passed = (int32_t)(now_s - e->halved_s);
    if (passed < LEARNED_HALF_S)
        return;
    uint32_t times = (uint32_t)passed / LEARNED_HALF_S;
    halve(e, times);
    e->halved_s += times * LEARNED_HALF_S;
}

static unsigned sum(const struct entry *e)
{
    unsigned all = 0;
    for (size_t i = 0; i < TECHNIQUE_END; i++)
        all += e->units[i];
    return all;
}

static struct entry *bucket_of(struct learned *l, uint64_t key)
{
    return l->entries[hash_of(l, &key, sizeof key) % BUCKETS];
}

static struct entry *entry_find(struct learned *l, uint64_t key, uint32_t now_s)
{
    struct entry *bucket = bucket_of(l, key);
    for (size_t i = 0; i < WAYS; i++) {
        if (bucket[i].key != key)
            continue;
        age(&bucket[i], now_s);
        return &bucket[i];
    }
    return NULL;
}

static struct entry *entry_get(struct learned *l, uint64_t key, uint32_t now_s)
{
    struct entry *found = entry_find(l, key, now_s), *bucket = bucket_of(l, key);
    if (found)
        return found;
    struct entry *weakest = bucket;
    for (size_t i = 0; i < WAYS; i++) {
        age(&bucket[i], now_s);
        if (sum(&bucket[i]) < sum(weakest))
            weakest = &bucket[i];
    }
    *weakest = (struct entry){.key = key, .halved_s = now_s};
    return weakest;
}

static enum technique best(const struct entry *e)
{
    enum technique most = TECHNIQUE_UNKNOWN;
    for (enum technique t = TECHNIQUE_PLAIN; t < TECHNIQUE_RELAY; t++)
        if (e->units[t] > e->units[most])
            most = t;
    if (most == TECHNIQUE_UNKNOWN && e->units[TECHNIQUE_RELAY] >= RELAY_MIN)
        return TECHNIQUE_RELAY;
    return most;
}

enum technique learned_hint(struct learned *l, const struct nat_print prints[2], uint64_t call,
                            uint32_t now_s)
{
    uint64_t key = key_make(prints);
    if (key == 0 || is_sample(l, call))
        return TECHNIQUE_UNKNOWN;
    (void)pthread_mutex_lock(&l->lock);
    const struct entry *e = entry_find(l, key, now_s);
    enum technique hint = e ? best(e) : TECHNIQUE_UNKNOWN;
    (void)pthread_mutex_unlock(&l->lock);
    return hint;
}

/* One who says the same again and again, with keys and calls without number, has one address, or
 * the addresses of one network. */
static bool is_fresh(const struct learned *l, struct entry *e, const struct learned_report *r,
                     uint32_t now_s)
{
    uint8_t bytes[9] = {(uint8_t)r->technique, (uint8_t)r->from->sa.sa_family};
    if (r->from->sa.sa_family == AF_INET6)
        memcpy(bytes + 2, &r->from->v6.sin6_addr, 7);
    else
        memcpy(bytes + 2, &r->from->v4.sin_addr, 3);
    uint64_t bit = 1ull << hash_of(l, bytes, sizeof bytes) % 64;
    if (e->period != now_s / LEARNED_EACH_S)
        e->heard = 0;
    e->period = now_s / LEARNED_EACH_S;
    bool fresh = !(e->heard & bit);
    e->heard |= bit;
    return fresh;
}

bool learned_count(struct learned *l, const struct learned_report *report, uint32_t now_s)
{
    uint64_t key = key_make(report->prints);
    if (key == 0 || report->technique == TECHNIQUE_UNKNOWN || report->technique >= TECHNIQUE_END)
        return false;
    bool heavy = report->technique != TECHNIQUE_RELAY && is_sample(l, report->call);
    uint16_t units = heavy ? SAMPLE_UNIT : UNIT;
    (void)pthread_mutex_lock(&l->lock);
    struct entry *e = entry_get(l, key, now_s);
    bool fresh = is_fresh(l, e, report, now_s);
    if (fresh)
        e->units[report->technique] = (uint16_t)(e->units[report->technique] + units);
    if (sum(e) > UNITS_MAX)
        halve(e, 1);
    (void)pthread_mutex_unlock(&l->lock);
    return fresh;
}
