/* One thread's share of Redis: the connection and what happens when it comes and goes, and the jobs
 * that wait for answers. */
#include "rendezvous/redis.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/wr.h"
#include "rendezvous/redis-engine.h"

struct redis_key redis_key_make(const char *prefix, const uint8_t key[RECORD_KEY])
{
    struct redis_key k;
    struct wr w = wr_init(k.bytes, sizeof k.bytes);
    wr_bytes(&w, prefix, strlen(prefix));
    wr_bytes(&w, key, RECORD_KEY);
    k.n = w.used;
    return k;
}

struct str redis_key_str(const struct redis_key *k)
{
    return (struct str){(const char *)k->bytes, k->n};
}

static void changed(struct redis_link *l)
{
    struct redis *r = container_of(l, struct redis, link);
    if (l->up) {
        r->told[0] = '\0';
        r->host->changed(r->host, "up", "");
        redis_copies_renew(r);
        return;
    }
    r->down_ms = clock_now_ms();
    /* Each try fails for the same reason. */
    if (strcmp(r->told, l->why) != 0)
        r->host->changed(r->host, "away", l->why);
    memcpy(r->told, l->why, sizeof r->told);
}

struct redis *redis_new(struct redis_shared *shared, struct redis_host *host)
{
    struct redis *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->shared = shared;
    r->host = host;
    r->link.loop = host->loop;
    r->link.target = &shared->target;
    r->link.changed = changed;
    memcpy(r->node, shared->node, sizeof r->node - 1);
    r->node[sizeof r->node - 1] = host->thread;
    redis_copies_start(r);
    redis_link_start(&r->link);
    redis_nodes_start(r);
    return r;
}

void redis_free(struct redis *r)
{
    if (!r)
        return;
    redis_link_stop(&r->link);
    redis_nodes_stop(r);
    loop_untimer(&r->pace);
    free(r);
}

void redis_ask_done(struct redis_ask *a)
{
    job_done(a->job);
    free(a);
}

static void asked(struct redis_call *c, const struct redisReply *reply)
{
    struct redis_ask *a = container_of(c, struct redis_ask, call);
    if (!reply || reply->type == REDIS_REPLY_ERROR)
        a->job->reason = RDV_STORAGE;
    else if (!a->answered(a, reply))
        return;
    redis_ask_done(a);
}

enum rdv_reason redis_reason(int r)
{
    return r == -EBUSY ? RDV_BUSY : RDV_STORAGE;
}

enum rdv_reason redis_post(struct redis *r, struct job *job)
{
    struct redis_ask *a = calloc(1, sizeof *a);
    if (!a)
        return RDV_BUSY;
    a->call.done = asked;
    a->redis = r;
    a->job = job;
    int e = job->type == RDVMSG_LOOKUP                               ? redis_lookup_ask(a)
            : job->type == RDVMSG_CALL || job->type == RDVMSG_WORKED ? redis_call_ask(a)
                                                                     : redis_name_ask(a);
    if (e == 0)
        return RDV_OK;
    free(a);
    return redis_reason(e);
}
