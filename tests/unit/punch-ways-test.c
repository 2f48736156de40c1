/* The ways that the check machine has where plain probes do not do: openers, predictions on NATs
 * that others use, too, guesses, mapped ports; what a hint changes, and what it may not change. */
#include "../sim/net.h"
#include "test.h"

#include <stdio.h>

#define MS 1000u

static const uint64_t end_us = 6000 * MS;

/* Runs what has been introduced; again with fresh sockets, as often as that. */
static bool direct(struct sim *s, unsigned again)
{
    sim_run(s, s->now_us + end_us);
    for (unsigned i = 0; i < again && !(s->a.proven && s->b.proven); i++) {
        sim_again(s, 2 * MS);
        sim_run(s, s->now_us + end_us);
    }
    return s->a.proven && s->b.proven;
}

/* Of each plan one pair, with what it is found by. */
static const struct {
    const char *a, *b;
    enum technique technique;
} plans[] = {
    {"eim/apdf/random", "eim/apdf/keep", TECHNIQUE_PLAIN},
    {"eim/apdf/keep open", "eim/apdf/keep open", TECHNIQUE_PLAIN},
    {"eim/adf/random", "apdm/apdf/random", TECHNIQUE_PLAIN},
    {"eim/apdf/keep", "apdm/apdf/sequence+1", TECHNIQUE_PREDICTED},
    {"apdm/apdf/sequence+2", "eim/apdf/random", TECHNIQUE_PREDICTED},
    {"apdm/apdf/sequence+1", "apdm/apdf/sequence+2", TECHNIQUE_PREDICTED},
    {"eim/apdf/random", "apdm/apdf/random", TECHNIQUE_GUESSED},
    {"adm/apdf/random", "eim/apdf/keep open", TECHNIQUE_GUESSED},
    {"eim/apdf/keep", "apdm/apdf/block512", TECHNIQUE_GUESSED},
};
enum { PLANS = sizeof plans / sizeof *plans };

TEST("whatever the hint says, each kind of pair connects, and says by what")
{
    for (size_t i = 0; i < PLANS; i++) {
        for (unsigned hint = 0; hint < TECHNIQUE_END; hint++) {
            struct sim *s = sim_new(plans[i].a, plans[i].b, 10 * i + hint);
            s->hint = (enum technique)hint;
            sim_introduce(s, 2 * MS);
            bool good = direct(s, 3);
            bool careful = s->again || hint == TECHNIQUE_CAREFUL;
            enum technique wanted = plans[i].technique;
            if (careful && wanted == TECHNIQUE_PLAIN)
                wanted = TECHNIQUE_CAREFUL;
            if (!good || s->a.path.technique != wanted || s->b.path.technique != wanted)
                (void)printf("# %s x %s, hint %s\n", plans[i].a, plans[i].b,
                             technique_word(s->hint));
            CHECK(good);
            CHECK_INT(s->a.path.technique, wanted);
            CHECK_INT(s->b.path.technique, wanted);
            sim_free(s);
        }
    }
}

static uint64_t took_us(const char *a, const char *b, enum technique hint)
{
    struct sim *s = sim_new(a, b, 3);
    uint64_t start_us = s->now_us + s->introduced_us;
    s->hint = hint;
    sim_introduce(s, 2 * MS);
    CHECK(direct(s, 0));
    uint64_t us = s->a.proven_us - start_us;
    sim_free(s);
    return us;
}

TEST("a hint that a guess is needed makes it begin at once")
{
    uint64_t usual_us = took_us("eim/apdf/keep", "apdm/apdf/block512", TECHNIQUE_UNKNOWN);
    CHECK(took_us("eim/apdf/keep", "apdm/apdf/block512", TECHNIQUE_GUESSED) + 50 * MS <= usual_us);
    CHECK(took_us("eim/apdf/keep", "apdm/apdf/block512", TECHNIQUE_PLAIN) >= usual_us + 50 * MS);
}

