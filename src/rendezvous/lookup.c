/* LOOKUP, and what changes or lists names: CLAIM, RELEASE and LIST, which the store answers. */
#include <stdlib.h>

#include "rendezvous/handlers.h"
#include "rendezvous/signed.h"

enum rdv_reason handle_lookup(struct rdv *r, struct request *q, struct rdvmsg *answer)
{
    const struct rdvmsg *m = q->m;
    uint32_t age_s = 0;
    uint64_t since = 0;
    bool by_name = m->name.n > 0;
    if (by_name && !record_name_valid(m->name))
        return RDV_BAD_NAME;
    if (!by_name)
        memcpy(answer->key, m->key, RDVMSG_KEY);
    else if (!names_find(r->shared->names, m->name, answer->key, &since))
        return RDV_UNKNOWN_NAME;
    size_t n = registry_get(r->shared->registry, answer->key, q->now_s, q->buf, &age_s);
    /* Refreshed or not, what has expired is of no use to anybody. */
    if (n > 0 && record_not_after((struct str){(const char *)q->buf, n}) <= q->in->unix_s)
        n = 0;
    if (n == 0 && !by_name)
        return RDV_NOT_REGISTERED;
    answer->type = RDVMSG_FOUND;
    answer->number = since;
    answer->age_s = age_s;
    answer->record = (struct str){(const char *)q->buf, n};
    return RDV_OK;
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
    if (reason != RDV_OK)
        return reason;
    struct names_job *job = calloc(1, sizeof *job);
    if (!job)
        return RDV_BUSY;
    job->outbox = &r->outbox;
    job->type = q->m->type;
    job->transaction = q->m->transaction;
    job->from = q->in->from;
    job->via = q->in->via;
    job->unix_s = q->in->unix_s;
    job->name_n = (uint8_t)q->m->name.n;
    memcpy(job->key, q->m->key, RDVMSG_KEY);
    memcpy(job->name, q->m->name.p, q->m->name.n);
    if (names_store_post(r->shared->store, job) == 0)
        return RDV_OK;
    free(job);
    return RDV_BUSY;
}
