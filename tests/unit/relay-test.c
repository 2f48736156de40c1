/* The table of pairs: who may pass what, and where to. */
#include "rendezvous/relay.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

#include "test.h"

static const struct relay_limits open_limits = {.pairs = 3000, .pairs_key = 2000};

__attribute__((constructor)) static void prepare(void)
{
    if (sodium_init() < 0)
        abort();
}

static struct place at(uint16_t port)
{
    return (struct place){.ip = {192, 0, 2, 1}, .port = port, .family = 4};
}

static const uint8_t keys[4][RDVMSG_KEY] = {{1}, {2}, {3}, {4}};

static enum rdv_reason call(struct relay *r, size_t caller, uint64_t number, uint32_t now_s,
                            struct relay_ends *ends)
{
    const struct relay_call c = {.caller = keys[caller],
                                 .callee = keys[3],
                                 .call = number,
                                 .from = at((uint16_t)(100 + caller)),
                                 .to = at(200)};
    return relay_call(r, &c, now_s, ends);
}

static enum relay_verdict pass(struct relay *r, uint32_t channel, uint16_t from, uint64_t now_ms,
                               uint16_t *ret_to)
{
    struct relay_credit credit = {0};
    const struct relay_packet p = {channel, 1000, at(from), now_ms};
    uint32_t other = 0;
    struct place to = {0};
    enum relay_verdict v = relay_pass(r, &credit, &p, &other, &to);
    if (v == RELAY_PASS)
        CHECK_INT(other, channel ^ 1);
    *ret_to = to.port;
    return v;
}

TEST("packets go from side to side, and only from where each side is")
{
    struct relay *r = relay_new(&open_limits);
    struct relay_ends e, other;
    uint16_t to;
    CHECK_INT(call(r, 0, 1, 10, &e), RDV_OK);
    CHECK_INT(call(r, 1, 1, 10, &other), RDV_OK);
    CHECK_INT(pass(r, e.channel[RELAY_CALLER], 100, 10000, &to), RELAY_PASS);
    CHECK_INT(to, 200);
    CHECK_INT(pass(r, e.channel[RELAY_CALLEE], 200, 10000, &to), RELAY_PASS);
    CHECK_INT(to, 100);
    CHECK_INT(pass(r, e.channel[RELAY_CALLER], 101, 10000, &to), RELAY_UNKNOWN);
    CHECK_INT(pass(r, other.channel[RELAY_CALLER], 100, 10000, &to), RELAY_UNKNOWN);
    CHECK_INT(pass(r, e.channel[RELAY_CALLEE], 100, 10000, &to), RELAY_UNKNOWN);
    for (uint32_t bit = 1; bit < 32; bit++)
        if ((e.channel[0] ^ 1u << bit) != other.channel[0])
            CHECK_INT(pass(r, e.channel[0] ^ 1u << bit, 100, 10000, &to), RELAY_UNKNOWN);
    CHECK_INT(pass(r, 0, 100, 10000, &to), RELAY_UNKNOWN);
    CHECK_INT(pass(r, UINT32_MAX, 100, 10000, &to), RELAY_UNKNOWN);
    relay_free(r);
}

static uint32_t early(struct relay *r, uint64_t number, uint16_t from)
{
    const struct place place = at(from);
    return relay_early(r, number, &place);
}

TEST("a call's number stands for the caller's channel, only where it came from")
{
    struct relay *r = relay_new(&open_limits);
    struct relay_ends e, other;
    CHECK_INT(early(r, 1, 100), 0);
    CHECK_INT(call(r, 0, 1, 10, &e), RDV_OK);
    CHECK_INT(call(r, 1, 2, 10, &other), RDV_OK);
    CHECK_INT(early(r, 1, 100), e.channel[RELAY_CALLER]);
    CHECK_INT(early(r, 2, 101), other.channel[RELAY_CALLER]);
    CHECK_INT(early(r, 1, 101), 0);
    CHECK_INT(early(r, 1, 200), 0);
    CHECK_INT(early(r, 2, 100), 0);
    CHECK_INT(early(r, 3, 100), 0);
    relay_free(r);
}

