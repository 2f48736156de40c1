/* Calls without sockets: ALLOW, CALL, ANSWER and OPEN of two peers come in, answers and messages
 * for the other one go out. */
#include <sodium.h>
#include <stdlib.h>

#include "rendezvous/server.h"
#include "rendezvous/signed.h"
#include "test.h"

#define NOW_S 1900000000u

struct peer {
    struct identity id;
    struct addr from;
    struct rdv_via via;
    uint8_t token[RDVMSG_COOKIE];
    uint64_t word;
};

struct rig {
    struct rdv_shared shared;
    struct rdv rdv;
    struct peer caller, callee;
    struct nat_print prints[2]; /* theirs */
    uint64_t now_ms;
    uint8_t out[RDVMSG_MAX], pushed[RDVMSG_MAX];
    size_t in_n, out_n;
};

__attribute__((constructor)) static void prepare(void)
{
    if (keys_init() < 0)
        abort();
}

/* The answer's type; 0: none. */
static enum rdvmsg_type ask(struct rig *g, const struct peer *p, struct rdvmsg *m,
                            struct rdvmsg *answer)
{
    uint8_t buf[RDVMSG_MAX];
    m->transaction = 77;
    int n = rdvmsg_encode(m, buf, sizeof buf);
    CHECK(n > 0);
    struct rdv_input in = {.bytes = {(char *)buf, (size_t)n},
                           .from = p->from,
                           .via = p->via,
                           .now_ms = g->now_ms,
                           .unix_s = NOW_S};
    g->in_n = (size_t)n;
    g->out_n = rdv_handle(&g->rdv, &in, g->out);
    if (g->out_n == 0)
        return 0;
    CHECK_INT(rdvmsg_decode(answer, g->out, g->out_n), 0);
    CHECK_INT(answer->transaction, 77);
    return answer->type;
}

/* What was sent to another peer by the last call. */
static enum rdvmsg_type pushed(struct rig *g, const struct peer *to, struct rdvmsg *ret)
{
    const struct rdv_push *p = &g->rdv.push;
    if (p->n == 0)
        return 0;
    struct place at = place_make(&to->from, &to->via);
    CHECK(place_equal(&at, &p->to));
    memcpy(g->pushed, p->bytes, p->n);
    CHECK_INT(rdvmsg_decode(ret, g->pushed, p->n), 0);
    CHECK(ret->transaction == to->word);
    return ret->type;
}

static void sign_in(struct rig *g, struct peer *p)
{
    uint8_t buf[RECORD_MAX];
    struct rdvmsg a, m = {.type = RDVMSG_HELLO, .pad_to = RDVMSG_HELLO_MIN};
    struct record r = {.sequence = 1, .not_after = NOW_S + 100, .relay = STR("")};
    CHECK_INT(ask(g, p, &m, &a), RDVMSG_COOKIE_IS);
    m = (struct rdvmsg){.type = RDVMSG_REGISTER};
    memcpy(m.cookie, a.cookie, sizeof m.cookie);
    m.record = (struct str){(char *)buf, (size_t)signed_record_make(&p->id, &r, buf)};
    CHECK_INT(signed_request_make(&p->id, KEY_LOGIN, m.cookie, m.record, m.signature), 0);
    CHECK_INT(ask(g, p, &m, &a), RDVMSG_REGISTERED);
    memcpy(p->token, a.token, sizeof p->token);
    p->word = a.word;
}

static void rig_open(struct rig *g, uint32_t rate)
{
    const struct relay_limits limits = {.pairs = 100, .pairs_key = 10};
    *g = (struct rig){.shared = {.lease_s = 90, .refresh_s = 25, .signatures = rate},
                      .now_ms = 1000000};
    g->shared.registry = registry_new(1000, 90);
    g->shared.relay = relay_new(&limits);
    g->shared.learned = learned_new();
    randombytes_buf(g->shared.master, sizeof g->shared.master);
    CHECK_INT(rdv_init(&g->rdv, &g->shared), 0);
    CHECK_INT(addr_parse("192.0.2.1:4711", &g->caller.from), 0);
    CHECK_INT(addr_parse("[2001:db8::7]:5", &g->callee.from), 0);
    g->callee.via.socket = 1;
    identity_make(&g->caller.id);
    identity_make(&g->callee.id);
    sign_in(g, &g->caller);
    sign_in(g, &g->callee);
}

