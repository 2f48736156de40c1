/* The measurement of a mapping's lifetime, against NATs and a server in memory. */
#include "punch/lifetime.h"

#include "test.h"

#define S 1000000ull

/* One mapping for the resting socket; when it is gone the next packet makes another one. */
struct world {
    uint64_t now_us;
    uint64_t single_us, flow_us; /* how long it lives: before and after two seconds of use */
    bool inbound_keeps;
    bool refuses, several; /* the server knows no such question; the NAT has two addresses */
    bool same_port;        /* a new mapping gets the old one's port */
    uint64_t server_until_us;
    unsigned loss; /* per cent, of each packet's way there and back */
    uint64_t random;
    uint64_t made_us, used_us; /* of the mapping; made 0: there is none */
    bool flows;
    uint16_t port;
    struct lifetime *machine;
};

static bool is_lost(struct world *w)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return w->random >> 33 < (uint64_t)w->loss * (UINT64_C(1) << 31) / 100;
}

static bool is_alive(const struct world *w)
{
    return w->made_us && w->now_us - w->used_us < (w->flows ? w->flow_us : w->single_us);
}

static void goes_out(struct world *w)
{
    if (!is_alive(w)) {
        w->made_us = w->now_us;
        w->flows = false;
        w->port = w->same_port && w->port ? w->port : (uint16_t)(w->port + 1777);
    }
    w->flows = w->flows || w->now_us - w->made_us > 2 * S;
    w->used_us = w->now_us;
}

static void answer(struct world *w, enum lifetime_socket to, const struct stun *s)
{
    uint8_t bytes[STUN_MAX];
    int n = stun_encode(s, bytes, sizeof bytes);
    CHECK(n > 0);
    lifetime_input(w->machine, to, (struct str){(char *)bytes, (size_t)n}, w->now_us);
}

static void serve(struct world *w, const struct lifetime_send *p)
{
    struct stun q, a = {.type = STUN_SUCCESS};
    CHECK_INT(stun_decode(&q, p->bytes, p->n), 0);
    CHECK_INT(q.has_response_port, p->socket == LIFETIME_ASKS);
    if (p->socket == LIFETIME_RESTS)
        goes_out(w);
    bool silent = w->server_until_us && w->now_us > w->server_until_us;
    if (silent || is_lost(w) || is_lost(w))
        return;
    memcpy(a.transaction, q.transaction, sizeof a.transaction);
    CHECK_INT(addr_parse("192.0.2.1:1", &a.mapped), 0);
    addr_set_port(&a.mapped, w->port);
    if (q.has_response_port && w->refuses) {
        a = (struct stun){.type = STUN_FAILURE, .error = 420};
        memcpy(a.transaction, q.transaction, sizeof a.transaction);
        answer(w, LIFETIME_ASKS, &a);
        return;
    }
    if (!q.has_response_port) {
        answer(w, LIFETIME_RESTS, &a);
    } else if (is_alive(w) && q.response_port == w->port && !w->several) {
        w->used_us = w->inbound_keeps ? w->now_us : w->used_us;
        answer(w, LIFETIME_RESTS, &a);
    }
}

static struct lifetime_result measure(struct world *w)
{
    struct lifetime_send p;
    w->now_us = w->now_us ? w->now_us : S;
    w->machine = lifetime_new(4711);
    CHECK(w->machine);
    while (lifetime_next(w->machine) != UINT64_MAX) {
        if (lifetime_next(w->machine) > w->now_us)
            w->now_us = lifetime_next(w->machine);
        while (lifetime_poll(w->machine, w->now_us, &p))
            serve(w, &p);
        CHECK(w->now_us < 3600 * S);
    }
    struct lifetime_result r = lifetime_result(w->machine);
    lifetime_free(w->machine);
    return r;
}

static struct world nat(uint64_t flow_ms)
{
    return (struct world){
        .single_us = 30 * S, .flow_us = flow_ms * 1000, .inbound_keeps = true, .random = 7};
}

/* The bounds are true, close to each other, and the interval keeps the mapping. */
static void check_bounds(const struct lifetime_result *r, uint32_t is_ms)
{
    CHECK_INT(r->state, LIFETIME_MEASURED);
    CHECK(r->alive_ms <= is_ms);
    CHECK(is_ms >= LIFETIME_MOST_MS || (r->dead_ms >= is_ms && r->dead_ms <= is_ms * 3 / 2 + 3500));
    CHECK(is_ms < 5000 || r->alive_ms * 4 >= is_ms * 3 || r->alive_ms == LIFETIME_MOST_MS);
    CHECK(is_ms < 6000 || lifetime_interval_ms(r) < is_ms);
}