TEST("few packets name a call, and none one that was declined or has ended")
{
    struct relay *r = relay_new(&open_limits);
    struct relay_ends e;
    struct relay_asked asked;
    const struct relay_call declined = {.caller = keys[0], .callee = keys[3], .call = 2};
    int n = 0;
    CHECK_INT(call(r, 0, 1, 10, &e), RDV_OK);
    while (n < 1000 && early(r, 1, 100) != 0)
        n++;
    CHECK_INT(n, 12);
    CHECK_INT(call(r, 0, 1, 10, &e), RDV_OK);
    CHECK_INT(early(r, 1, 100), 0);
    CHECK_INT(call(r, 0, 2, 10, &e), RDV_OK);
    CHECK_INT(relay_answer(r, &declined, RDV_DECLINED, &asked), RDV_OK);
    CHECK_INT(early(r, 2, 100), 0);
    CHECK_INT(call(r, 0, 3, 10, &e), RDV_OK);
    relay_sweep(r, 10 + RELAY_IDLE_S);
    CHECK_INT(relay_count(r), 0);
    CHECK_INT(early(r, 3, 100), 0);
    relay_free(r);
}

TEST("of two callers with one number neither gets the other's channel")
{
    struct relay *r = relay_new(&open_limits);
    struct relay_ends first, second;
    CHECK_INT(call(r, 0, 1, 10, &first), RDV_OK);
    CHECK_INT(call(r, 1, 1, 20, &second), RDV_OK);
    CHECK_INT(early(r, 1, 100), first.channel[RELAY_CALLER]);
    CHECK_INT(early(r, 1, 101), 0);
    relay_sweep(r, 75); /* the first is idle */
    CHECK_INT(relay_count(r), 1);
    CHECK_INT(early(r, 1, 100), 0);
    relay_sweep(r, 85);
    CHECK_INT(call(r, 1, 1, 90, &second), RDV_OK);
    CHECK_INT(early(r, 1, 101), second.channel[RELAY_CALLER]);
    relay_free(r);
}

TEST("a side that is nowhere gets nothing until it is opened")
{
    struct relay *r = relay_new(&open_limits);
    struct relay_ends e;
    struct place elsewhere = at(300);
    uint16_t to;
    const struct relay_call c = {.caller = keys[0], .callee = keys[3], .from = at(100), .to = {0}};
    CHECK_INT(relay_call(r, &c, 10, &e), RDV_OK);
    CHECK_INT(pass(r, e.channel[0], 100, 10000, &to), RELAY_NOWHERE);
    CHECK_INT(relay_open(r, e.channel[1], e.ticket[0], &elsewhere, 10), RDV_UNKNOWN_CHANNEL);
    CHECK_INT(relay_open(r, e.channel[1], e.ticket[1], &elsewhere, 10), RDV_OK);
    CHECK(relay_is_at(r, e.channel[1], &elsewhere));
    CHECK_INT(pass(r, e.channel[0], 100, 10000, &to), RELAY_PASS);
    CHECK_INT(to, 300);
    relay_free(r);
}

TEST("a pair that is idle ends, its channel is not used again soon")
{
    struct relay *r = relay_new(&open_limits);
    struct relay_ends busy, idle, next;
    uint16_t to;
    CHECK_INT(call(r, 0, 1, 10, &busy), RDV_OK);
    CHECK_INT(call(r, 1, 1, 10, &idle), RDV_OK);
    for (uint32_t s = 11; s < 200; s++) {
        CHECK_INT(pass(r, busy.channel[0], 100, s * 1000, &to), RELAY_PASS);
        relay_sweep(r, s);
    }
    CHECK_INT(relay_count(r), 1);
    CHECK_INT(pass(r, idle.channel[0], 101, 200000, &to), RELAY_UNKNOWN);
    for (uint64_t i = 0; i < 1500; i++) {
        CHECK_INT(call(r, 1, i + 10, 200, &next), RDV_OK);
        CHECK(next.channel[0] != idle.channel[0]);
    }
    relay_free(r);
}

TEST("places of ended pairs are used again, under other channels")
{
    const struct relay_limits few = {.pairs = 4, .pairs_key = 4};
    struct relay *r = relay_new(&few);
    struct relay_ends e;
    uint32_t last = 0, now_s = 10;
    for (int round = 0; round < 5000; round++) {
        for (uint64_t i = 0; i < 4; i++)
            CHECK_INT(call(r, 0, i, now_s, &e), RDV_OK);
        CHECK_INT(call(r, 0, 9, now_s, &e), RDV_NO_RELAY);
        CHECK_INT(call(r, 1, 9, now_s, &e), RDV_NO_RELAY);
        CHECK_INT(call(r, 0, 3, now_s, &e), RDV_OK);
        CHECK(e.channel[0] != 0 && e.channel[0] != last);
        last = e.channel[0];
        now_s += RELAY_IDLE_S;
        relay_sweep(r, now_s);
        CHECK_INT(relay_count(r), 0);
        now_s++;
    }
    relay_free(r);
}