static void rig_close(struct rig *g)
{
    rdv_done(&g->rdv);
    registry_free(g->shared.registry);
    relay_free(g->shared.relay);
    learned_free(g->shared.learned);
}

static struct rdvmsg request(const struct peer *p, enum rdvmsg_type type)
{
    struct rdvmsg m = {.type = type};
    memcpy(m.key, p->id.key.b, sizeof m.key);
    memcpy(m.token, p->token, sizeof m.token);
    return m;
}

static enum rdv_reason result(enum rdvmsg_type type, const struct rdvmsg *a)
{
    return type == RDVMSG_ERROR ? a->reason : RDV_OK;
}

static enum rdv_reason allow(struct rig *g, uint8_t flags, const struct peer *whom)
{
    struct rdvmsg a, m = request(&g->callee, RDVMSG_ALLOW);
    m.flags = flags;
    if (whom)
        m.allowed = (struct str){(const char *)whom->id.key.b, RDVMSG_ALLOWED};
    return result(ask(g, &g->callee, &m, &a), &a);
}

static enum rdv_reason call(struct rig *g, uint64_t number, struct rdvmsg *answer)
{
    struct rdvmsg m = request(&g->caller, RDVMSG_CALL);
    memcpy(m.peer, g->callee.id.key.b, sizeof m.peer);
    m.call = number;
    m.rtt_us = 40000;
    m.print = g->prints[0];
    m.offer = STR("for the callee only");
    return result(ask(g, &g->caller, &m, answer), answer);
}

static enum rdv_reason answer_call(struct rig *g, uint64_t number, enum rdv_reason reason,
                                   struct rdvmsg *answer)
{
    struct rdvmsg m = request(&g->callee, RDVMSG_ANSWER);
    memcpy(m.peer, g->caller.id.key.b, sizeof m.peer);
    m.call = number;
    m.rtt_us = 10000;
    m.print = g->prints[1];
    m.reason = reason;
    m.offer = STR("for the caller only");
    return result(ask(g, &g->callee, &m, answer), answer);
}

TEST("a call invites, its answer starts both at once")
{
    struct rig g;
    struct rdvmsg a, p;
    rig_open(&g, 0);
    CHECK_INT(allow(&g, 0, &g.caller), RDV_OK);
    CHECK_INT(call(&g, 9, &a), RDV_OK);
    CHECK_INT(a.type, RDVMSG_CALLING);
    CHECK(g.out_n <= g.in_n);
    CHECK_INT(a.call, 9);
    CHECK_INT(a.relay.len, 0);
    CHECK_INT(pushed(&g, &g.callee, &p), RDVMSG_INVITE);
    CHECK_INT(p.call, 9);
    CHECK_INT(p.channel, a.channel ^ 1);
    CHECK(memcmp(p.ticket, a.ticket, sizeof p.ticket) != 0);
    CHECK_INT(memcmp(p.peer, g.caller.id.key.b, sizeof p.peer), 0);
    CHECK(addr_equal(&p.addr, &g.caller.from));
    CHECK_STR(p.offer, "for the callee only");
    CHECK_INT(answer_call(&g, 9, RDV_OK, &a), RDV_OK);
    CHECK_INT(a.type, RDVMSG_START);
    /* 8 ms after the one who is 20 ms away: 8 and 23 ms after they hear of it. */
    CHECK_INT(a.wait_us, 23000);
    CHECK(addr_equal(&a.addr, &g.caller.from));
    CHECK_INT(pushed(&g, &g.caller, &p), RDVMSG_ANSWERED);
    CHECK_INT(p.wait_us, 8000);
    CHECK_INT(p.reason, RDV_OK);
    CHECK(addr_equal(&p.addr, &g.callee.from));
    CHECK_STR(p.offer, "for the caller only");
    rig_close(&g);
}

TEST("the same call once more invites once more, to the same channel")
{
    struct rig g;
    struct rdvmsg a, p;
    rig_open(&g, 0);
    CHECK_INT(allow(&g, RDVMSG_ANYONE, NULL), RDV_OK);
    CHECK_INT(call(&g, 9, &a), RDV_OK);
    uint32_t channel = a.channel;
    CHECK_INT(call(&g, 9, &a), RDV_OK);
    CHECK_INT(a.channel, channel);
    CHECK_INT(pushed(&g, &g.callee, &p), RDVMSG_INVITE);
    CHECK_INT(relay_count(g.shared.relay), 1);
    CHECK_INT(call(&g, 10, &a), RDV_OK);
    CHECK(a.channel != channel);
    CHECK_INT(relay_count(g.shared.relay), 2);
    rig_close(&g);
}