TEST("lifetimes between four seconds and ten minutes are measured, whatever port comes next")
{
    static const uint32_t lifetimes_ms[] = {4000,  6000,  8000,   10500,  15000,  30500, 45000,
                                            60500, 90000, 120500, 180000, 240000, 600000};
    for (size_t i = 0; i < sizeof lifetimes_ms / sizeof *lifetimes_ms * 2; i++) {
        struct world w = nat(lifetimes_ms[i / 2]);
        w.same_port = i % 2;
        struct lifetime_result r = measure(&w);
        check_bounds(&r, lifetimes_ms[i / 2]);
    }
}

TEST("a mapping in use is measured, not one that only just began")
{
    struct world w = nat(120500);
    w.single_us = 7 * S;
    struct lifetime_result r = measure(&w);
    check_bounds(&r, 120500);
}

TEST("few packets are needed, and long lifetimes need fewer afterwards")
{
    struct world w = nat(600000);
    struct lifetime_result r = measure(&w);
    CHECK_INT(r.alive_ms, LIFETIME_MOST_MS);
    CHECK_INT(r.dead_ms, 0);
    CHECK(r.sent <= 2 * 7 + 3);
    CHECK_INT(lifetime_interval_ms(&r), 110000);
    w = nat(6000);
    r = measure(&w);
    CHECK(r.sent <= 30);
    CHECK_INT(lifetime_interval_ms(&r), 5000);
}

TEST("whether packets from outside keep a mapping is found out")
{
    struct world w = nat(8000);
    CHECK_INT(measure(&w).inbound, LIFETIME_INBOUND_KEEPS);
    w = nat(30500);
    CHECK_INT(measure(&w).inbound, LIFETIME_INBOUND_KEEPS);
    w = nat(30500);
    w.inbound_keeps = false;
    struct lifetime_result r = measure(&w);
    CHECK_INT(r.inbound, LIFETIME_INBOUND_IGNORED);
    check_bounds(&r, 30500);
}

TEST("with a tenth of all packets lost no lifetime is thought longer, and few shorter, than it is")
{
    unsigned right = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct world w = nat(60500);
        w.loss = 10;
        w.random = seed;
        struct lifetime_result r = measure(&w);
        CHECK(r.alive_ms <= 60500);
        CHECK(r.sent < LIFETIME_SENDS_MAX);
        right += r.state == LIFETIME_MEASURED && r.dead_ms >= 60500 && r.alive_ms >= 45000;
    }
    CHECK(right >= 45);
}

TEST("a server that goes makes no mapping look dead")
{
    struct world w = nat(600000);
    w.server_until_us = 60 * S;
    struct lifetime_result r = measure(&w);
    CHECK_INT(r.state, LIFETIME_CUT_OFF);
    CHECK_INT(r.dead_ms, 0);
    CHECK_INT(r.alive_ms, 20000);
    CHECK_INT(lifetime_interval_ms(&r), 16000);
}

TEST("where it cannot be measured that is found out at once, and nothing changes")
{
    struct world w = nat(60000);
    w.refuses = true;
    struct lifetime_result r = measure(&w);
    CHECK_INT(r.state, LIFETIME_IMPOSSIBLE);
    CHECK(w.now_us < 5 * S);
    CHECK_INT(lifetime_interval_ms(&r), 15000);
    w = nat(60000);
    w.several = true;
    r = measure(&w);
    CHECK_INT(r.state, LIFETIME_IMPOSSIBLE);
    CHECK(w.now_us < 7 * S);
    CHECK_INT(lifetime_interval_ms(&r), 15000);
}

TEST("noise and old answers change nothing")
{
    struct world w = nat(60000);
    struct lifetime_send p;
    struct stun s = {.type = STUN_SUCCESS};
    w.now_us = S;
    w.machine = lifetime_new(1);
    CHECK(lifetime_poll(w.machine, w.now_us, &p));
    lifetime_input(w.machine, LIFETIME_RESTS, STR("not STUN"), w.now_us);
    CHECK_INT(addr_parse("192.0.2.9:9", &s.mapped), 0);
    answer(&w, LIFETIME_RESTS, &s);
    CHECK_INT(lifetime_result(w.machine).state, LIFETIME_MEASURING);
    CHECK_INT(lifetime_next(w.machine), S + LIFETIME_RTO_US);
    lifetime_free(w.machine);
}
