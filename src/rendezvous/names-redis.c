/* Names in Redis. A claim and a release are scripts, so that nothing comes between looking and
 * writing and both keys are written or none. How durable they are is Redis's to say (appendonly,
 * appendfsync). The numbers that scripts return are those of enum rdv_reason. */
#include <hiredis/hiredis.h>
#include <stdio.h>

#include "base/rd.h"
#include "base/wr.h"
#include "rendezvous/redis-engine.h"

#define VALUE (RDVMSG_KEY + 8)

/* ARGV: name, key, key and time, most names of a key, most names. */
static const char claim_script[] =
    "local v = redis.call('HGET', KEYS[1], ARGV[1]) "
    "if v and string.sub(v, 1, 32) == ARGV[2] then return {0, v} end "
    "if v then return {13, v} end "
    "if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[5]) then return {18, ''} end "
    "if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[4]) then return {15, ''} end "
    "redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) "
    "redis.call('SADD', KEYS[2], ARGV[1]) "
    "return {0, ARGV[3]}";
static const char release_script[] = "local v = redis.call('HGET', KEYS[1], ARGV[1]) "
                                     "if not v then return {11, ''} end "
                                     "if string.sub(v, 1, 32) ~= ARGV[2] then return {14, v} end "
                                     "redis.call('HDEL', KEYS[1], ARGV[1]) "
                                     "redis.call('SREM', KEYS[2], ARGV[1]) "
                                     "return {0, v}";
_Static_assert(RDV_NAME_TAKEN == 13 && RDV_FULL == 18 && RDV_TOO_MANY_NAMES == 15 &&
                   RDV_UNKNOWN_NAME == 11 && RDV_NOT_OWNER == 14,
               "the scripts know these numbers");

/* Copied, for the job's own name and key go with it. */
static struct str name_of(const struct job *job)
{
    return (struct str){job->name, job->name_n};
}

static bool changed(struct redis_ask *a, const struct redisReply *reply)
{
    struct job *job = a->job;
    job->reason = RDV_STORAGE;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2)
        return true;
    const redisReply *reason = reply->element[0], *value = reply->element[1];
    if (reason->type == REDIS_REPLY_INTEGER && reason->integer >= 0 &&
        reason->integer < RDV_REASON_COUNT)
        job->reason = (enum rdv_reason)reason->integer;
    if (value->type == REDIS_REPLY_STRING) {
        struct rd rd = rd_init(value->str, (size_t)value->len);
        (void)rd_bytes(&rd, RDVMSG_KEY);
        job->since = rd_u64(&rd);
    }
    return true;
}

/* Sorted by Redis. */
static bool listed(struct redis_ask *a, const struct redisReply *reply)
{
    struct job *job = a->job;
    job->reason = reply->type == REDIS_REPLY_ARRAY ? RDV_OK : RDV_STORAGE;
    if (job->reason != RDV_OK)
        return true;
    for (size_t i = 0; i < reply->elements && job->held_count < RDVMSG_NAMES_MAX; i++) {
        const redisReply *e = reply->element[i];
        if (e->type != REDIS_REPLY_STRING || e->len <= 0 || e->len > RECORD_NAME_MAX)
            continue;
        memcpy(job->held[job->held_count], e->str, (size_t)e->len);
        job->held_n[job->held_count++] = (uint8_t)e->len;
    }
    return true;
}

static int change_ask(struct redis_ask *a, const char *script)
{
    struct job *job = a->job;
    uint8_t value[VALUE];
    char held_most[16], most[24];
    struct redis_key held = redis_key_make(REDIS_KEY_HELD, job->key);
    struct wr w = wr_init(value, sizeof value);
    wr_bytes(&w, job->key, RDVMSG_KEY);
    wr_u64(&w, job->unix_s);
    const struct str words[] = {
        STR("EVAL"),
        str_of(script),
        STR("2"),
        STR(REDIS_KEY_NAMES),
        redis_key_str(&held),
        name_of(job),
        {(const char *)job->key, RDVMSG_KEY},
        {(const char *)value, sizeof value},
        {held_most, (size_t)snprintf(held_most, sizeof held_most, "%d", RDVMSG_NAMES_MAX)},
        {most, (size_t)snprintf(most, sizeof most, "%zu", a->redis->shared->names_max)}};
    a->answered = changed;
    return redis_link_send(&a->redis->link, &a->call, REDIS_PENDING_MAX, words,
                           sizeof words / sizeof *words);
}

int redis_name_ask(struct redis_ask *a)
{
    if (a->job->type == RDVMSG_CLAIM)
        return change_ask(a, claim_script);
    if (a->job->type == RDVMSG_RELEASE)
        return change_ask(a, release_script);
    struct redis_key held = redis_key_make(REDIS_KEY_HELD, a->job->key);
    const struct str words[] = {STR("SORT"), redis_key_str(&held), STR("ALPHA")};
    a->answered = listed;
    return redis_link_send(&a->redis->link, &a->call, REDIS_PENDING_MAX, words, 3);
}
