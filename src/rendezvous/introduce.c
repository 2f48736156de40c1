/* ALLOW, CALL, ANSWER, OPEN and WORKED: how two peers that are registered get to know of each
 * other. Each message has its answer, and CALL and ANSWER send another one to the other peer. The
 * server keeps no timers for calls: a caller that hears nothing calls again, and that invites
 * again.
 *
 * Whoever shows a token has proven its key and its address. A callee hears of nobody whom it has
 * not allowed. */
#include "rendezvous/handlers.h"
#include "rendezvous/instant.h"

static void count(uint64_t *counter)
{
    __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

/* Of another server, for a peer of its own. */
static bool is_elsewhere(const struct request *q)
{
    return q->in->via.thread == PLACE_ELSEWHERE;
}

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
    if (is_elsewhere(q))
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

/* Its word says that it comes from us: an address is soon forged. Only the server that the peer is
 * registered at knows it. */
static void push(struct rdv *r, const struct place *to, const uint8_t key[RDVMSG_KEY],
                 struct rdvmsg *m)
{
    const struct addr at = place_addr(to);
    bool elsewhere = place_is_elsewhere(to);
    if (to->family == 0)
        return;
    m->transaction = elsewhere ? 0 : secrets_word(&r->secrets, key, &at);
    int n = rdvmsg_encode(m, r->push.bytes, sizeof r->push.bytes);
    if (n <= 0)
        return;
    if (elsewhere) {
        push_elsewhere(r, to, key, (struct str){(const char *)r->push.bytes, (size_t)n});
    } else {
        r->push.to = *to;
        r->push.n = (size_t)n;
    }
    count(&r->counters.pushed[m->type]);
}

bool rdv_pass_on(struct rdv *r, const struct nodemsg *p, uint64_t now_ms)
{
    struct rdvmsg m;
    struct place to;
    r->push.n = 0;
    if (rdvmsg_decode(&m, p->message.p, p->message.n) < 0 || m.type != RDVMSG_ANSWERED ||
        !registry_place(r->shared->registry, p->key, (uint32_t)(now_ms / 1000), &to))
        return false;
    push(r, &to, p->key, &m);
    return r->push.n > 0;
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
                           .rtt_us = m->rtt_us,
                           .print = m->print};
    struct relay_ends ends;
    enum rdv_reason reason = call_check(r, q);
    if (reason == RDV_OK)
        reason = access_check(r, q, &c.to);
    if (reason == RDV_NOT_REGISTERED && r->redis && !is_elsewhere(q))
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
    answer->relay = is_elsewhere(q) ? r->shared->relay_addr : (struct addr){.len = 0};
    return RDV_OK;
}

/* The caller hears of it through another server: what it said of its round trip has that one's way
 * to Redis in it, and ours comes in here. */
static struct instant instant_of(const struct rdv *r, const struct relay_asked *caller,
                                 const struct rdvmsg *m)
{
    uint32_t rtt_us = caller->rtt_us;
    if (place_is_elsewhere(&caller->at))
        rtt_us = instant_through(rtt_us, redis_hop_us(r->redis));
    return instant_pick(rtt_us, m->rtt_us);
}

static enum technique hint_of(const struct rdv *r, const struct relay_asked *caller,
                              const struct request *q)
{
    const struct nat_print prints[RELAY_SIDES] = {caller->print, q->m->print};
    return learned_hint(r->shared->learned, prints, q->m->call, q->now_s);
}

enum rdv_reason handle_answer(struct rdv *r, struct request *q, struct rdvmsg *answer)
{
    const struct rdvmsg *m = q->m;
    const struct relay_call c = {
        .caller = m->peer, .callee = m->key, .call = m->call, .print = m->print};
    struct place here = place_make(&q->in->from, &q->in->via);
    struct relay_asked caller;
    enum rdv_reason reason = call_check(r, q);
    if (reason == RDV_OK)
        reason = relay_answer(r->shared->relay, &c, m->reason, &caller);
    if (reason != RDV_OK)
        return reason;
    struct instant at = instant_of(r, &caller, m);
    uint8_t hint = m->reason == RDV_OK ? (uint8_t)hint_of(r, &caller, q) : TECHNIQUE_UNKNOWN;
    struct rdvmsg to_caller = {.type = RDVMSG_ANSWERED,
                               .call = m->call,
                               .reason = m->reason,
                               .wait_us = at.caller_wait_us,
                               .technique = hint,
                               .addr = seen_at(&here),
                               .offer = m->offer};
    memcpy(to_caller.peer, m->key, sizeof to_caller.peer);
    push(r, &caller.at, c.caller, &to_caller);
    answer->type = RDVMSG_START;
    answer->call = m->call;
    answer->wait_us = at.callee_wait_us;
    answer->technique = hint;
    answer->addr = seen_at(&caller.at);
    return RDV_OK;
}

/* Who is called is registered at this server, and so its calls are here. */
static bool is_here(const struct rdv *r, const struct request *q)
{
    struct place at;
    return registry_place(r->shared->registry, q->m->peer, q->now_s, &at);
}

/* Has no answer but an error: it is not sent twice. A caller can say it once for each of its calls
 * and techniques. */
enum rdv_reason handle_worked(struct rdv *r, struct request *q, struct rdvmsg *answer)
{
    const struct rdvmsg *m = q->m;
    const struct relay_call c = {.caller = m->key, .callee = m->peer, .call = m->call};
    struct relay_worked w;
    (void)answer;
    if (m->technique == TECHNIQUE_UNKNOWN || m->technique >= TECHNIQUE_END)
        return RDV_BAD_MESSAGE;
    enum rdv_reason reason = call_check(r, q);
    if (reason == RDV_OK)
        reason = relay_worked(r->shared->relay, &c, m->technique, &w);
    if (reason == RDV_UNKNOWN_CALL && r->redis && !is_elsewhere(q) && !is_here(r, q))
        return job_post(r, q);
    if (reason != RDV_OK || w.again)
        return reason;
    const struct learned_report report = {
        {w.prints[0], w.prints[1]}, m->call, m->technique, &q->in->from};
    (void)learned_count(r->shared->learned, &report, q->now_s);
    count(&r->counters.worked[m->technique]);
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
