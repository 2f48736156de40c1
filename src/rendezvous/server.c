/* One message in, one answer out: STUN by its look, ours by a table of handlers. Here stands the
 * one rule that keeps the server from being turned against others: to an address that has not
 * proven that it receives, nothing goes that is longer than what came. */
#include "rendezvous/server.h"

#include "rendezvous/handlers.h"
#include "wire/stun.h"

/* What RFC 5780 has and we may be unable to do. */
#define STUN_ATTRIBUTE_CHANGE 0x0003
#define STUN_ATTRIBUTE_PORT   0x0027
/* RFC 6335 6: the ports below are the system's. */
#define STUN_PORT_MIN 1024

static const struct {
    enum rdv_reason (*handle)(struct rdv *r, struct request *q, struct rdvmsg *answer);
    bool needs_proof; /* a good cookie, over TCP, too: it is part of what is signed */
} handlers[RDVMSG_TYPE_COUNT] = {
    [RDVMSG_REGISTER] = {handle_register, true}, [RDVMSG_REFRESH] = {handle_refresh, false},
    [RDVMSG_LOOKUP] = {handle_lookup, false},    [RDVMSG_CLAIM] = {handle_name, true},
    [RDVMSG_RELEASE] = {handle_name, true},      [RDVMSG_LIST] = {handle_name, true},
    [RDVMSG_ALLOW] = {handle_allow, false},      [RDVMSG_CALL] = {handle_call, false},
    [RDVMSG_ANSWER] = {handle_answer, false},    [RDVMSG_OPEN] = {handle_open, false},
    [RDVMSG_WORKED] = {handle_worked, false},
};