TEST("the word is each registration's own, and the same for as long as the server lives")
{
    struct rig g;
    struct rdvmsg a;
    rig_open(&g, 0);
    uint64_t word = g.caller.word;
    CHECK(word != g.callee.word);
    struct rdvmsg m = request(&g.caller, RDVMSG_REFRESH);
    for (unsigned i = 0; i < 10; i++) {
        g.now_ms += 60000;
        CHECK_INT(ask(&g, &g.caller, &m, &a), RDVMSG_REFRESHED);
        CHECK(a.word == word);
        memcpy(m.token, a.token, sizeof m.token);
    }
    addr_set_port(&g.caller.from, 99);
    sign_in(&g, &g.caller);
    CHECK(g.caller.word != word);
    g.caller.via.connection = 5;
    CHECK_INT(addr_parse("192.0.2.1:4711", &g.caller.from), 0);
    sign_in(&g, &g.caller);
    CHECK(g.caller.word == word);
    /* Another thread has it from the same master, another server has another master. */
    struct secrets other;
    secrets_init(&other, g.shared.master);
    CHECK(secrets_word(&other, g.caller.id.key.b, &g.caller.from) == word);
    g.shared.master[0] ^= 1;
    secrets_init(&other, g.shared.master);
    CHECK(secrets_word(&other, g.caller.id.key.b, &g.caller.from) != word);
    rig_close(&g);
}

TEST("what another server has for a peer goes to it with the word that it was told here")
{
    uint8_t buf[RDVMSG_MAX];
    struct rig g;
    struct rdvmsg p, m = {.type = RDVMSG_ANSWERED, .call = 9, .offer = STR("sealed")};
    struct nodemsg n = {.type = NODEMSG_PUSH};
    rig_open(&g, 0);
    m.addr = g.callee.from;
    n.message = (struct str){(char *)buf, (size_t)rdvmsg_encode(&m, buf, sizeof buf)};
    memcpy(n.key, g.caller.id.key.b, sizeof n.key);
    CHECK(rdv_pass_on(&g.rdv, &n, g.now_ms));
    CHECK_INT(pushed(&g, &g.caller, &p), RDVMSG_ANSWERED);
    CHECK_INT(p.call, 9);
    CHECK_STR(p.offer, "sealed");
    CHECK(!rdv_pass_on(&g.rdv, &n, g.now_ms + 100000));
    CHECK_INT(g.rdv.push.n, 0);
    n.message.n--;
    CHECK(!rdv_pass_on(&g.rdv, &n, g.now_ms));
    m.type = RDVMSG_START;
    n.message = (struct str){(char *)buf, (size_t)rdvmsg_encode(&m, buf, sizeof buf)};
    CHECK(!rdv_pass_on(&g.rdv, &n, g.now_ms));
    rig_close(&g);
}

TEST("nothing goes to who has not allowed the caller")
{
    struct rig g;
    struct rdvmsg a, p;
    rig_open(&g, 0);
    CHECK_INT(call(&g, 1, &a), RDV_NOT_ALLOWED);
    CHECK_INT(pushed(&g, &g.callee, &p), 0);
    CHECK_INT(allow(&g, 0, &g.callee), RDV_OK);
    CHECK_INT(call(&g, 1, &a), RDV_NOT_ALLOWED);
    CHECK_INT(allow(&g, 0, &g.caller), RDV_OK);
    CHECK_INT(call(&g, 1, &a), RDV_OK);
    CHECK_INT(allow(&g, 0, NULL), RDV_OK);
    CHECK_INT(call(&g, 1, &a), RDV_NOT_ALLOWED);
    CHECK_INT(pushed(&g, &g.callee, &p), 0);
    CHECK_INT(relay_count(g.shared.relay), 1);
    g.now_ms += 100000;
    CHECK_INT(call(&g, 1, &a), RDV_NOT_REGISTERED);
    CHECK_INT(allow(&g, 0, &g.caller), RDV_NOT_REGISTERED);
    rig_close(&g);
}

TEST("a list of who may call goes on with a newer record and ends with the lease")
{
    struct rig g;
    struct rdvmsg a;
    rig_open(&g, 0);
    CHECK_INT(allow(&g, 0, &g.caller), RDV_OK);
    sign_in(&g, &g.callee);
    CHECK_INT(call(&g, 1, &a), RDV_OK);
    g.now_ms += 100000;
    sign_in(&g, &g.callee);
    sign_in(&g, &g.caller);
    CHECK_INT(call(&g, 1, &a), RDV_NOT_ALLOWED);
    rig_close(&g);
}

