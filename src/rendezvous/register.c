/* REGISTER and REFRESH. A registration has two signatures: the record's, which everybody can check
 * later, and the login's, which says that its owner wants it registered here, now, from this
 * address. Both are checked once; afterwards the token does. */
#include "rendezvous/handlers.h"
#include "rendezvous/signed.h"

static enum rdv_reason time_check(const struct record *rec, uint64_t unix_s)
{
    if (rec->not_after <= unix_s)
        return RDV_EXPIRED;
    return rec->not_after - unix_s > RDV_VALID_MAX_S ? RDV_TOO_LONG_VALID : RDV_OK;
}

enum rdv_reason signature_allowed(struct rdv *r, struct request *q)
{
    q->number = 1; /* second, then it is worth trying again */
    if (!limits_take(r->limits, LIMIT_SIGNATURE, &q->in->from, q->in->now_ms))
        return RDV_RATE_LIMITED;
    if (!limits_take_all(r->limits, LIMIT_SIGNATURE, q->in->now_ms))
        return RDV_BUSY;
    return RDV_OK;
}

static enum rdv_reason signatures_check(struct rdv *r, struct request *q, const struct record *rec)
{
    enum rdv_reason reason = signature_allowed(r, q);
    if (reason != RDV_OK)
        return reason;
    if (!signed_request_check(rec->key, KEY_LOGIN, q->m, q->m->record))
        return RDV_FORGED;
    /* The very bytes that are registered already were checked when they came. */
    if (registry_has(r->shared->registry, q->m->record, q->now_s))
        return RDV_OK;
    return signed_record_check(q->m->record);
}

static enum rdv_reason reason_of(enum registry_result result)
{
    switch (result) {
    case REGISTRY_OK:
        return RDV_OK;
    case REGISTRY_OLDER:
        return RDV_REPLAYED;
    case REGISTRY_OTHER:
        return RDV_SEQUENCE_REUSED;
    default:
        return RDV_FULL;
    }
}

enum rdv_reason handle_register(struct rdv *r, struct request *q, struct rdvmsg *answer)
{
    struct record rec;
    const struct place at = place_make(&q->in->from, &q->in->via);
    enum rdv_reason reason = signed_record_decode(q->m->record, &rec);
    if (reason == RDV_OK)
        reason = time_check(&rec, q->in->unix_s);
    if (reason == RDV_OK)
        reason = signatures_check(r, q, &rec);
    if (reason != RDV_OK)
        return reason;
    reason = reason_of(registry_put(r->shared->registry, q->m->record, &at, q->now_s, &q->number));
    if (reason != RDV_OK)
        return reason;
    if (r->redis)
        (void)redis_renew(r->redis, rec.key, q->now_s);
    answer->type = RDVMSG_REGISTERED;
    answer->number = q->number;
    answer->lifetime_s = r->shared->lease_s;
    answer->refresh_s = r->shared->refresh_s;
    secrets_token(&r->secrets, rec.key, &q->in->from, answer->token);
    answer->word = secrets_word(&r->secrets, rec.key, &q->in->from);
    return RDV_OK;
}

enum rdv_reason handle_refresh(struct rdv *r, struct request *q, struct rdvmsg *answer)
{
    if (!secrets_token_good(&r->secrets, q->m->key, &q->in->from, q->m->token, answer->token))
        return RDV_BAD_TOKEN;
    const struct place at = place_make(&q->in->from, &q->in->via);
    if (!registry_refresh(r->shared->registry, q->m->key, &at, q->now_s, &answer->number))
        return RDV_NOT_REGISTERED;
    if (r->redis)
        (void)redis_renew(r->redis, q->m->key, q->now_s);
    answer->type = RDVMSG_REFRESHED;
    answer->word = secrets_word(&r->secrets, q->m->key, &q->in->from);
    answer->lifetime_s = r->shared->lease_s;
    answer->refresh_s = r->shared->refresh_s;
    return RDV_OK;
}
