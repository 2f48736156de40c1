/* What is remembered of NATs: reports come in with the time, hints go out. Which calls get no hint
 * is chosen by a random key, so the tests ask for many. */
#include "rendezvous/learned.h"

#include <sodium.h>
#include <stdlib.h>

#include "test.h"

#define NOW_S 5000000u
#define DAY_S (24 * 3600u)

__attribute__((constructor)) static void prepare(void)
{
    if (sodium_init() < 0)
        abort();
}

static const struct nat_print HOME[2] = {{2, 3, 1, 0}, {4, 3, 2, 1}};

/* Each from a network of its own, in a minute of its own. */
static void tell(struct learned *l, const struct nat_print prints[2], enum technique t,
                 unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        const uint8_t ip[4] = {198, 51, (uint8_t)i, 1};
        struct addr from = addr_make(AF_INET, ip, 4711);
        const struct learned_report r = {{prints[0], prints[1]}, i, t, &from};
        CHECK(learned_count(l, &r, NOW_S + i * LEARNED_EACH_S));
    }
}

/* Of 256 calls; ret_without is how many of them had none. */
static enum technique most(struct learned *l, const struct nat_print prints[2], uint32_t now_s,
                           unsigned *ret_without)
{
    unsigned got[TECHNIQUE_END] = {0};
    enum technique hint = TECHNIQUE_UNKNOWN;
    for (uint64_t call = 0; call < 256; call++) {
        enum technique t = learned_hint(l, prints, call, now_s);
        CHECK_INT(learned_hint(l, prints, call, now_s), t);
        got[t]++;
        hint = t ? t : hint;
    }
    *ret_without = got[TECHNIQUE_UNKNOWN];
    CHECK_INT(got[TECHNIQUE_UNKNOWN] + got[hint], hint ? 256 : 512);
    return hint;
}

static enum technique hint(struct learned *l, const struct nat_print prints[2], uint32_t now_s)
{
    unsigned without;
    return most(l, prints, now_s, &without);
}

TEST("one report is enough for a hint, and about one call in 16 has none")
{
    struct learned *l = learned_new();
    unsigned without;
    CHECK_INT(most(l, HOME, NOW_S, &without), TECHNIQUE_UNKNOWN);
    tell(l, HOME, TECHNIQUE_GUESSED, 1);
    CHECK_INT(most(l, HOME, NOW_S, &without), TECHNIQUE_GUESSED);
    CHECK(without > 0 && without < 64);
    const struct nat_print turned[2] = {HOME[1], HOME[0]};
    CHECK_INT(hint(l, turned, NOW_S), TECHNIQUE_GUESSED);
    const struct nat_print same[2] = {HOME[0], HOME[0]};
    CHECK_INT(hint(l, same, NOW_S), TECHNIQUE_UNKNOWN);
    learned_free(l);
}

TEST("of NATs that are not known nothing is learned")
{
    struct learned *l = learned_new();
    struct addr from;
    CHECK_INT(addr_parse("192.0.2.1:1", &from), 0);
    struct learned_report r = {{{0, 3, 1, 0}, HOME[1]}, 1, TECHNIQUE_PLAIN, &from};
    CHECK(!learned_count(l, &r, NOW_S));
    CHECK_INT(hint(l, r.prints, NOW_S), TECHNIQUE_UNKNOWN);
    r.prints[0] = HOME[0];
    r.technique = TECHNIQUE_END;
    CHECK(!learned_count(l, &r, NOW_S));
    r.technique = TECHNIQUE_UNKNOWN;
    CHECK(!learned_count(l, &r, NOW_S));
    learned_free(l);
}

