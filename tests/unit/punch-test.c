/* The connectivity-check machine on a network in memory: every pair of NATs that theory lets
 * through, what it does when packets are lost, late, doubled or forged, and how little it sends to
 * strangers. */
#include "../sim/net.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#define MS 1000u

/* Runs one attempt; whether both sides have a path, each to where the other really is. */
static bool direct(struct sim *s)
{
    sim_run(s, s->now_us + 6000 * MS);
    return s->a.proven && s->b.proven;
}

static bool connects(const char *a, const char *b, uint64_t seed)
{
    struct sim *s = sim_new(a, b, seed);
    sim_introduce(s, 2 * MS);
    bool good = direct(s);
    sim_free(s);
    return good;
}

static const char *const kinds[] = {
    "none/eif/keep",        "eim/eif/random",     "eim/adf/random",    "eim/apdf/random",
    "eim/apdf/keep",        "eim/apdf/keep open", "adm/adf/random",    "apdm/apdf/sequence+1",
    "apdm/apdf/sequence+2", "apdm/apdf/random",   "apdm/apdf/block512"};
enum { KINDS = sizeof kinds / sizeof *kinds, FIRST_APDF = 3, FIRST_SYMMETRIC = 6 };

static bool counts(size_t kind)
{
    return strstr(kinds[kind], "sequence") != NULL;
}

static bool possible(size_t a, size_t b)
{
    if (a >= FIRST_SYMMETRIC && b >= FIRST_SYMMETRIC)
        return counts(a) && counts(b);
    return true;
}

TEST("every pair of NATs that can be passed is passed, and no other")
{
    for (size_t i = 0; i < KINDS; i++) {
        for (size_t j = 0; j < KINDS; j++) {
            /* A guess may fail once in fifty: then the next attempt. */
            bool good = connects(kinds[i], kinds[j], i * KINDS + j) ||
                        (possible(i, j) && connects(kinds[i], kinds[j], 1000 + i * KINDS + j));
            if (good != possible(i, j)) {
                (void)printf("# %s x %s\n", kinds[i], kinds[j]);
                CHECK_INT(good, possible(i, j));
            }
        }
    }
}

TEST("what needs no guess is direct within two round trips")
{
    for (size_t i = 0; i < FIRST_SYMMETRIC; i++) {
        for (size_t j = 0; j < KINDS; j++) {
            if (j >= FIRST_SYMMETRIC && i >= FIRST_APDF)
                continue;
            struct sim *s = sim_new(kinds[i], kinds[j], 7);
            uint64_t start_us = s->now_us + 50 * MS;
            sim_introduce(s, 2 * MS);
            CHECK(direct(s));
            CHECK(s->a.proven_us <= start_us + 84 * MS);
            CHECK(s->b.proven_us <= start_us + 84 * MS);
            sim_free(s);
        }
    }
}

TEST("the path that is proven leads to the other's socket")
{
    struct sim *s = sim_new("eim/apdf/random", "apdm/adf/random", 4);
    sim_introduce(s, 0);
    CHECK(direct(s));
    CHECK(candidate_same_ip(&s->a.path.remote, &s->b.outside));
    CHECK(s->b.path.socket > 0);
    struct addr at_b = s->a.path.remote, at_a = s->b.path.remote;
    bool found = false;
    for (size_t i = 0; i < s->b.nat.mapping_count; i++) {
        const struct sim_mapping *m = &s->b.nat.mappings[i];
        found = found || (m->local == s->b.ports[s->b.path.socket] && m->port == addr_port(&at_b) &&
                          addr_equal(&m->key, &at_a));
    }
    CHECK(found);
    sim_free(s);
}

TEST("on one LAN the host candidates win, also when the NAT's address works first")
{
    struct sim *s = sim_new("eim/eif/random", "eim/eif/random", 3);
    s->same_lan = true;
    sim_introduce(s, 0);
    CHECK(direct(s));
    CHECK_INT(s->a.path.kind, CANDIDATE_HOST);
    CHECK(candidate_same_ip(&s->a.path.remote, &s->b.inside));
    sim_free(s);
}

TEST("lost, doubled and overtaken packets cost time and nothing else")
{
    unsigned good = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct sim *s = sim_new("eim/apdf/random", "eim/apdf/keep", seed);
        s->loss = 20;
        s->doubled = 20;
        s->jitter_us = 60 * MS;
        sim_introduce(s, 5 * MS);
        good += direct(s);
        sim_free(s);
    }
    CHECK_INT(good, 100);
}