TEST("who has no token for key and address neither calls nor answers nor allows")
{
    struct rig g;
    struct rdvmsg a, p;
    rig_open(&g, 0);
    CHECK_INT(allow(&g, RDVMSG_ANYONE, NULL), RDV_OK);
    CHECK_INT(call(&g, 1, &a), RDV_OK);
    addr_set_port(&g.caller.from, 1);
    CHECK_INT(call(&g, 2, &a), RDV_BAD_TOKEN);
    CHECK_INT(pushed(&g, &g.callee, &p), 0);
    g.callee.token[0] ^= 1;
    CHECK_INT(allow(&g, 0, NULL), RDV_BAD_TOKEN);
    CHECK_INT(answer_call(&g, 1, RDV_OK, &a), RDV_BAD_TOKEN);
    CHECK_INT(pushed(&g, &g.caller, &p), 0);
    rig_close(&g);
}

TEST("an answer to nothing, or by another than who was called, is refused")
{
    struct rig g;
    struct rdvmsg a, p;
    rig_open(&g, 0);
    CHECK_INT(allow(&g, RDVMSG_ANYONE, NULL), RDV_OK);
    CHECK_INT(answer_call(&g, 1, RDV_OK, &a), RDV_UNKNOWN_CALL);
    CHECK_INT(call(&g, 1, &a), RDV_OK);
    CHECK_INT(answer_call(&g, 2, RDV_OK, &a), RDV_UNKNOWN_CALL);
    struct peer first = g.callee;
    identity_make(&g.callee.id);
    CHECK_INT(addr_parse("192.0.2.9:1", &g.callee.from), 0);
    sign_in(&g, &g.callee);
    CHECK_INT(answer_call(&g, 1, RDV_OK, &a), RDV_UNKNOWN_CALL);
    CHECK_INT(pushed(&g, &g.caller, &p), 0);
    g.callee = first;
    CHECK_INT(answer_call(&g, 1, RDV_OK, &a), RDV_OK);
    rig_close(&g);
}

TEST("a call that is declined relays nothing and still counts")
{
    struct rig g;
    struct rdvmsg a, p;
    rig_open(&g, 0);
    CHECK_INT(allow(&g, RDVMSG_ANYONE, NULL), RDV_OK);
    for (uint64_t i = 0; i < 10; i++) {
        CHECK_INT(call(&g, i, &a), RDV_OK);
        CHECK_INT(answer_call(&g, i, RDV_DECLINED, &a), RDV_OK);
        CHECK_INT(pushed(&g, &g.caller, &p), RDVMSG_ANSWERED);
        CHECK_INT(p.reason, RDV_DECLINED);
        CHECK_INT(call(&g, i, &a), RDV_DECLINED);
    }
    CHECK_INT(call(&g, 10, &a), RDV_NO_RELAY);
    CHECK_INT(pushed(&g, &g.callee, &p), 0);
    rig_close(&g);
}

TEST("a peer that calls without end is limited, for its address, and told so")
{
    struct rig g;
    struct rdvmsg a;
    int good = 0;
    rig_open(&g, 5);
    CHECK_INT(allow(&g, RDVMSG_ANYONE, NULL), RDV_OK);
    for (int i = 0; i < 100; i++)
        good += call(&g, 1, &a) == RDV_OK;
    CHECK_INT(good, 20);
    CHECK_INT(a.reason, RDV_RATE_LIMITED);
    CHECK_INT(a.number, 1);
    CHECK_INT(answer_call(&g, 1, RDV_OK, &a), RDV_OK);
    rig_close(&g);
}

