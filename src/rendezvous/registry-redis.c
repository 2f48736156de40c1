/* Copies of leases in Redis, and looking up what is not registered here. A copy lives for a lease
 * and a third, and is written anew at the first sign of life that comes a third of a lease after
 * the last writing; so most refreshes cost Redis nothing. Two servers that a peer is registered at
 * write the same key in turn: whichever lives renews it. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/rd.h"
#include "base/wr.h"
#include "rendezvous/redis-engine.h"
#include "rendezvous/signed.h"

#define COPY_VERSION 1
#define COPY_MAX     (1 + NODEMSG_NODE + 8 + RECORD_MAX)
/* All copies anew: so many each so often, and never so many that others wait long. */
#define PACE_MS      10
#define PACE_COPIES  256
#define PACE_PENDING 512

static uint32_t third_of(const struct redis_shared *s)
{
    return s->lease_s / 3 + 1;
}

static struct registry_copies copies_now(struct redis *r, uint32_t now_s)
{
    return (struct registry_copies){r->shared->round, now_s, third_of(r->shared)};
}

static void copy_done(struct redis_call *c, const struct redisReply *reply)
{
    struct redis *r = container_of(c, struct redis, copy);
    bool refused = reply && reply->type == REDIS_REPLY_ERROR;
    if (refused && !r->refuses)
        r->host->changed(r->host, "refuses", reply->str);
    if (reply)
        r->refuses = refused;
    r->copied += reply && !refused;
}

/* version, the thread that it is registered at, Unix time of the last sign of life, signed record
 */
static void copy_send(struct redis *r, struct str record, uint32_t age_s)
{
    uint8_t value[COPY_MAX];
    char life[16];
    struct redis_key key = redis_key_make(REDIS_KEY_PEER, (const uint8_t *)record.p + 1);
    struct wr w = wr_init(value, sizeof value);
    wr_u8(&w, COPY_VERSION);
    wr_bytes(&w, r->node, NODEMSG_NODE);
    wr_u64(&w, (uint64_t)time(NULL) - age_s);
    wr_bytes(&w, record.p, record.n);
    uint32_t life_s = r->shared->lease_s + third_of(r->shared) - age_s;
    const struct str words[] = {STR("SET"),
                                redis_key_str(&key),
                                {(const char *)value, w.used},
                                STR("EX"),
                                {life, (size_t)snprintf(life, sizeof life, "%u", life_s)}};
    if (redis_link_send(&r->link, &r->copy, REDIS_COPIES_MAX, words, 5) < 0)
        redis_link_renew(&r->link, "cannot send");
}

bool redis_renew(struct redis *r, const uint8_t key[RECORD_KEY], uint32_t now_s)
{
    uint8_t record[RECORD_MAX];
    uint32_t age_s;
    struct registry_copies c = copies_now(r, now_s);
    /* What there is no room for stays due. */
    if (!r->link.up || r->link.pending >= REDIS_COPIES_MAX)
        return false;
    size_t n = registry_due(r->shared->registry, &c, key, record, &age_s);
    if (n > 0)
        copy_send(r, (struct str){(const char *)record, n}, age_s);
    return true;
}

uint64_t redis_copied(const struct redis *r)
{
    return r->copied;
}

/* Takes shards until there are no more. */
static void walk(struct redis *r)
{
    uint8_t record[RECORD_MAX];
    uint32_t age_s;
    struct registry_copies c = copies_now(r, (uint32_t)(clock_now_ms() / 1000));
    for (size_t i = 0; i < PACE_COPIES && r->link.up && r->link.pending < PACE_PENDING; i++) {
        size_t n = registry_due_next(r->shared->registry, &c, &r->walk, record, &age_s);
        if (n > 0) {
            copy_send(r, (struct str){(const char *)record, n}, age_s);
            continue;
        }
        if (r->shared->walked >= REGISTRY_SHARDS)
            return;
        r->walk = (struct registry_cursor){r->shared->walked++, 0};
    }
    loop_timer(r->host->loop, &r->pace, PACE_MS);
}