TEST("a peer that starts late is met all the same")
{
    static const char *const pairs[][2] = {{"eim/apdf/random", "eim/apdf/random"},
                                           {"eim/apdf/keep", "eim/apdf/keep"},
                                           {"none/eif/keep", "apdm/apdf/random"}};
    for (size_t i = 0; i < 3; i++) {
        struct sim *s = sim_new(pairs[i][0], pairs[i][1], i);
        sim_introduce(s, 600 * MS);
        CHECK(direct(s));
        sim_free(s);
    }
}

TEST("a router that takes what comes early for itself is passed by packets that die on their way")
{
    struct sim *s = sim_new("eim/apdf/keep open", "eim/apdf/keep open", 1);
    s->delay_us = 1 * MS; /* nothing is in flight together */
    sim_introduce(s, 5 * MS);
    CHECK(direct(s));
    CHECK_INT(s->a.nat.taken_count + s->b.nat.taken_count, 0);
    sim_free(s);
}

TEST("two NATs that count are passed in lockstep, ten of ten")
{
    for (uint64_t seed = 0; seed < 10; seed++)
        CHECK(connects("apdm/apdf/sequence+1", "apdm/apdf/sequence+2", seed));
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

TEST("guessing finds the port in time, with few probes, and only where the server saw the peer")
{
    enum { RUNS = 60 };
    uint64_t took_us[RUNS];
    unsigned good = 0;
    for (unsigned i = 0; i < RUNS; i++) {
        struct sim *s = sim_new("eim/apdf/random", "apdm/apdf/random", i);
        uint64_t start_us = s->now_us + 50 * MS;
        sim_introduce(s, 2 * MS);
        CHECK_INT(punch_plan(s->a.machine), GUESS_PROBE);
        CHECK_INT(punch_plan(s->b.machine), GUESS_SOCKETS);
        took_us[i] = UINT64_MAX;
        if (direct(s)) {
            good++;
            took_us[i] = s->a.proven_us - start_us;
        }
        CHECK(punch_guesses_sent(s->a.machine) <= GUESS_PROBES_MAX);
        CHECK_INT(s->b.opened, GUESS_SOCKETS_MAX);
        for (unsigned j = 520; j < s->a.sent && j < 8192; j++)
            CHECK(s->a.sent_at_us[j] - s->a.sent_at_us[j - 520] >= 999 * MS);
        sim_free(s);
    }
    qsort(took_us, RUNS, sizeof *took_us, by_number);
    CHECK(good >= RUNS - 4);
    CHECK(took_us[RUNS / 2] < 500 * MS);
}

TEST("a carrier's block of ports takes under a hundred probes")
{
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct sim *s = sim_new("eim/apdf/keep", "apdm/apdf/block512", seed);
        sim_introduce(s, 2 * MS);
        CHECK(direct(s));
        CHECK(punch_guesses_sent(s->a.machine) < 100);
        CHECK_INT(s->b.opened, 64);
        sim_free(s);
    }
}

TEST("two symmetric NATs with random ports give up at once")
{
    struct sim *s = sim_new("apdm/apdf/random", "apdm/apdf/block512", 1);
    uint64_t start_us = s->now_us + 50 * MS;
    sim_introduce(s, 0);
    CHECK(!direct(s));
    CHECK_INT(s->a.reason, PUNCH_BOTH_SYMMETRIC);
    CHECK(s->now_us <= start_us + 701 * MS);
    CHECK(s->a.sent <= 2 * PUNCH_PROBES_MAX);
    sim_free(s);
}

TEST("NATs that forget everything in the middle are passed when the addresses can be learned")
{
    static const char *const pairs[][2] = {{"eim/apdf/keep", "eim/apdf/keep"},
                                           {"none/eif/keep", "eim/apdf/random"},
                                           {"none/eif/keep", "apdm/apdf/random"}};
    for (size_t i = 0; i < 3; i++) {
        struct sim *s = sim_new(pairs[i][0], pairs[i][1], i);
        sim_introduce(s, 2 * MS);
        sim_run(s, s->now_us + 55 * MS);
        sim_rebind(s);
        CHECK(direct(s));
        sim_free(s);
    }
}

TEST("after both NATs have changed their ports the attempt ends, and the next one succeeds")
{
    struct sim *s = sim_new("eim/apdf/random", "eim/apdf/random", 1);
    sim_introduce(s, 2 * MS);
    sim_run(s, s->now_us + 55 * MS);
    sim_rebind(s);
    CHECK(!direct(s));
    CHECK_INT(s->a.reason, PUNCH_NO_ANSWER);
    sim_introduce(s, 2 * MS);
    CHECK(direct(s));
    sim_free(s);
}
