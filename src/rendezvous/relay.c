/* The table of pairs. A channel's number says where its pair stands, so that a packet finds it
 * without a search: its two places are read under a version number (odd while they change), the
 * buckets are counters that only grow. Pairs and accounts stand in arrays that are never freed
 * before the relay is: a thread that reads a pair which ends at that moment reads an old one, and
 * sees by the channel that it is none of its own.
 *
 * Calls, answers and openings hold one lock; they are rare, and what was expensive about them has
 * been checked before. */
#include "rendezvous/relay.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/wr.h"
#include "rendezvous/table.h"

#define INDEX_MASK      (RELAY_PAIRS_MAX - 1)
#define GENERATION_MASK ((1u << (31 - RELAY_PAIR_BITS)) - 1)
/* So many ended pairs wait before the first of them is used again, so that an old channel stays
 * unknown for long. */
#define SPARE 1024
/* A bucket holds so much at least: a burst of QUIC is not to be cut off. */
#define BURST_MIN (256 << 10)
/* What a thread takes of the limit for all at once. */
#define CREDIT     (64 << 10)
#define NAME       (2 * RDVMSG_KEY + 8)
#define WORDS      (sizeof(struct place) / 8)
#define NOBODY     UINT32_MAX
#define CALL       8 /* at the end of a name */
#define READ_TRIES 4
/* Packets of a pair that name the call: what a caller has to say until it knows its channel. */
#define EARLY_MAX 12

struct side {
    _Atomic uint32_t version; /* odd: the place is being changed */
    _Atomic uint64_t place[WORDS];
    uint8_t ticket[RDVMSG_TICKET];
};

/* Of a caller; shared by its pairs. */
struct account {
    _Atomic uint64_t spent_ns; /* until when the bucket is in debt */
    uint32_t pairs;
    uint32_t next; /* of the free ones */
    uint8_t key[RDVMSG_KEY];
};

struct pair {
    _Atomic uint32_t channel; /* of the caller's side; 0: passes nothing */
    _Atomic uint32_t used_s;
    _Atomic uint32_t account;
    uint32_t generation;
    struct side sides[RELAY_SIDES];
    struct relay_asked asked; /* where the caller waits for the answer */
    struct nat_print print;   /* the callee's */
    uint32_t next;            /* of the free ones */
    bool here, answered;
    uint8_t early;      /* packets that named the call */
    uint8_t worked;     /* a bit for each technique that the caller has named */
    uint8_t name[NAME]; /* caller, callee, call */
};

/* Indexes of what is free: those that were never used, and a queue of those that were. */
struct spares {
    uint32_t fresh, first, last, count;
};

struct relay {
    pthread_mutex_t lock;
    struct relay_limits limits;
    struct pair *pairs;
    struct account *accounts;
    struct spares spare_pairs, spare_accounts;
    struct table by_name, by_key, by_call;
    struct table_type name_type, key_type, call_type;
    uint8_t hash_key[crypto_shorthash_KEYBYTES];
    _Atomic uint64_t spent_ns;
    _Atomic uint32_t count, swept_at_s;
    _Atomic bool draining;
    uint32_t swept;
};

static struct str pair_name(const void *entry)
{
    return (struct str){(const char *)((const struct pair *)entry)->name, NAME};
}

static struct str pair_call(const void *entry)
{
    return (struct str){(const char *)((const struct pair *)entry)->name + NAME - CALL, CALL};
}

static struct str account_key(const void *entry)
{
    return (struct str){(const char *)((const struct account *)entry)->key, RDVMSG_KEY};
}

static uint64_t hash_of(const void *context, struct str key)
{
    uint64_t hash;
    (void)crypto_shorthash((uint8_t *)&hash, (const uint8_t *)key.p, key.n, context);
    return hash;
}

