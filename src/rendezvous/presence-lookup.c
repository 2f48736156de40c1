/* Lookups: each is asked of all servers at once, and ends with the best that any of them had. What
 * a server says is believed only as far as the peer's signature goes. Names and keys come in, one
 * found() for each goes out. */
#include <stdlib.h>

#include "rendezvous/presence-internal.h"

/* After it, what has been heard must do. */
#define LOOKUP_US (5 * S)
/* So long the first good answer waits for those of other servers that are there. */
#define GRACE_US (50 * MS)
/* Padded to the longest answer where no cookie proves our address. */
#define LOOKUP_PAD 1100

static void lookup_end(struct presence *p, struct lookup *l)
{
    l->ended = true;
    p->lookup_count--;
    if (l->best_server == PRESENCE_NO_SERVER)
        l->best.reason = l->reason != RDV_OK ? l->reason : RDV_BUSY;
    p->host.found(p->ctx, l->user, &l->best);
}

static void lookup_free(struct lookup *l)
{
    list_remove(&l->link);
    free(l);
}

void presence_lookups_free(struct presence *p)
{
    list_for_each(l, &p->lookups, struct lookup, link) lookup_free(l);
}

int presence_lookup(struct presence *p, struct str name, const struct key *key, void *user)
{
    if (name.n > RECORD_NAME_MAX)
        return -EINVAL;
    struct lookup *l = p->lookup_count < PRESENCE_LOOKUPS_MAX ? calloc(1, sizeof *l) : NULL;
    if (!l)
        return -EAGAIN;
    l->name_n = name.n;
    if (name.n > 0)
        memcpy(l->name, name.p, name.n);
    else
        l->key = *key;
    l->user = user;
    l->best_server = PRESENCE_NO_SERVER;
    for (uint32_t i = 0; i < p->server_count; i++)
        question_start(&l->at[i].q, p->now_us);
    list_append(&p->lookups, &l->link);
    p->lookup_count++;
    return 0;
}

static void lookup_send(struct presence *p, struct lookup *l, uint32_t server)
{
    const struct server *s = &p->servers[server];
    struct rdvmsg m = {.type = RDVMSG_LOOKUP,
                       .transaction = question_transaction(&l->at[server].q),
                       .name = {l->name, l->name_n}};
    memcpy(m.key, l->key.b, sizeof m.key);
    if (s->cookie_known)
        memcpy(m.cookie, s->cookie, sizeof m.cookie);
    else
        m.pad_to = LOOKUP_PAD;
    presence_send_to(p, server, &m);
}

/* Nobody is left to wait for, or not for long. */
static bool is_over(struct presence *p, struct lookup *l)
{
    bool waiting = false, worth = false;
    for (uint32_t i = 0; i < p->server_count; i++) {
        waiting = waiting || !l->at[i].over;
        worth = worth || (!l->at[i].over && p->servers[i].token_good && !p->servers[i].silent);
    }
    return !waiting || (l->best.servers != 0 && !worth) || p->now_us >= l->until_us;
}

static uint64_t lookup_run(struct presence *p, struct lookup *l)
{
    if (l->until_us == 0)
        l->until_us = p->now_us + LOOKUP_US;
    uint64_t next = l->until_us;
    for (uint32_t i = 0; i < p->server_count; i++) {
        enum question_step step = question_due(&l->at[i].q, p->now_us);
        if (step == QUESTION_SEND)
            lookup_send(p, l, i);
        if (step == QUESTION_LOST)
            l->at[i].over = true;
        next = l->at[i].q.at_us < next ? l->at[i].q.at_us : next;
    }
    if (is_over(p, l))
        lookup_end(p, l);
    return next;
}

uint64_t presence_lookups_run(struct presence *p)
{
    uint64_t next = PRESENCE_NEVER;
    list_for_each(l, &p->lookups, struct lookup, link)
    {
        uint64_t at = l->ended ? PRESENCE_NEVER : lookup_run(p, l);
        next = at < next ? at : next;
    }
    list_for_each(l, &p->lookups, struct lookup, link) if (l->ended) lookup_free(l);
    return next;
}

