/* The measurement of lifetime.h: the resting socket binds, rests and is called, for longer each
 * time, until it is not reached any more; then between the last two. A silence counts only when the
 * server answers the next question: else it was the network's. Nothing is owned but the struct. */
#include "punch/lifetime.h"

#include <errno.h>
#include <stdlib.h>

#define MS 1000u

/* As long as an answer with three addresses of IPv6, which is longer than the question. */
#define ASK_LENGTH_V4 56
#define ASK_LENGTH_V6 92
/* After the ladder: the gap between alive and dead is halved so often, or until it is a quarter. */
#define HALVINGS_MAX 2

/* How often is an idle path to be used, when this is known of the NAT. */
#define INTERVAL_MIN_MS     5000u
#define INTERVAL_MAX_MS     110000u
#define INTERVAL_UNKNOWN_MS 15000u

static const uint32_t rungs_ms[] = {5000, 10000, 20000, 40000, 80000, 160000, LIFETIME_MOST_MS};

enum step {
    STEP_BIND, /* the resting socket asks where it is seen, which refreshes its mapping, too */
    STEP_FLOW, /* and once more after two seconds, so that it counts as a flow */
    STEP_REST,
    STEP_ASK, /* is it still there? */
    STEP_OVER,
};

/* What the rest is for. */
enum purpose {
    FOR_CONTROL, /* no rest at all: does this work here? */
    FOR_LIFETIME,
    FOR_INBOUND,       /* shorter than the lifetime; the answer comes in */
    FOR_INBOUND_AGAIN, /* and would have kept it alive for so long once more */
};

struct lifetime {
    uint64_t seed;
    enum step step;
    enum purpose purpose;
    struct lifetime_result result;
    struct addr mapped; /* of the resting socket */
    bool flows;         /* that mapping has been in use for more than two seconds */
    uint32_t question;  /* its number is in its transaction */
    unsigned tries;
    uint64_t due_us;
    uint64_t asked_us;    /* the first copy of the question */
    uint64_t outbound_us; /* the last packet of the resting socket */
    uint32_t rest_ms;
    uint32_t silent_ms; /* a silence that is to be confirmed; 0: none */
    unsigned halvings;
};

struct lifetime *lifetime_new(uint64_t seed)
{
    struct lifetime *l = calloc(1, sizeof *l);
    if (l)
        l->seed = seed;
    return l;
}

void lifetime_free(struct lifetime *l)
{
    free(l);
}

static void step_to(struct lifetime *l, enum step step, uint64_t due_us)
{
    l->step = step;
    l->due_us = due_us;
    l->tries = 0;
    l->question++;
}

static void end(struct lifetime *l, enum lifetime_state state)
{
    l->result.state = state;
    step_to(l, STEP_OVER, UINT64_MAX);
}

/* Rests ---------------------------------------------------------------------------------------- */

static uint32_t next_rung(uint32_t alive_ms)
{
    for (size_t i = 0; i < sizeof rungs_ms / sizeof *rungs_ms; i++)
        if (rungs_ms[i] > alive_ms)
            return rungs_ms[i];
    return 0;
}

static uint32_t next_half(struct lifetime *l)
{
    const struct lifetime_result *r = &l->result;
    uint32_t gap_ms = r->dead_ms - r->alive_ms;
    if (r->alive_ms == 0 || l->halvings == HALVINGS_MAX || gap_ms <= r->alive_ms / 4)
        return 0;
    l->halvings++;
    return r->alive_ms + gap_ms / 2;
}

/* Twice three quarters of what is sure to be alive: only worth a try when that is dead for sure. */
static uint32_t inbound_rest(const struct lifetime_result *r)
{
    uint32_t ms = r->alive_ms / 4 * 3;
    return r->dead_ms > 0 && 2 * ms > r->dead_ms ? ms : 0;
}

/* What to find out next; false: nothing more. */
static bool choose(struct lifetime *l)
{
    if (l->purpose == FOR_INBOUND || l->purpose == FOR_INBOUND_AGAIN)
        return false;
    l->purpose = FOR_LIFETIME;
    l->rest_ms = l->result.dead_ms == 0 ? next_rung(l->result.alive_ms) : next_half(l);
    if (l->rest_ms > 0)
        return true;
    l->purpose = FOR_INBOUND;
    l->rest_ms = inbound_rest(&l->result);
    return l->rest_ms > 0;
}

/* Answers -------------------------------------------------------------------------------------- */

static void again(struct lifetime *l, uint64_t now_us)
{
    if (choose(l))
        step_to(l, STEP_BIND, now_us);
    else
        end(l, LIFETIME_MEASURED);
}

static void heard(struct lifetime *l, uint64_t now_us)
{
    switch (l->purpose) {
    case FOR_LIFETIME:
        l->result.alive_ms = l->rest_ms;
        break;
    case FOR_INBOUND:
        l->purpose = FOR_INBOUND_AGAIN;
        step_to(l, STEP_REST, now_us + (uint64_t)l->rest_ms * MS);
        return;
    case FOR_INBOUND_AGAIN:
        l->result.inbound = LIFETIME_INBOUND_KEEPS;
        break;
    default:
        break;
    }
    again(l, now_us);
}

/* Since the last packet that went out, to the last question. */
static uint32_t silence_ms(const struct lifetime *l)
{
    uint64_t last_us = l->asked_us + (LIFETIME_TRIES - 1) * LIFETIME_RTO_US;
    return (uint32_t)((last_us - l->outbound_us) / MS);
}