struct relay *relay_new(const struct relay_limits *limits)
{
    struct relay *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->limits = *limits;
    if (r->limits.pairs > RELAY_PAIRS_MAX)
        r->limits.pairs = RELAY_PAIRS_MAX;
    /* What is not used yet costs nothing: the kernel gives memory when it is written to. */
    r->pairs = calloc(r->limits.pairs + 1, sizeof *r->pairs);
    r->accounts = calloc(r->limits.pairs + 1, sizeof *r->accounts);
    if (!r->pairs || !r->accounts) {
        relay_free(r);
        return NULL;
    }
    (void)pthread_mutex_init(&r->lock, NULL);
    randombytes_buf(r->hash_key, sizeof r->hash_key);
    r->name_type = (struct table_type){pair_name, hash_of, r->hash_key};
    r->key_type = (struct table_type){account_key, hash_of, r->hash_key};
    r->call_type = (struct table_type){pair_call, hash_of, r->hash_key};
    return r;
}

void relay_free(struct relay *r)
{
    if (!r)
        return;
    table_done(&r->by_name);
    table_done(&r->by_key);
    table_done(&r->by_call);
    free(r->pairs);
    free(r->accounts);
    free(r);
}

/* Free ones ----------------------------------------------------------------- */

static uint32_t *pair_next(struct relay *r, uint32_t i)
{
    return &r->pairs[i].next;
}

static uint32_t *account_next(struct relay *r, uint32_t i)
{
    return &r->accounts[i].next;
}

typedef uint32_t *(*next_fn)(struct relay *r, uint32_t i);

/* NOBODY when all are used. */
static uint32_t spare_take(struct relay *r, struct spares *s, next_fn next)
{
    if (s->fresh < r->limits.pairs && s->count < SPARE)
        return s->fresh++;
    if (s->count == 0)
        return NOBODY;
    uint32_t i = s->first;
    s->first = *next(r, i);
    s->count--;
    return i;
}

static void spare_put(struct relay *r, struct spares *s, next_fn next, uint32_t i)
{
    if (s->count++ > 0)
        *next(r, s->last) = i;
    else
        s->first = i;
    s->last = i;
}

/* Places -------------------------------------------------------------------- */

static void side_write(struct side *s, const struct place *p)
{
    uint64_t words[WORDS];
    uint32_t version = atomic_load_explicit(&s->version, memory_order_relaxed);
    memcpy(words, p, sizeof words);
    atomic_store_explicit(&s->version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; i < WORDS; i++)
        atomic_store_explicit(&s->place[i], words[i], memory_order_relaxed);
    atomic_store_explicit(&s->version, version + 2, memory_order_release);
}