/* RDV_OK: what the server found can be believed. */
static enum rdv_reason check(struct presence *p, const struct rdvmsg *m, struct record *ret_fields)
{
    enum rdv_reason reason = signed_record_check(m->record);
    if (reason != RDV_OK || m->record.n == 0)
        return reason;
    if (signed_record_decode(m->record, ret_fields) != RDV_OK)
        return RDV_BAD_RECORD;
    if (memcmp(ret_fields->key, m->key, sizeof m->key) != 0)
        return RDV_FORGED;
    return ret_fields->not_after <= p->host.unix_ms(p->ctx) / 1000 ? RDV_EXPIRED : RDV_OK;
}

/* Which key a name stands for is the first server's word: of those that know it. */
static bool is_better(const struct lookup *l, uint32_t server, const struct rdvmsg *m)
{
    return l->best_server == PRESENCE_NO_SERVER ||
           (server < l->best_server && memcmp(l->best.key.b, m->key, sizeof m->key) != 0);
}

static void found(struct lookup *l, uint32_t server, const struct rdvmsg *m)
{
    if (is_better(l, server, m)) {
        l->best = (struct presence_found){.claimed = m->number, .age_s = m->age_s};
        memcpy(l->best.key.b, m->key, sizeof l->best.key.b);
        l->best_server = server;
    }
    bool same = memcmp(l->best.key.b, m->key, sizeof m->key) == 0;
    struct record fields;
    if (!same || m->record.n == 0)
        return;
    l->best_server = server < l->best_server ? server : l->best_server;
    l->best.age_s = l->best.servers == 0 || m->age_s < l->best.age_s ? m->age_s : l->best.age_s;
    l->best.servers |= 1u << server;
    if (signed_record_decode(m->record, &fields) != RDV_OK ||
        (l->best.record.n > 0 && fields.sequence <= l->best.fields.sequence))
        return;
    memcpy(l->record, m->record.p, m->record.n);
    l->best.record = (struct str){(const char *)l->record, m->record.n};
    /* Again, so that slices point into our copy. */
    (void)signed_record_decode(l->best.record, &l->best.fields);
}

static void lookup_found(struct presence *p, struct lookup *l, uint32_t server,
                         const struct rdvmsg *m)
{
    struct record fields;
    enum rdv_reason reason = m->record.n > 0 ? check(p, m, &fields) : RDV_OK;
    if (l->name_n == 0 && memcmp(m->key, l->key.b, sizeof m->key) != 0)
        reason = RDV_FORGED;
    l->at[server].over = true;
    question_stop(&l->at[server].q);
    if (reason != RDV_OK) {
        l->reason = reason;
        return;
    }
    bool first = l->best.servers == 0;
    found(l, server, m);
    uint64_t grace = p->now_us + GRACE_US;
    if (first && l->best.servers != 0 && grace < l->until_us)
        l->until_us = grace;
}

/* "Nobody has it" says more than "not now". */
static void lookup_refused(struct presence *p, struct lookup *l, uint32_t server,
                           const struct rdvmsg *m)
{
    struct asked *a = &l->at[server];
    bool later = m->reason == RDV_RATE_LIMITED || m->reason == RDV_BUSY;
    bool says_more = l->reason == RDV_OK || l->reason == RDV_RATE_LIMITED || l->reason == RDV_BUSY;
    l->reason = says_more ? m->reason : l->reason;
    question_stop(&a->q);
    if (!later || ++a->rounds > 2) {
        a->over = true;
        return;
    }
    question_start(&a->q, p->now_us + presence_again_us(m));
}

static void lookup_answer(struct presence *p, struct lookup *l, uint32_t server,
                          const struct rdvmsg *m)
{
    struct asked *a = &l->at[server];
    presence_heard(p, server);
    if (m->type == RDVMSG_FOUND)
        lookup_found(p, l, server, m);
    if (m->type == RDVMSG_ERROR)
        lookup_refused(p, l, server, m);
    if (m->type == RDVMSG_COOKIE_IS) {
        presence_cookie(p, server, m);
        question_start(&a->q, p->now_us);
        a->over = ++a->rounds > 3;
    }
    if (a->over)
        question_stop(&a->q);
}

bool presence_lookup_input(struct presence *p, uint32_t server, const struct rdvmsg *m)
{
    list_for_each(l, &p->lookups, struct lookup, link)
    {
        if (l->ended || !question_is(&l->at[server].q, m))
            continue;
        lookup_answer(p, l, server, m);
        return true;
    }
    return false;
}
