/* LOOKUP, and what changes or lists names: CLAIM, RELEASE and LIST. What memory does not answer at
 * once becomes a job: of the store on disk, or of Redis. */
#include <stdlib.h>

#include "rendezvous/handlers.h"
#include "rendezvous/instant.h"
#include "rendezvous/signed.h"

static bool is_of_call(const struct rdvmsg *m)
{
    return m->type == RDVMSG_CALL || m->type == RDVMSG_WORKED;
}

/* The token is nobody else's business, and from there the caller is further away. */
static void call_copy(const struct rdv *r, const struct request *q, struct job *job)
{
    struct rdvmsg m = *q->m;
    memset(m.token, 0, sizeof m.token);
    m.rtt_us = m.type == RDVMSG_CALL ? instant_through(m.rtt_us, redis_hop_us(r->redis)) : 0;
    int n = rdvmsg_encode(&m, job->message, sizeof job->message);
    job->message_n = (uint16_t)(n > 0 ? n : 0);
}

static struct job *job_new(struct rdv *r, const struct request *q)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    job->outbox = &r->outbox;
    job->type = q->m->type;
    job->transaction = q->m->transaction;
    job->from = q->in->from;
    job->via = q->in->via;
    job->unix_s = q->in->unix_s;
    job->proven = q->proven;
    job->asked = (uint16_t)q->in->bytes.n;
    job->name_n = (uint8_t)q->m->name.n;
    memcpy(job->key, is_of_call(q->m) ? q->m->peer : q->m->key, RDVMSG_KEY);
    memcpy(job->name, q->m->name.p, q->m->name.n);
    if (is_of_call(q->m))
        call_copy(r, q, job);
    return job;
}

enum rdv_reason job_post(struct rdv *r, const struct request *q)
{
    struct job *job = job_new(r, q);
    if (!job)
        return RDV_BUSY;
    enum rdv_reason reason = r->redis ? redis_post(r->redis, job)
                             : names_store_post(r->shared->store, job) == 0 ? RDV_OK
                                                                            : RDV_BUSY;
    if (reason != RDV_OK)
        free(job);
    return reason;
}

enum rdv_reason lookup_answer(struct str record, bool by_name, uint64_t unix_s,
                              struct rdvmsg *answer)
{
    /* Refreshed or not, what has expired is of no use to anybody. */
    if (record.n > 0 && record_not_after(record) <= unix_s)
        record.n = 0;
    if (record.n == 0 && !by_name)
        return RDV_NOT_REGISTERED;
    answer->type = RDVMSG_FOUND;
    answer->record = record;
    return RDV_OK;
}

enum rdv_reason handle_lookup(struct rdv *r, struct request *q, struct rdvmsg *answer)
{
    const struct rdvmsg *m = q->m;
    bool by_name = m->name.n > 0;
    if (by_name && !record_name_valid(m->name))
        return RDV_BAD_NAME;
    if (by_name && r->redis)
        return job_post(r, q);
    answer->age_s = 0;
    answer->number = 0;
    if (!by_name)
        memcpy(answer->key, m->key, RDVMSG_KEY);
    else if (!names_find(r->shared->names, m->name, answer->key, &answer->number))
        return RDV_UNKNOWN_NAME;
    size_t n = registry_get(r->shared->registry, answer->key, q->now_s, q->buf, &answer->age_s);
    if (n == 0 && r->redis)
        return job_post(r, q);
    return lookup_answer((struct str){(const char *)q->buf, n}, by_name, q->in->unix_s, answer);
}

static enum rdv_reason name_check(struct rdv *r, struct request *q)
{
    const struct rdvmsg *m = q->m;
    enum key_purpose purpose = m->type == RDVMSG_CLAIM ? KEY_CLAIM : KEY_RELEASE;
    if (m->type == RDVMSG_LIST)
        return signature_allowed(r, q); /* it costs the store as much */
    if (!record_name_valid(m->name))
        return RDV_BAD_NAME;
    enum rdv_reason reason = signature_allowed(r, q);
    if (reason != RDV_OK)
        return reason;
    return signed_request_check(m->key, purpose, m, m->name) ? RDV_OK : RDV_FORGED;
}

enum rdv_reason handle_name(struct rdv *r, struct request *q, struct rdvmsg *answer)
{
    (void)answer;
    enum rdv_reason reason = name_check(r, q);
    return reason == RDV_OK ? job_post(r, q) : reason;
}