TEST("a side is opened from elsewhere with its ticket and a proof of the address")
{
    struct rig g;
    struct rdvmsg a, p, m = {.type = RDVMSG_OPEN, .pad_to = RDVMSG_HELLO_MIN};
    rig_open(&g, 0);
    CHECK_INT(allow(&g, RDVMSG_ANYONE, NULL), RDV_OK);
    CHECK_INT(call(&g, 1, &a), RDV_OK);
    m.channel = a.channel;
    memcpy(m.ticket, a.ticket, sizeof m.ticket);
    CHECK_INT(pushed(&g, &g.callee, &p), RDVMSG_INVITE);
    CHECK_INT(ask(&g, &g.caller, &m, &a), RDVMSG_OPENED);
    /* A NAT has turned. */
    addr_set_port(&g.caller.from, 4712);
    CHECK_INT(ask(&g, &g.caller, &m, &a), RDVMSG_COOKIE_IS);
    CHECK(g.out_n <= g.in_n);
    memcpy(m.cookie, a.cookie, sizeof m.cookie);
    CHECK_INT(ask(&g, &g.caller, &m, &a), RDVMSG_OPENED);
    CHECK_INT(a.channel, m.channel);
    /* Not the other side, and not with the other side's ticket. */
    m.channel ^= 1;
    CHECK_INT(ask(&g, &g.caller, &m, &a), RDVMSG_ERROR);
    CHECK_INT(a.reason, RDV_UNKNOWN_CHANNEL);
    m.channel ^= 1;
    memcpy(m.ticket, p.ticket, sizeof m.ticket);
    CHECK_INT(ask(&g, &g.caller, &m, &a), RDVMSG_ERROR);
    /* TCP proves the address. */
    m.channel = p.channel;
    memset(m.cookie, 0, sizeof m.cookie);
    g.callee.via = (struct rdv_via){.connection = 5, .thread = 1};
    CHECK_INT(ask(&g, &g.callee, &m, &a), RDVMSG_OPENED);
    rig_close(&g);
}

TEST("who came over TCP is shown without a port")
{
    struct rig g;
    struct rdvmsg a, p;
    rig_open(&g, 0);
    g.callee.via = (struct rdv_via){.connection = 5, .thread = 1};
    sign_in(&g, &g.callee);
    CHECK_INT(allow(&g, RDVMSG_ANYONE, NULL), RDV_OK);
    CHECK_INT(call(&g, 1, &a), RDV_OK);
    CHECK_INT(pushed(&g, &g.callee, &p), RDVMSG_INVITE);
    CHECK_INT(addr_port(&p.addr), 4711);
    CHECK_INT(answer_call(&g, 1, RDV_OK, &a), RDV_OK);
    CHECK_INT(pushed(&g, &g.caller, &p), RDVMSG_ANSWERED);
    CHECK_INT(addr_port(&p.addr), 0);
    rig_close(&g);
}

TEST("a server that drains finishes calls and takes no new ones")
{
    struct rig g;
    struct rdvmsg a, p;
    rig_open(&g, 0);
    CHECK_INT(allow(&g, RDVMSG_ANYONE, NULL), RDV_OK);
    CHECK_INT(call(&g, 1, &a), RDV_OK);
    relay_drain(g.shared.relay);
    CHECK_INT(call(&g, 2, &a), RDV_DRAINING);
    CHECK_INT(pushed(&g, &g.callee, &p), 0);
    CHECK_INT(call(&g, 1, &a), RDV_OK);
    CHECK_INT(answer_call(&g, 1, RDV_OK, &a), RDV_OK);
    rig_close(&g);
}

static enum rdv_reason say_worked(struct rig *g, const struct peer *who, uint64_t number,
                                  uint8_t technique)
{
    struct rdvmsg a, m = request(who, RDVMSG_WORKED);
    const struct peer *other = who == &g->caller ? &g->callee : &g->caller;
    memcpy(m.peer, other->id.key.b, sizeof m.peer);
    m.call = number;
    m.technique = technique;
    return result(ask(g, who, &m, &a), &a);
}

/* The hint that both got; calls without one now and then are made once more. */
static enum technique hinted(struct rig *g, uint64_t number)
{
    struct rdvmsg a, p;
    uint8_t hint = 0;
    for (uint64_t i = 0; i < 8 && hint == 0; i++) {
        g->now_ms += 61000; /* pairs end */
        sign_in(g, &g->caller);
        sign_in(g, &g->callee);
        CHECK_INT(allow(g, RDVMSG_ANYONE, NULL), RDV_OK);
        relay_sweep(g->shared.relay, (uint32_t)(g->now_ms / 1000));
        CHECK_INT(call(g, number + i, &a), RDV_OK);
        CHECK_INT(answer_call(g, number + i, RDV_OK, &a), RDV_OK);
        CHECK_INT(pushed(g, &g->caller, &p), RDVMSG_ANSWERED);
        CHECK_INT(p.technique, a.technique);
        hint = a.technique;
    }
    return hint;
}

