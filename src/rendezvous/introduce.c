/* ALLOW, CALL, ANSWER and OPEN: how two peers that are registered get to know of each other. Each
 * message has its answer, and CALL and ANSWER send another one to the other peer. The server keeps
 * no timers for calls: a caller that hears nothing calls again, and that invites again.
 *
 * Whoever shows a token has proven its key and its address. A callee hears of nobody whom it has
 * not allowed. */
#include "rendezvous/handlers.h"

/* Both are to fire at once, this long after the slower one has heard of it. */
#define SLACK_US 8000
/* Two peers that say that they are further from here are not waited for. */
#define RTT_MAX_US 2000000

static enum rdv_reason token_check(const struct rdv *r, struct request *q)
{
    uint8_t next[RDVMSG_COOKIE];
    if (!secrets_token_good(&r->secrets, q->m->key, &q->in->from, q->m->token, next))
        return RDV_BAD_TOKEN;
    q->proven = true;
    return RDV_OK;
}

/* Two messages of another peer come of each of these: so many, and no more. What another server
 * asks for its peer it has checked. */
static enum rdv_reason call_check(struct rdv *r, struct request *q)
{
    if (q->in->via.thread == PLACE_ELSEWHERE)
        return RDV_OK;
    enum rdv_reason reason = token_check(r, q);
    if (reason != RDV_OK)
        return reason;
    if (limits_take(r->limits, LIMIT_CALL, &q->in->from, q->in->now_ms))
        return RDV_OK;
    q->number = 1; /* second, then it is worth trying again */
    return RDV_RATE_LIMITED;
}

/* Where a peer is seen by others: a port of TCP is of no use to them. */
static struct addr seen_at(const struct place *p)
{
    struct addr a = place_addr(p);
    if (p->connection && !place_is_elsewhere(p))
        addr_set_port(&a, 0);
    return a;
}

/* Through the server where the peer with this key is registered. */
static void push_elsewhere(struct rdv *r, const struct place *to, const uint8_t key[RDVMSG_KEY],
                           struct str bytes)
{
    struct nodemsg m = {.type = NODEMSG_PUSH, .message = bytes};
    uint8_t node[NODEMSG_NODE];
    memcpy(node, &to->connection, sizeof node);
    memcpy(m.key, key, sizeof m.key);
    redis_send(r->redis, node, &m);
}

static void push(struct rdv *r, const struct place *to, const uint8_t key[RDVMSG_KEY],
                 const struct rdvmsg *m)
{
    int n = rdvmsg_encode(m, r->push.bytes, sizeof r->push.bytes);
    if (n <= 0 || to->family == 0)
        return;
    if (place_is_elsewhere(to)) {
        push_elsewhere(r, to, key, (struct str){(const char *)r->push.bytes, (size_t)n});
    } else {
        r->push.to = *to;
        r->push.n = (size_t)n;
    }
    __atomic_store_n(&r->counters.pushed[m->type], r->counters.pushed[m->type] + 1,
                     __ATOMIC_RELAXED);
}

enum rdv_reason handle_allow(struct rdv *r, struct request *q, struct rdvmsg *answer)
{
    enum rdv_reason reason = token_check(r, q);
    if (reason != RDV_OK)
        return reason;
    if (!registry_allow(r->shared->registry, q->m->key, q->m->flags & RDVMSG_ANYONE, q->m->allowed,
                        q->now_s))
        return RDV_NOT_REGISTERED;
    answer->type = RDVMSG_ALLOWED_IS;
    return RDV_OK;
}

static enum rdv_reason access_check(struct rdv *r, const struct request *q, struct place *ret_to)
{
    switch (registry_access(r->shared->registry, q->m->peer, q->m->key, q->now_s, ret_to)) {
    case REGISTRY_MAY_CALL:
        return RDV_OK;
    case REGISTRY_MAY_NOT:
        return RDV_NOT_ALLOWED;
    default:
        return RDV_NOT_REGISTERED;
    }
}