TEST("of one network a technique counts once a minute, of others besides")
{
    struct learned *l = learned_new();
    struct addr liar, other;
    unsigned taken = 0;
    CHECK_INT(addr_parse("[2001:db8:1:2::1]:1", &liar), 0);
    CHECK_INT(addr_parse("192.0.2.1:1", &other), 0);
    for (uint64_t i = 0; i < 1000; i++) {
        liar.v6.sin6_addr.s6_addr[15]++; /* another address of the same network */
        const struct learned_report r = {{HOME[0], HOME[1]}, i, TECHNIQUE_TCP, &liar};
        taken += learned_count(l, &r, NOW_S / 60 * 60 + (uint32_t)i % 60);
    }
    CHECK_INT(taken, 1);
    const struct learned_report next = {{HOME[0], HOME[1]}, 1, TECHNIQUE_TCP, &liar};
    CHECK(learned_count(l, &next, NOW_S / 60 * 60 + 60));
    taken = 0;
    for (uint8_t i = 0; i < 20; i++) {
        const uint8_t ip[4] = {203, 0, i, 1};
        other = addr_make(AF_INET, ip, 1);
        const struct learned_report r = {{HOME[0], HOME[1]}, i, TECHNIQUE_PLAIN, &other};
        taken += learned_count(l, &r, NOW_S / 60 * 60 + 120);
    }
    CHECK(taken > 8); /* two may have the same bit of 64 */
    learned_free(l);
}

TEST("when NATs change, the table learns anew; what is not said again is forgotten")
{
    struct learned *l = learned_new();
    tell(l, HOME, TECHNIQUE_PLAIN, 3000);
    CHECK_INT(hint(l, HOME, NOW_S + 3000 * 60), TECHNIQUE_PLAIN);
    tell(l, HOME, TECHNIQUE_PREDICTED, 3000);
    CHECK_INT(hint(l, HOME, NOW_S + 3000 * 60), TECHNIQUE_PREDICTED);
    CHECK_INT(hint(l, HOME, NOW_S + 3000 * 60 + 30 * DAY_S), TECHNIQUE_UNKNOWN);
    learned_free(l);
}

TEST("the relay is a hint only when many have failed and none has got through")
{
    struct learned *l = learned_new();
    tell(l, HOME, TECHNIQUE_RELAY, 3);
    CHECK_INT(hint(l, HOME, NOW_S), TECHNIQUE_UNKNOWN);
    tell(l, HOME, TECHNIQUE_RELAY, 200);
    CHECK_INT(hint(l, HOME, NOW_S), TECHNIQUE_RELAY);
    tell(l, HOME, TECHNIQUE_GUESSED, 1);
    CHECK_INT(hint(l, HOME, NOW_S), TECHNIQUE_GUESSED);
    learned_free(l);
}

TEST("a flood of NATs that do not exist leaves those that many have named")
{
    struct learned *l = learned_new();
    tell(l, HOME, TECHNIQUE_CAREFUL, 40);
    for (uint32_t i = 0; i < 40000; i++) {
        struct nat_print made[2] = {{1, (uint8_t)i, (uint8_t)(i >> 8), (uint8_t)(i >> 16)},
                                    HOME[1]};
        tell(l, made, TECHNIQUE_TCP, 1);
    }
    CHECK_INT(hint(l, HOME, NOW_S), TECHNIQUE_CAREFUL);
    learned_free(l);
}

TEST("who has found out which numbers get no hint says no sooner that nothing works")
{
    struct learned *l = learned_new();
    const struct nat_print own[2] = {{3, 3, 2, 1}, {3, 3, 2, 2}};
    struct addr liar;
    uint64_t call = 0;
    CHECK_INT(addr_parse("192.0.2.1:1", &liar), 0);
    tell(l, own, TECHNIQUE_TCP, 1);
    while (learned_hint(l, own, call, NOW_S) != TECHNIQUE_UNKNOWN)
        call++;
    for (uint32_t i = 0; i < 30; i++) {
        const struct learned_report r = {{HOME[0], HOME[1]}, call, TECHNIQUE_RELAY, &liar};
        CHECK(learned_count(l, &r, NOW_S + i * LEARNED_EACH_S));
    }
    CHECK_INT(hint(l, HOME, NOW_S + 30 * LEARNED_EACH_S), TECHNIQUE_UNKNOWN);
    learned_free(l);
}