static void pace(struct timer *t)
{
    struct redis *r = container_of(t, struct redis, pace);
    if (r->link.up)
        walk(r);
}

void redis_copies_start(struct redis *r)
{
    r->copy.done = copy_done;
    r->pace.fire = pace;
    r->walk.place = SIZE_MAX;
}

/* Every connection that was lost may have lost copies, and Redis may have lost all of them. When
 * another thread has begun a round since, ours are part of it. */
void redis_copies_renew(struct redis *r)
{
    struct redis_shared *s = r->shared;
    if (s->round_ms <= r->down_ms) {
        s->round_ms = clock_now_ms();
        if (++s->round == 0)
            ++s->round;
        s->walked = 0;
    }
    loop_timer(r->host->loop, &r->pace, 0);
}

/* Looking up ----------------------------------------------------------------------------------- */

bool redis_copy_decode(struct str value, struct redis_copy *ret_copy)
{
    struct rd rd = rd_init(value.p, value.n);
    bool known = rd_u8(&rd) == COPY_VERSION;
    struct str node = rd_bytes(&rd, NODEMSG_NODE);
    ret_copy->seen_s = rd_u64(&rd);
    ret_copy->record = (struct str){(const char *)rd.p, rd.left};
    if (!known || !rd_ok(&rd) || rd.left > RECORD_MAX)
        return false;
    memcpy(ret_copy->node, node.p, NODEMSG_NODE);
    return true;
}

static bool copy_take(struct job *job, struct str value)
{
    struct redis_copy copy;
    struct record rec;
    if (!redis_copy_decode(value, &copy) || signed_record_decode(copy.record, &rec) != RDV_OK ||
        memcmp(rec.key, job->key, RECORD_KEY) != 0)
        return false;
    memcpy(job->record, copy.record.p, copy.record.n);
    job->record_n = (uint16_t)copy.record.n;
    /* The clocks of two servers are not quite the same. */
    job->age_s = copy.seen_s < job->unix_s ? (uint32_t)(job->unix_s - copy.seen_s) : 0;
    return true;
}

static bool copy_found(struct redis_ask *a, const struct redisReply *reply)
{
    a->job->reason = RDV_OK;
    if (reply->type != REDIS_REPLY_STRING ||
        !copy_take(a->job, (struct str){reply->str, (size_t)reply->len}))
        a->job->record_n = 0;
    return true;
}

static int copy_ask(struct redis_ask *a)
{
    struct redis_key key = redis_key_make(REDIS_KEY_PEER, a->job->key);
    const struct str words[] = {STR("GET"), redis_key_str(&key)};
    a->answered = copy_found;
    return redis_link_send(&a->redis->link, &a->call, REDIS_LOOKUPS_MAX, words, 2);
}

/* Who holds the name may be registered here. */
static bool name_found(struct redis_ask *a, const struct redisReply *reply)
{
    struct job *job = a->job;
    job->reason = RDV_UNKNOWN_NAME;
    if (reply->type != REDIS_REPLY_STRING)
        return true;
    struct rd rd = rd_init(reply->str, (size_t)reply->len);
    struct str key = rd_bytes(&rd, RDVMSG_KEY);
    job->since = rd_u64(&rd);
    if (!rd_ok(&rd))
        return true;
    memcpy(job->key, key.p, key.n);
    job->reason = RDV_OK;
    job->record_n =
        (uint16_t)registry_get(a->redis->shared->registry, job->key,
                               (uint32_t)(clock_now_ms() / 1000), job->record, &job->age_s);
    if (job->record_n > 0)
        return true;
    int r = copy_ask(a);
    if (r < 0)
        job->reason = redis_reason(r);
    return r < 0;
}

int redis_lookup_ask(struct redis_ask *a)
{
    if (a->job->name_n == 0)
        return copy_ask(a);
    const struct str words[] = {STR("HGET"), STR(REDIS_KEY_NAMES), {a->job->name, a->job->name_n}};
    a->answered = name_found;
    return redis_link_send(&a->redis->link, &a->call, REDIS_LOOKUPS_MAX, words, 3);
}