TEST("a caller has so many pairs, others are not held up by it")
{
    const struct relay_limits few = {.pairs = 10, .pairs_key = 3};
    struct relay *r = relay_new(&few);
    struct relay_ends e;
    for (uint64_t i = 0; i < 5; i++)
        CHECK_INT(call(r, 0, i, 10, &e), i < 3 ? RDV_OK : RDV_NO_RELAY);
    CHECK_INT(call(r, 1, 0, 10, &e), RDV_OK);
    relay_free(r);
}

static int passed(struct relay *r, uint32_t channel, uint16_t from, uint64_t now_ms)
{
    int n = 0;
    uint16_t to;
    while (n < 1000000 && pass(r, channel, from, now_ms, &to) == RELAY_PASS)
        n++;
    return n;
}

TEST("a caller's pairs share its rate in both directions")
{
    const struct relay_limits slow = {.pairs = 10, .pairs_key = 10, .rate_key = 4000000};
    struct relay *r = relay_new(&slow);
    struct relay_ends a, b, other;
    uint16_t to;
    CHECK_INT(call(r, 0, 1, 10, &a), RDV_OK);
    CHECK_INT(call(r, 0, 2, 10, &b), RDV_OK);
    CHECK_INT(call(r, 1, 1, 10, &other), RDV_OK);
    CHECK_INT(passed(r, a.channel[0], 100, 10000), 1000);
    CHECK_INT(pass(r, b.channel[1], 200, 10000, &to), RELAY_LIMITED);
    CHECK_INT(pass(r, other.channel[0], 101, 10000, &to), RELAY_PASS);
    CHECK_INT(passed(r, b.channel[1], 200, 10100), 400);
    CHECK_INT(passed(r, a.channel[0], 100, 60000), 1000);
    relay_free(r);
}

TEST("all share the rate of all")
{
    const struct relay_limits slow = {.pairs = 10, .pairs_key = 10, .rate_all = 4000000};
    struct relay *r = relay_new(&slow);
    struct relay_ends a, b;
    struct relay_credit credit = {0};
    CHECK_INT(call(r, 0, 1, 10, &a), RDV_OK);
    CHECK_INT(call(r, 1, 1, 10, &b), RDV_OK);
    int n = 0;
    for (;; n++) {
        const struct relay_packet p = {n % 2 ? a.channel[0] : b.channel[0], 1000,
                                       at(n % 2 ? 100 : 101), 10000};
        uint32_t other;
        struct place to;
        if (n > 5000 || relay_pass(r, &credit, &p, &other, &to) != RELAY_PASS)
            break;
    }
    CHECK(n >= 900 && n <= 1000);
    relay_free(r);
}

struct mover {
    struct relay *relay;
    struct relay_ends ends;
    _Atomic bool stop;
};

static void *move(void *context)
{
    struct mover *m = context;
    for (uint8_t i = 0; !m->stop; i++) {
        struct place p = {.family = 4, .port = i};
        memset(p.ip, i, 16);
        if (relay_open(m->relay, m->ends.channel[1], m->ends.ticket[1], &p, 10) != RDV_OK)
            abort();
    }
    return NULL;
}

TEST("a place that moves is never seen half moved")
{
    struct mover m = {.relay = relay_new(&open_limits)};
    pthread_t thread;
    int torn = 0;
    CHECK_INT(call(m.relay, 0, 1, 10, &m.ends), RDV_OK);
    CHECK_INT(pthread_create(&thread, NULL, move, &m), 0);
    for (int i = 0; i < 200000; i++) {
        struct relay_credit credit = {0};
        const struct relay_packet p = {m.ends.channel[0], 1000, at(100), 10000};
        uint32_t other;
        struct place to;
        if (relay_pass(m.relay, &credit, &p, &other, &to) == RELAY_PASS && to.port != 200)
            torn += to.ip[0] != (uint8_t)to.port || to.ip[15] != to.ip[0];
    }
    m.stop = true;
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK_INT(torn, 0);
    relay_free(m.relay);
}