static void invite(struct rdv *r, const struct rdvmsg *m, const struct relay_call *c,
                   const struct relay_ends *ends)
{
    struct rdvmsg i = {.type = RDVMSG_INVITE,
                       .transaction = m->transaction,
                       .call = m->call,
                       .channel = ends->channel[RELAY_CALLEE],
                       .addr = seen_at(&c->from),
                       .offer = m->offer};
    memcpy(i.peer, m->key, sizeof i.peer);
    memcpy(i.ticket, ends->ticket[RELAY_CALLEE], sizeof i.ticket);
    push(r, &c->to, c->callee, &i);
}

enum rdv_reason handle_call(struct rdv *r, struct request *q, struct rdvmsg *answer)
{
    const struct rdvmsg *m = q->m;
    struct relay_call c = {.caller = m->key,
                           .callee = m->peer,
                           .call = m->call,
                           .from = place_make(&q->in->from, &q->in->via),
                           .rtt_us = m->rtt_us};
    struct relay_ends ends;
    bool from_elsewhere = place_is_elsewhere(&c.from);
    enum rdv_reason reason = call_check(r, q);
    if (reason == RDV_OK)
        reason = access_check(r, q, &c.to);
    if (reason == RDV_NOT_REGISTERED && r->redis && !from_elsewhere)
        return job_post(r, q);
    if (reason == RDV_OK)
        reason = relay_call(r->shared->relay, &c, q->now_s, &ends);
    if (reason != RDV_OK)
        return reason;
    invite(r, m, &c, &ends);
    answer->type = RDVMSG_CALLING;
    answer->call = m->call;
    answer->channel = ends.channel[RELAY_CALLER];
    memcpy(answer->ticket, ends.ticket[RELAY_CALLER], sizeof answer->ticket);
    answer->relay = from_elsewhere ? r->shared->relay_addr : (struct addr){.len = 0};
    return RDV_OK;
}

static uint32_t rtt_cut(uint32_t rtt_us)
{
    return rtt_us < RTT_MAX_US ? rtt_us : RTT_MAX_US;
}

enum rdv_reason handle_answer(struct rdv *r, struct request *q, struct rdvmsg *answer)
{
    const struct rdvmsg *m = q->m;
    const struct relay_call c = {.caller = m->peer, .callee = m->key, .call = m->call};
    struct place caller, here = place_make(&q->in->from, &q->in->via);
    uint32_t caller_us = 0;
    enum rdv_reason reason = call_check(r, q);
    if (reason == RDV_OK)
        reason = relay_answer(r->shared->relay, &c, m->reason, &caller, &caller_us);
    if (reason != RDV_OK)
        return reason;
    caller_us = rtt_cut(caller_us);
    uint32_t callee_us = rtt_cut(m->rtt_us);
    uint32_t fire_us = (caller_us > callee_us ? caller_us : callee_us) / 2 + SLACK_US;
    struct rdvmsg to_caller = {.type = RDVMSG_ANSWERED,
                               .transaction = m->transaction,
                               .call = m->call,
                               .reason = m->reason,
                               .wait_us = fire_us - caller_us / 2,
                               .addr = seen_at(&here),
                               .offer = m->offer};
    memcpy(to_caller.peer, m->key, sizeof to_caller.peer);
    push(r, &caller, c.caller, &to_caller);
    answer->type = RDVMSG_START;
    answer->call = m->call;
    answer->wait_us = fire_us - callee_us / 2;
    answer->addr = seen_at(&caller);
    return RDV_OK;
}

enum rdv_reason handle_open(struct rdv *r, struct request *q, struct rdvmsg *answer)
{
    const struct rdvmsg *m = q->m;
    const struct place here = place_make(&q->in->from, &q->in->via);
    /* Who could open it at an address that is not its own could aim the other one's packets. */
    if (!q->proven && !relay_is_at(r->shared->relay, m->channel, &here)) {
        cookie_answer(r, q, answer);
        return RDV_OK;
    }
    enum rdv_reason reason = relay_open(r->shared->relay, m->channel, m->ticket, &here, q->now_s);
    if (reason != RDV_OK)
        return reason;
    answer->type = RDVMSG_OPENED;
    answer->channel = m->channel;
    return RDV_OK;
}