static bool side_try(const struct side *s, struct place *ret)
{
    uint64_t words[WORDS];
    uint32_t before = atomic_load_explicit(&s->version, memory_order_acquire);
    for (size_t i = 0; i < WORDS; i++)
        words[i] = atomic_load_explicit(&s->place[i], memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    uint32_t after = atomic_load_explicit(&s->version, memory_order_relaxed);
    memcpy(ret, words, sizeof words);
    return before == after && before % 2 == 0;
}

/* False while it is being changed: who changes it moves, so a packet more or less does not matter.
 */
static bool side_read(const struct side *s, struct place *ret)
{
    for (int i = 0; i < READ_TRIES; i++)
        if (side_try(s, ret))
            return true;
    return false;
}

/* Calls --------------------------------------------------------------------- */

static void name_make(const struct relay_call *c, uint8_t ret_name[NAME])
{
    struct wr w = wr_init(ret_name, NAME);
    wr_bytes(&w, c->caller, RDVMSG_KEY);
    wr_bytes(&w, c->callee, RDVMSG_KEY);
    wr_u64(&w, c->call);
}

static struct pair *pair_find(struct relay *r, const uint8_t name[NAME])
{
    struct str s = {(const char *)name, NAME};
    return table_find(&r->by_name, &r->name_type, s, hash_of(r->hash_key, s));
}

/* The caller's, which it may have already. NULL when there is no room. */
static struct account *account_get(struct relay *r, const uint8_t key[RDVMSG_KEY])
{
    struct str s = {(const char *)key, RDVMSG_KEY};
    uint64_t hash = hash_of(r->hash_key, s);
    struct account *a = table_find(&r->by_key, &r->key_type, s, hash);
    if (a)
        return a;
    uint32_t i = spare_take(r, &r->spare_accounts, account_next);
    if (i == NOBODY)
        return NULL;
    a = &r->accounts[i];
    memcpy(a->key, key, RDVMSG_KEY);
    a->pairs = 0;
    atomic_store_explicit(&a->spent_ns, 0, memory_order_relaxed);
    if (table_insert(&r->by_key, &r->key_type, a, hash) == 0)
        return a;
    spare_put(r, &r->spare_accounts, account_next, i);
    return NULL;
}

static void account_leave(struct relay *r, struct account *a)
{
    if (a->pairs > 0)
        return;
    struct str key = account_key(a);
    (void)table_remove(&r->by_key, &r->key_type, key, hash_of(r->hash_key, key));
    spare_put(r, &r->spare_accounts, account_next, (uint32_t)(a - r->accounts));
}

/* Numbers are chosen at random: of two pairs with one number the first is found. */
static struct pair *call_find(struct relay *r, struct str call)
{
    return table_find(&r->by_call, &r->call_type, call, hash_of(r->hash_key, call));
}

static void call_insert(struct relay *r, struct pair *p)
{
    struct str call = pair_call(p);
    int e = call_find(r, call)
                ? -EEXIST
                : table_insert(&r->by_call, &r->call_type, p, hash_of(r->hash_key, call));
    (void)e; /* its early packets are lost, and nothing else */
}

static void call_remove(struct relay *r, struct pair *p)
{
    struct str call = pair_call(p);
    if (call_find(r, call) == p)
        (void)table_remove(&r->by_call, &r->call_type, call, hash_of(r->hash_key, call));
}

static struct pair *pair_insert(struct relay *r, const uint8_t name[NAME])
{
    uint32_t i = spare_take(r, &r->spare_pairs, pair_next);
    if (i == NOBODY)
        return NULL;
    struct pair *p = &r->pairs[i];
    memcpy(p->name, name, NAME);
    if (table_insert(&r->by_name, &r->name_type, p, hash_of(r->hash_key, pair_name(p))) == 0)
        return p;
    spare_put(r, &r->spare_pairs, pair_next, i);
    return NULL;
}

static void pair_open(struct relay *r, struct pair *p, const struct relay_call *c)
{
    p->generation = p->generation % GENERATION_MASK + 1;
    for (size_t i = 0; i < RELAY_SIDES; i++)
        randombytes_buf(p->sides[i].ticket, RDVMSG_TICKET);
    /* A caller from elsewhere has to open its side here. */
    const struct place nowhere = {.family = 0};
    side_write(&p->sides[RELAY_CALLER], place_is_elsewhere(&c->from) ? &nowhere : &c->from);
    side_write(&p->sides[RELAY_CALLEE], &c->to);
    p->here = true;
    p->answered = false;
    p->worked = p->early = 0;
    if (!place_is_elsewhere(&c->from))
        call_insert(r, p);
    atomic_fetch_add(&r->count, 1);
    atomic_store_explicit(&p->channel,
                          p->generation << (RELAY_PAIR_BITS + 1) | (uint32_t)(p - r->pairs) << 1,
                          memory_order_release);
}

/* NULL when there is no room, or the caller has as many as it may. */
static struct pair *pair_new(struct relay *r, const struct relay_call *c, const uint8_t name[NAME])
{
    struct account *a = account_get(r, c->caller);
    if (!a)
        return NULL;
    struct pair *p = a->pairs < r->limits.pairs_key ? pair_insert(r, name) : NULL;
    if (!p) {
        account_leave(r, a);
        return NULL;
    }
    a->pairs++;
    atomic_store_explicit(&p->account, (uint32_t)(a - r->accounts), memory_order_relaxed);
    pair_open(r, p, c);
    return p;
}

static void pair_end(struct relay *r, struct pair *p)
{
    struct account *a = &r->accounts[p->account];
    struct str name = pair_name(p);
    atomic_store(&p->channel, 0);
    call_remove(r, p);
    (void)table_remove(&r->by_name, &r->name_type, name, hash_of(r->hash_key, name));
    p->here = false;
    spare_put(r, &r->spare_pairs, pair_next, (uint32_t)(p - r->pairs));
    a->pairs--;
    account_leave(r, a);
    atomic_fetch_sub(&r->count, 1);
}

static enum rdv_reason call_locked(struct relay *r, const struct relay_call *c, uint32_t now_s,
                                   struct relay_ends *ret_ends)
{
    uint8_t name[NAME];
    name_make(c, name);
    struct pair *p = pair_find(r, name);
    if (!p && atomic_load(&r->draining))
        return RDV_DRAINING;
    if (!p)
        p = pair_new(r, c, name);
    if (!p)
        return RDV_NO_RELAY;
    p->asked = (struct relay_asked){c->from, c->rtt_us, c->print};
    atomic_store(&p->used_s, now_s);
    uint32_t channel = atomic_load(&p->channel);
    if (channel == 0)
        return RDV_DECLINED;
    for (uint32_t i = 0; i < RELAY_SIDES; i++) {
        ret_ends->channel[i] = channel | i;
        memcpy(ret_ends->ticket[i], p->sides[i].ticket, RDVMSG_TICKET);
    }
    return RDV_OK;
}

enum rdv_reason relay_call(struct relay *r, const struct relay_call *c, uint32_t now_s,
                           struct relay_ends *ret_ends)
{
    (void)pthread_mutex_lock(&r->lock);
    enum rdv_reason reason = call_locked(r, c, now_s, ret_ends);
    (void)pthread_mutex_unlock(&r->lock);
    return reason;
}

enum rdv_reason relay_answer(struct relay *r, const struct relay_call *c, enum rdv_reason reason,
                             struct relay_asked *ret_asked)
{
    uint8_t name[NAME];
    name_make(c, name);
    (void)pthread_mutex_lock(&r->lock);
    struct pair *p = pair_find(r, name);
    if (p)
        *ret_asked = p->asked;
    if (p && reason == RDV_OK) {
        p->answered = true;
        p->print = c->print;
    }
    /* It still counts as one of its caller's until it is idle, so that calls that are declined are
     * no way around the limit. */
    if (p && reason != RDV_OK)
        atomic_store(&p->channel, 0);
    (void)pthread_mutex_unlock(&r->lock);
    return p ? RDV_OK : RDV_UNKNOWN_CALL;
}

enum rdv_reason relay_worked(struct relay *r, const struct relay_call *c, enum technique technique,
                             struct relay_worked *ret_worked)
{
    uint8_t name[NAME], bit = (uint8_t)(1u << technique);
    name_make(c, name);
    (void)pthread_mutex_lock(&r->lock);
    struct pair *p = pair_find(r, name);
    bool known = p && p->answered;
    if (known) {
        *ret_worked = (struct relay_worked){{p->asked.print, p->print}, (p->worked & bit) != 0};
        p->worked |= bit;
    }
    (void)pthread_mutex_unlock(&r->lock);
    return known ? RDV_OK : RDV_UNKNOWN_CALL;
}

/* The pair, if it has this channel. */
static struct pair *pair_at(struct relay *r, uint32_t channel)
{
    uint32_t i = channel >> 1 & INDEX_MASK;
    if (i >= r->limits.pairs)
        return NULL;
    struct pair *p = &r->pairs[i];
    uint32_t is = atomic_load_explicit(&p->channel, memory_order_acquire);
    return is != 0 && is == (channel & ~1u) ? p : NULL;
}

enum rdv_reason relay_open(struct relay *r, uint32_t channel, const uint8_t ticket[RDVMSG_TICKET],
                           const struct place *at, uint32_t now_s)
{
    enum rdv_reason reason = RDV_UNKNOWN_CHANNEL;
    if (!pair_at(r, channel))
        return reason;
    (void)pthread_mutex_lock(&r->lock);
    struct pair *p = pair_at(r, channel);
    if (p && sodium_memcmp(p->sides[channel & 1].ticket, ticket, RDVMSG_TICKET) == 0) {
        side_write(&p->sides[channel & 1], at);
        atomic_store(&p->used_s, now_s);
        reason = RDV_OK;
    }
    (void)pthread_mutex_unlock(&r->lock);
    return reason;
}

bool relay_is_at(struct relay *r, uint32_t channel, const struct place *at)
{
    struct place is;
    const struct pair *p = pair_at(r, channel);
    return p && side_read(&p->sides[channel & 1], &is) && place_equal(&is, at);
}

/* Packets ------------------------------------------------------------------- */

/* A bucket that holds a quarter of a second: it is in debt up to a point of time, and each byte
 * moves that on. Threads that meet here may lose some of each other's bytes; nobody waits. */
static bool bucket_take(_Atomic uint64_t *spent_ns, uint64_t rate, size_t bytes, uint64_t now_ms)
{
    uint64_t now_ns = now_ms * 1000000;
    uint64_t burst = rate / 4 > BURST_MIN ? rate / 4 : BURST_MIN;
    uint64_t spent = atomic_load_explicit(spent_ns, memory_order_relaxed);
    uint64_t next = (spent > now_ns ? spent : now_ns) + bytes * 1000000000u / rate;
    if (next - now_ns > burst * 1000000000u / rate)
        return false;
    atomic_store_explicit(spent_ns, next, memory_order_relaxed);
    return true;
}

static bool credit_take(struct relay *r, struct relay_credit *credit, size_t bytes, uint64_t now_ms)
{
    if (r->limits.rate_all == 0)
        return true;
    if (credit->bytes < bytes) {
        size_t more = bytes > CREDIT ? bytes : CREDIT;
        if (!bucket_take(&r->spent_ns, r->limits.rate_all, more, now_ms))
            return false;
        credit->bytes += more;
    }
    credit->bytes -= bytes;
    return true;
}

enum relay_verdict relay_pass(struct relay *r, struct relay_credit *credit,
                              const struct relay_packet *p, uint32_t *ret_channel,
                              struct place *ret_to)
{
    struct pair *pair = pair_at(r, p->channel);
    struct place is;
    uint32_t side = p->channel & 1, now_s = (uint32_t)(p->now_ms / 1000);
    if (!pair || !side_read(&pair->sides[side], &is) || !place_equal(&is, &p->from) ||
        !side_read(&pair->sides[!side], ret_to) || pair_at(r, p->channel) != pair)
        return RELAY_UNKNOWN;
    if (atomic_load_explicit(&pair->used_s, memory_order_relaxed) != now_s)
        atomic_store_explicit(&pair->used_s, now_s, memory_order_relaxed);
    if (ret_to->family == 0)
        return RELAY_NOWHERE;
    struct account *a = &r->accounts[atomic_load_explicit(&pair->account, memory_order_relaxed)];
    if (r->limits.rate_key && !bucket_take(&a->spent_ns, r->limits.rate_key, p->bytes, p->now_ms))
        return RELAY_LIMITED;
    if (!credit_take(r, credit, p->bytes, p->now_ms))
        return RELAY_LIMITED;
    *ret_channel = p->channel ^ 1;
    return RELAY_PASS;
}

/* Who sends many packets that name no call must not hold up the calls, or the packets of others:
 * where the lock is not free this one is lost. */
uint32_t relay_early(struct relay *r, uint64_t call, const struct place *from)
{
    uint8_t bytes[CALL];
    uint32_t channel = 0;
    struct place is;
    struct wr w = wr_init(bytes, sizeof bytes);
    wr_u64(&w, call);
    if (pthread_mutex_trylock(&r->lock) != 0)
        return 0;
    struct pair *p = call_find(r, (struct str){(const char *)bytes, sizeof bytes});
    if (p && p->early < EARLY_MAX && side_read(&p->sides[RELAY_CALLER], &is) &&
        place_equal(&is, from)) {
        p->early++;
        channel = atomic_load(&p->channel);
    }
    (void)pthread_mutex_unlock(&r->lock);
    return channel;
}

/* Housekeeping -------------------------------------------------------------- */

void relay_drain(struct relay *r)
{
    atomic_store(&r->draining, true);
}

size_t relay_count(struct relay *r)
{
    return atomic_load(&r->count);
}

void relay_sweep(struct relay *r, uint32_t now_s)
{
    /* Any thread may call; one a second does the work. */
    if (atomic_exchange(&r->swept_at_s, now_s) == now_s)
        return;
    (void)pthread_mutex_lock(&r->lock);
    uint32_t all = r->spare_pairs.fresh, part = all < 64 ? all : all / 8;
    for (uint32_t i = 0; i < part; i++) {
        struct pair *p = &r->pairs[r->swept++ % all];
        uint32_t used_s = atomic_load_explicit(&p->used_s, memory_order_relaxed);
        /* Signed: another thread's clock may be a little ahead. */
        if (p->here && (int32_t)(now_s - used_s) >= RELAY_IDLE_S)
            pair_end(r, p);
    }
    (void)pthread_mutex_unlock(&r->lock);
}