TEST("what worked between two NATs is the hint of the next call between such, either way")
{
    struct rig g;
    rig_open(&g, 0);
    g.prints[0] = (struct nat_print){2, 3, 1, 0};
    g.prints[1] = (struct nat_print){4, 3, 2, 1};
    CHECK_INT(hinted(&g, 100), TECHNIQUE_UNKNOWN);
    /* The first of them have ended. */
    CHECK_INT(say_worked(&g, &g.caller, 100, TECHNIQUE_PREDICTED), RDV_UNKNOWN_CALL);
    CHECK_INT(say_worked(&g, &g.caller, 107, TECHNIQUE_PREDICTED), RDV_OK);
    CHECK_INT(g.rdv.counters.worked[TECHNIQUE_PREDICTED], 1);
    CHECK_INT(hinted(&g, 200), TECHNIQUE_PREDICTED);
    struct nat_print first = g.prints[0];
    g.prints[0] = g.prints[1];
    g.prints[1] = first;
    CHECK_INT(hinted(&g, 300), TECHNIQUE_PREDICTED);
    g.prints[1].filtering = 1;
    CHECK_INT(hinted(&g, 400), TECHNIQUE_UNKNOWN);
    rig_close(&g);
}

TEST("only the caller says what worked, of a call that was taken, once for each technique")
{
    struct rig g;
    struct rdvmsg a, p;
    rig_open(&g, 0);
    g.prints[0] = g.prints[1] = (struct nat_print){2, 3, 1, 0};
    CHECK_INT(allow(&g, RDVMSG_ANYONE, NULL), RDV_OK);
    CHECK_INT(say_worked(&g, &g.caller, 1, TECHNIQUE_PLAIN), RDV_UNKNOWN_CALL);
    CHECK_INT(call(&g, 1, &a), RDV_OK);
    CHECK_INT(say_worked(&g, &g.caller, 1, TECHNIQUE_PLAIN), RDV_UNKNOWN_CALL);
    CHECK_INT(answer_call(&g, 1, RDV_OK, &a), RDV_OK);
    CHECK_INT(say_worked(&g, &g.callee, 1, TECHNIQUE_PLAIN), RDV_UNKNOWN_CALL);
    for (int i = 0; i < 10; i++) {
        CHECK_INT(say_worked(&g, &g.caller, 1, TECHNIQUE_PLAIN), RDV_OK);
        CHECK_INT(g.out_n, 0);
        CHECK_INT(pushed(&g, &g.callee, &p), 0);
        CHECK_INT(say_worked(&g, &g.caller, 1, TECHNIQUE_TCP), RDV_OK);
    }
    CHECK_INT(g.rdv.counters.worked[TECHNIQUE_PLAIN], 1);
    CHECK_INT(g.rdv.counters.worked[TECHNIQUE_TCP], 1);
    CHECK_INT(say_worked(&g, &g.caller, 1, TECHNIQUE_UNKNOWN), RDV_BAD_MESSAGE);
    CHECK_INT(say_worked(&g, &g.caller, 1, TECHNIQUE_END), RDV_BAD_MESSAGE);
    CHECK_INT(say_worked(&g, &g.caller, 1, 255), RDV_BAD_MESSAGE);
    g.caller.token[0] ^= 1;
    CHECK_INT(say_worked(&g, &g.caller, 1, TECHNIQUE_GUESSED), RDV_BAD_TOKEN);
    CHECK_INT(g.rdv.counters.worked[TECHNIQUE_GUESSED], 0);
    rig_close(&g);
}

TEST("a call that is declined has no hint and nothing worked")
{
    struct rig g;
    struct rdvmsg a;
    rig_open(&g, 0);
    g.prints[0] = g.prints[1] = (struct nat_print){2, 3, 1, 0};
    CHECK_INT(hinted(&g, 100), TECHNIQUE_UNKNOWN);
    CHECK_INT(say_worked(&g, &g.caller, 107, TECHNIQUE_CAREFUL), RDV_OK);
    CHECK_INT(hinted(&g, 200), TECHNIQUE_CAREFUL);
    for (uint64_t i = 300; i < 304; i++) {
        CHECK_INT(call(&g, i, &a), RDV_OK);
        CHECK_INT(answer_call(&g, i, RDV_DECLINED, &a), RDV_OK);
        CHECK_INT(a.technique, TECHNIQUE_UNKNOWN);
        CHECK_INT(say_worked(&g, &g.caller, i, TECHNIQUE_PLAIN), RDV_UNKNOWN_CALL);
    }
    rig_close(&g);
}