/* Only this thread writes; another reads it for the log. */
static void count(uint64_t *counter)
{
    __atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

int rdv_init(struct rdv *r, const struct rdv_shared *shared)
{
    *r = (struct rdv){.shared = shared};
    secrets_init(&r->secrets, shared->master);
    r->limits = limits_new(shared->signatures);
    int e = outbox_init(&r->outbox);
    return e < 0 ? e : r->limits ? 0 : -ENOMEM;
}

void rdv_done(struct rdv *r)
{
    outbox_done(&r->outbox);
    limits_free(r->limits);
    r->limits = NULL;
}

void cookie_answer(const struct rdv *r, const struct request *q, struct rdvmsg *answer)
{
    answer->type = RDVMSG_COOKIE_IS;
    answer->lifetime_s = SECRETS_PERIOD_S;
    answer->addr = q->in->from;
    secrets_cookie(&r->secrets, &q->in->from, answer->cookie);
}

static void error_answer(struct rdv *r, const struct request *q, enum rdv_reason reason,
                         struct rdvmsg *answer)
{
    answer->type = RDVMSG_ERROR;
    answer->reason = reason;
    answer->number = q->number;
    count(&r->counters.refused[reason]);
    r->refused = reason;
}

/* The sender's answer, or none when it would be too long for whoever the sender may be. */
static size_t answer_encode(struct rdv *r, const struct request *q, const struct rdvmsg *answer,
                            uint8_t out[RDVMSG_MAX])
{
    int n = rdvmsg_encode(answer, out, RDVMSG_MAX);
    if (n < 0)
        return 0;
    if (!q->proven && (size_t)n > q->in->bytes.n) {
        count(&r->counters.withheld);
        return 0;
    }
    count(&r->counters.answered[answer->type]);
    return (size_t)n;
}

/* What is too long for an address that has not been proven is asked for again, with a proof. */
static size_t answer_or_cookie(struct rdv *r, const struct request *q, struct rdvmsg *answer,
                               uint8_t out[RDVMSG_MAX])
{
    size_t n = answer_encode(r, q, answer, out);
    if (n > 0 || answer->type != RDVMSG_FOUND)
        return n;
    cookie_answer(r, q, answer);
    return answer_encode(r, q, answer, out);
}

static size_t ours_handle(struct rdv *r, struct request *q, uint8_t out[RDVMSG_MAX])
{
    struct rdvmsg *m = q->m, answer;
    answer.type = 0;
    answer.transaction = m->transaction;
    answer.pad_to = 0;
    bool has_cookie =
        m->type == RDVMSG_LOOKUP || m->type == RDVMSG_OPEN || handlers[m->type].needs_proof;
    bool cookie_good = has_cookie && secrets_cookie_good(&r->secrets, &q->in->from, m->cookie);
    q->proven = cookie_good || q->in->via.connection != 0;
    if (m->type == RDVMSG_HELLO || (handlers[m->type].needs_proof && !cookie_good)) {
        cookie_answer(r, q, &answer);
        return answer_encode(r, q, &answer, out);
    }
    /* Only servers send these. If they were answered, a packet with another server's address as its
     * source could make the two talk to each other for ever. */
    if (!handlers[m->type].handle) {
        count(&r->counters.dropped);
        return 0;
    }
    enum rdv_reason reason = handlers[m->type].handle(r, q, &answer);
    if (reason != RDV_OK)
        error_answer(r, q, reason, &answer);
    if (answer.type == 0)
        return 0;
    return answer_or_cookie(r, q, &answer, out);
}

/* RFC 5780 6.1: from which of the four sockets the answer leaves, and what it says of them. False
 * when another is asked for than there is. */
static bool stun_place(struct rdv *r, const struct rdv_input *in, const struct stun *s,
                       struct stun *answer)
{
    const struct rdv_stun *four = &r->shared->stun;
    for (size_t i = 0; four->on && in->via.connection == 0 && i < 4; i++) {
        size_t ip = i / 2, port = i % 2;
        if (four->socket[ip][port] != in->via.socket)
            continue;
        answer->other = four->at[!ip][!port];
        ip ^= (s->change & STUN_CHANGE_IP) != 0;
        port ^= (s->change & STUN_CHANGE_PORT) != 0;
        answer->origin = four->at[ip][port];
        r->send_from = four->socket[ip][port];
        return true;
    }
    return s->change == 0;
}

static void stun_refuse(struct rdv *r, const struct rdv_input *in, uint16_t error,
                        struct stun *answer)
{
    answer->type = STUN_FAILURE;
    answer->error = error;
    answer->mapped.len = answer->origin.len = answer->other.len = 0;
    r->send_from = in->via.socket;
    r->send_to = 0;
}

/* RFC 5780 7.5: the answer goes to another port of the address that asked. Of the port less is
 * known than of the address, so no such answer is longer than its request, all of them are limited,
 * and none goes where a service of the system may be. */
static int stun_elsewhere(struct rdv *r, const struct rdv_input *in, const struct stun *s,
                          struct stun *answer, uint8_t out[RDVMSG_MAX])
{
    int n = stun_encode(answer, out, RDVMSG_MAX);
    if (s->response_port < STUN_PORT_MIN || (n > 0 && (size_t)n > in->bytes.n)) {
        stun_refuse(r, in, 400, answer);
        return stun_encode(answer, out, RDVMSG_MAX);
    }
    r->send_to = s->response_port;
    return n;
}

/* So few a second go to one network that they are of no use to anybody. */
static bool stun_may(struct rdv *r, const struct rdv_input *in)
{
    return limits_take(r->limits, LIMIT_STUN, &in->from, in->now_ms) &&
           limits_take_all(r->limits, LIMIT_STUN, in->now_ms);
}

static void stun_unknown(struct stun *s, uint16_t attribute)
{
    s->unknown[s->unknown_count < STUN_UNKNOWN_MAX ? s->unknown_count++ : 0] = attribute;
}

/* RFC 8489 6.3.1. A bare request of 20 bytes must be answered with 32 or more, which is the one
 * exception to the rule above. */
static size_t stun_handle(struct rdv *r, const struct rdv_input *in, uint8_t out[RDVMSG_MAX])
{
    struct stun s, answer = {.type = STUN_SUCCESS, .mapped = in->from};
    if (stun_decode(&s, in->bytes.p, in->bytes.n) < 0 || s.type != STUN_REQUEST)
        return 0;
    memcpy(answer.transaction, s.transaction, sizeof answer.transaction);
    answer.classic = s.classic;
    answer.old_cookie = s.old_cookie;
    answer.has_fingerprint = s.has_fingerprint;
    if (!stun_place(r, in, &s, &answer))
        stun_unknown(&s, STUN_ATTRIBUTE_CHANGE);
    if (s.has_response_port && in->via.connection != 0)
        stun_unknown(&s, STUN_ATTRIBUTE_PORT);
    if (s.unknown_count > 0) {
        stun_refuse(r, in, 420, &answer);
        answer.unknown_count = s.unknown_count;
        memcpy(answer.unknown, s.unknown, sizeof answer.unknown);
    }
    bool elsewhere = s.has_response_port && s.unknown_count == 0;
    int n =
        elsewhere ? stun_elsewhere(r, in, &s, &answer, out) : stun_encode(&answer, out, RDVMSG_MAX);
    if (n < 0)
        return 0;
    bool longer = in->via.connection == 0 && (size_t)n > in->bytes.n;
    if ((longer || r->send_to) && !stun_may(r, in))
        return 0;
    count(&r->counters.stun);
    return (size_t)n;
}

/* What has our head but is damaged is told so; to strangers we say nothing. */
static size_t damaged_handle(struct rdv *r, struct request *q, uint8_t out[RDVMSG_MAX])
{
    struct str b = q->in->bytes;
    struct rdvmsg answer = {.type = RDVMSG_ERROR};
    count(&r->counters.dropped);
    if (b.n < RDVMSG_HEAD || (uint8_t)b.p[0] != RDVMSG_MAGIC)
        return 0;
    q->proven = q->in->via.connection != 0;
    for (size_t i = 4; i < RDVMSG_HEAD; i++)
        answer.transaction = answer.transaction << 8 | (uint8_t)b.p[i];
    error_answer(r, q, RDV_BAD_MESSAGE, &answer);
    return answer_encode(r, q, &answer, out);
}

size_t rdv_handle(struct rdv *r, const struct rdv_input *in, uint8_t out[RDVMSG_MAX])
{
    struct rdvmsg m;
    struct request q;
    r->send_from = in->via.socket;
    r->send_to = 0;
    r->push.n = 0;
    if (stun_looks(in->bytes.p, in->bytes.n)) {
        size_t n = stun_handle(r, in, out);
        if (n == 0)
            count(&r->counters.dropped);
        return n;
    }
    q.in = in;
    q.m = &m;
    q.proven = false;
    q.now_s = (uint32_t)(in->now_ms / 1000);
    q.number = 0;
    r->refused = RDV_OK;
    secrets_turn(&r->secrets, in->now_ms);
    if (rdvmsg_decode(&m, in->bytes.p, in->bytes.n) < 0)
        return damaged_handle(r, &q, out);
    return ours_handle(r, &q, out);
}

/* What another server has answered, as it came; the caller's own number is in it. */
static size_t call_finish(struct rdv *r, const struct job *job, uint8_t out[RDVMSG_MAX])
{
    struct rdvmsg m;
    if (rdvmsg_decode(&m, job->message, job->message_n) < 0 || m.transaction != job->transaction ||
        (m.type != RDVMSG_CALLING && m.type != RDVMSG_ERROR) ||
        (m.type == RDVMSG_ERROR && m.reason >= RDV_REASON_COUNT))
        return 0;
    if (m.type == RDVMSG_ERROR) {
        r->refused = m.reason;
        count(&r->counters.refused[m.reason]);
    }
    count(&r->counters.answered[m.type]);
    memcpy(out, job->message, job->message_n);
    return job->message_n;
}

/* The fields of the answer, or why there is none. */
static enum rdv_reason job_answer(const struct job *job, struct rdvmsg *answer)
{
    if (job->reason != RDV_OK)
        return job->reason;
    answer->number = job->since;
    if (job->type == RDVMSG_LOOKUP) {
        memcpy(answer->key, job->key, RDVMSG_KEY);
        answer->age_s = job->age_s;
        return lookup_answer((struct str){(const char *)job->record, job->record_n},
                             job->name_n > 0, job->unix_s, answer);
    }
    answer->type = job->type == RDVMSG_LIST ? RDVMSG_NAMES : RDVMSG_DONE;
    if (job->type == RDVMSG_LIST) {
        answer->name_count = job->held_count;
        for (size_t i = 0; i < job->held_count; i++)
            answer->names[i] = (struct str){job->held[i], job->held_n[i]};
    }
    return RDV_OK;
}

size_t rdv_finish(struct rdv *r, const struct job *job, uint8_t out[RDVMSG_MAX])
{
    struct rdvmsg answer = {.transaction = job->transaction};
    const struct rdv_input in = {.from = job->from, .bytes = {"", job->asked}};
    struct request q = {.in = &in, .proven = job->proven};
    r->refused = RDV_OK;
    if (job->type == RDVMSG_WORKED)
        return 0;
    if (job->type == RDVMSG_CALL && job->reason == RDV_OK)
        return call_finish(r, job, out);
    enum rdv_reason reason = job_answer(job, &answer);
    if (reason != RDV_OK)
        error_answer(r, &q, reason, &answer);
    return answer_or_cookie(r, &q, &answer, out);
}