TEST("where nothing has ever worked the attempt is short")
{
    struct sim *s = sim_new("eim/apdf/random", "eim/apdf/random", 1);
    s->hint = TECHNIQUE_RELAY;
    s->loss = 100;
    uint64_t start_us = s->now_us + s->introduced_us;
    sim_introduce(s, 0);
    CHECK(!direct(s, 0));
    CHECK(s->now_us <= start_us + PUNCH_BRIEF_US + MS);
    sim_free(s);
    s = sim_new("eim/apdf/random", "apdm/apdf/random", 1);
    s->hint = TECHNIQUE_RELAY;
    s->loss = 100;
    sim_introduce(s, 0);
    CHECK(!direct(s, 0));
    CHECK_INT(punch_guesses_sent(s->a.machine), GUESS_PROBES_MAX / 2);
    sim_free(s);
}

TEST("behind routers that take what comes early for themselves guesses hit as elsewhere")
{
    unsigned good = 0, first = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sim *s = sim_new("eim/apdf/keep open", "apdm/apdf/random", seed);
        sim_introduce(s, 2 * MS);
        good += direct(s, 3);
        first += !s->again;
        sim_free(s);
    }
    CHECK_INT(good, 20);
    CHECK(first >= 18);
}

TEST("an opener that is lost is followed by another")
{
    unsigned good = 0, first = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct sim *s = sim_new("eim/apdf/keep open", "eim/apdf/keep open", seed);
        s->loss = 10;
        sim_introduce(s, 4 * MS);
        good += direct(s, 2);
        first += !s->again;
        sim_free(s);
    }
    CHECK_INT(good, 40);
    CHECK_INT(first, 40);
}

TEST("openers that do arrive, because the peer lives next door, do no harm")
{
    for (unsigned hops = 2; hops <= 4; hops++) {
        struct sim *s = sim_new("eim/apdf/keep open", "eim/apdf/keep open", 1);
        s->hops = hops;
        s->delay_us = MS / 2;
        /* Between two NATs without a router in between nothing dies: they have to be as quick. */
        sim_introduce(s, hops == 2 ? MS / 4 : 2 * MS);
        CHECK(direct(s, 0));
        sim_free(s);
        s = sim_new("eim/apdf/keep open", "apdm/apdf/random", hops);
        s->hops = hops;
        s->delay_us = MS / 2;
        sim_introduce(s, 2 * MS);
        CHECK(direct(s, 2));
        sim_free(s);
    }
}

TEST("openers pass a home's NAT and a carrier's behind it")
{
    struct sim *s = sim_new("eim/apdf/keep open", "eim/apdf/keep open", 1);
    s->a.nat.depth = s->b.nat.depth = 2;
    sim_introduce(s, 2 * MS);
    CHECK(direct(s, 0));
    CHECK_INT(s->a.nat.taken_count + s->b.nat.taken_count, 0);
    sim_free(s);
}

TEST("a NAT that lies deeper than openers go is opened by what follows them")
{
    struct sim *s = sim_new("eim/apdf/keep", "eim/apdf/keep", 1);
    s->a.nat.depth = s->b.nat.depth = 4;
    s->hops = 9;
    sim_introduce(s, 2 * MS);
    CHECK(direct(s, 0));
    sim_free(s);
    s = sim_new("eim/apdf/keep", "apdm/apdf/random", 5);
    s->b.nat.depth = 4;
    s->hops = 9;
    uint64_t start_us = s->now_us + s->introduced_us;
    sim_introduce(s, 2 * MS);
    CHECK(direct(s, 2));
    CHECK(s->a.proven_us < start_us + 2000 * MS);
    sim_free(s);
}