static void silent(struct lifetime *l, uint64_t now_us)
{
    if (l->purpose == FOR_CONTROL) {
        end(l, LIFETIME_IMPOSSIBLE);
        return;
    }
    /* The NAT may give the same port again: that would be no flow yet. */
    l->flows = false;
    l->silent_ms = silence_ms(l);
    step_to(l, STEP_BIND, now_us);
}

/* The server is still there, so the silence was the mapping's. */
static bool silence_counts(struct lifetime *l)
{
    uint32_t ms = l->silent_ms;
    l->silent_ms = 0;
    if (l->purpose == FOR_LIFETIME)
        l->result.dead_ms = ms;
    if (l->purpose == FOR_INBOUND_AGAIN)
        l->result.inbound = LIFETIME_INBOUND_IGNORED;
    return choose(l);
}

static void bound(struct lifetime *l, const struct addr *mapped, uint64_t now_us)
{
    if (l->silent_ms > 0 && !silence_counts(l)) {
        end(l, LIFETIME_MEASURED);
        return;
    }
    l->flows = l->flows && addr_equal(&l->mapped, mapped);
    l->mapped = *mapped;
    if (!l->flows) {
        l->flows = true;
        step_to(l, STEP_FLOW, now_us + LIFETIME_FLOW_US);
        return;
    }
    step_to(l, STEP_REST, now_us + (uint64_t)l->rest_ms * MS);
}

static void unanswered(struct lifetime *l, uint64_t now_us)
{
    if (l->step == STEP_ASK)
        silent(l, now_us);
    else
        end(l, LIFETIME_CUT_OFF);
}

/* Questions ------------------------------------------------------------------------------------ */

static void transaction_make(const struct lifetime *l, uint8_t ret_transaction[STUN_TRANSACTION])
{
    uint64_t seed = l->seed + l->question;
    for (size_t i = 0; i < STUN_TRANSACTION; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        ret_transaction[i] = (uint8_t)(seed >> 56);
    }
    ret_transaction[0] = (uint8_t)l->question;
}

static void question_make(struct lifetime *l, uint64_t now_us, struct lifetime_send *ret_send)
{
    bool asks = l->step == STEP_ASK;
    struct stun s = {.type = STUN_REQUEST, .has_response_port = asks};
    transaction_make(l, s.transaction);
    if (asks) {
        s.response_port = addr_port(&l->mapped);
        s.pad_to = l->mapped.sa.sa_family == AF_INET6 ? ASK_LENGTH_V6 : ASK_LENGTH_V4;
    }
    ret_send->socket = asks ? LIFETIME_ASKS : LIFETIME_RESTS;
    int n = stun_encode(&s, ret_send->bytes, sizeof ret_send->bytes);
    ret_send->n = n > 0 ? (size_t)n : 0;
    if (l->tries == 0)
        l->asked_us = now_us;
    if (!asks)
        l->outbound_us = now_us;
    l->tries++;
    l->result.sent++;
    l->due_us = now_us + LIFETIME_RTO_US;
}

bool lifetime_poll(struct lifetime *l, uint64_t now_us, struct lifetime_send *ret_send)
{
    if (l->step == STEP_REST && now_us >= l->due_us)
        step_to(l, STEP_ASK, now_us);
    while (l->step != STEP_OVER && now_us >= l->due_us) {
        if (l->result.sent == LIFETIME_SENDS_MAX)
            end(l, LIFETIME_CUT_OFF);
        else if (l->tries == LIFETIME_TRIES)
            unanswered(l, now_us);
        else {
            question_make(l, now_us, ret_send);
            return true;
        }
    }
    return false;
}

uint64_t lifetime_next(const struct lifetime *l)
{
    return l->due_us;
}

void lifetime_input(struct lifetime *l, enum lifetime_socket socket, struct str bytes,
                    uint64_t now_us)
{
    struct stun s;
    uint8_t transaction[STUN_TRANSACTION];
    if (l->tries == 0 || stun_decode(&s, bytes.p, bytes.n) < 0)
        return;
    transaction_make(l, transaction);
    if (memcmp(transaction, s.transaction, sizeof transaction) != 0)
        return;
    if (s.type == STUN_FAILURE)
        end(l, LIFETIME_IMPOSSIBLE);
    else if (s.type != STUN_SUCCESS || socket != LIFETIME_RESTS)
        return;
    else if (l->step == STEP_ASK)
        heard(l, now_us);
    else if (s.mapped.len)
        bound(l, &s.mapped, now_us);
}

/* Results -------------------------------------------------------------------------------------- */

struct lifetime_result lifetime_result(const struct lifetime *l)
{
    return l->result;
}

uint32_t lifetime_interval_ms(const struct lifetime_result *r)
{
    uint32_t ms = r->alive_ms / 5 * 4;
    if (ms > INTERVAL_MAX_MS)
        return INTERVAL_MAX_MS;
    /* On the way up the ladder only what is known counts: it soon is more. */
    bool climbs = r->state == LIFETIME_MEASURING && r->sent > 0;
    bool ends = r->state == LIFETIME_MEASURED || r->dead_ms > 0;
    uint32_t least_ms = climbs || ends ? INTERVAL_MIN_MS : INTERVAL_UNKNOWN_MS;
    return ms > least_ms ? ms : least_ms;
}

const char *lifetime_inbound_word(enum lifetime_inbound inbound)
{
    static const char *const words[] = {"unknown", "keeps", "ignored"};
    return words[inbound];
}