TEST("two peers whose clocks are apart meet, whoever is first")
{
    static const char *const pairs[][2] = {{"eim/apdf/random", "eim/apdf/random"},
                                           {"eim/apdf/keep open", "eim/apdf/keep open"},
                                           {"eim/apdf/keep open", "eim/apdf/random"},
                                           {"apdm/apdf/sequence+1", "eim/apdf/keep"},
                                           {"apdm/apdf/sequence+1", "apdm/apdf/sequence+1"},
                                           {"apdm/apdf/random", "eim/apdf/keep open"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        for (unsigned late_ms = 0; late_ms <= 200; late_ms += 25) {
            for (int turned = 0; turned < 2; turned++) {
                struct sim *s = sim_new(pairs[i][turned], pairs[i][!turned], late_ms);
                sim_introduce(s, (uint64_t)late_ms * MS);
                sim_run(s, s->now_us + end_us);
                if (!s->a.proven || !s->b.proven)
                    sim_again(s, (uint64_t)late_ms * MS);
                sim_run(s, s->now_us + end_us);
                CHECK(s->a.proven && s->b.proven);
                sim_free(s);
            }
        }
    }
}

/* Of 20: how many connect when others take up to `busy` ports of each NAT in a round trip. */
static unsigned busy_good(const char *a, const char *b, unsigned busy, unsigned again)
{
    unsigned good = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sim *s = sim_new(a, b, seed);
        s->a.nat.busy = s->b.nat.busy = busy;
        s->introduced_us = 80 * MS;
        s->loss = 5;
        sim_introduce(s, 2 * MS);
        good += direct(s, again);
        sim_free(s);
    }
    return good;
}

TEST("a port is predicted although others take ports of the NAT meanwhile")
{
    for (unsigned busy = 0; busy <= 3; busy++) {
        CHECK_INT(busy_good("eim/apdf/keep", "apdm/apdf/sequence+1", busy, 0), 20);
        CHECK_INT(busy_good("apdm/apdf/sequence+2", "eim/apdf/random", busy, 0), 20);
    }
    CHECK_INT(busy_good("eim/apdf/keep", "apdm/apdf/sequence+1", 12, 1), 20);
}

TEST("and so are both, where both count")
{
    for (unsigned busy = 0; busy <= 3; busy++) {
        CHECK_INT(busy_good("apdm/apdf/sequence+1", "apdm/apdf/sequence+1", busy, 1), 20);
        CHECK(busy_good("apdm/apdf/sequence+2", "apdm/apdf/sequence+1", busy, 0) >= 18);
    }
}

TEST("two symmetric NATs are passed where one maps a port, also when packets are lost")
{
    unsigned good = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct sim *s = sim_new("apdm/apdf/random", "apdm/apdf/block512", seed);
        s->b.nat.mapped = 4711;
        s->loss = 30;
        sim_introduce(s, 2 * MS);
        CHECK_INT(punch_plan(s->a.machine), GUESS_HOPELESS);
        good += direct(s, 1);
        CHECK_INT(s->a.path.technique, TECHNIQUE_MAPPED);
        sim_free(s);
    }
    CHECK_INT(good, 20);
}

TEST("a block of which earlier guesses have taken much gives fewer sockets")
{
    struct nat block = {NAT_MAPPING_APDM, NAT_FILTERING_APDF, NAT_ALLOCATION_BLOCK, 512, 20480};
    struct guess_spent spent = {.next = 0};
    unsigned taken = 0;
    CHECK_INT(guess_socket_count(&block, 0), 64);
    for (uint64_t i = 1; i <= 12; i++) {
        unsigned count = guess_socket_count(&block, guess_spent(&spent, GUESS_SPENT_US + i));
        guess_spend(&spent, count, GUESS_SPENT_US + i);
        taken += count;
    }
    CHECK(taken < 430);
    CHECK_INT(guess_spent(&spent, GUESS_SPENT_US + 12), taken);
    CHECK_INT(guess_spent(&spent, 2 * GUESS_SPENT_US + 12), 0);
    block.allocation = NAT_ALLOCATION_RANDOM;
    CHECK_INT(guess_socket_count(&block, 5000), GUESS_SOCKETS_MAX);
}
