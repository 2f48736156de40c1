/* When connections to a peer's addresses are begun, and that each greeting is good once. */
#include "peerd/tcptry.h"

#include "peerd/greetings.h"
#include "test.h"

static struct addr at(const char *text)
{
    struct addr a = {.len = 0};
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

static void add(struct tcptries *t, const char *text, uint64_t at_ms)
{
    struct addr a = at(text);
    CHECK(tcptries_add(t, &a, at_ms));
}

TEST("all addresses are tried at the agreed instant, and none before")
{
    struct tcptries t;
    tcptries_init(&t, 40, 1);
    add(&t, "192.0.2.1:1000", 500);
    add(&t, "[2001:db8::1]:1000", 500);
    struct addr again = at("192.0.2.1:1000");
    CHECK(!tcptries_add(&t, &again, 500));
    CHECK_INT(tcptries_due(&t), 500);
    CHECK_INT(tcptries_next(&t, 499), -EAGAIN);
    CHECK_INT(tcptries_next(&t, 500), 0);
    CHECK_INT(tcptries_next(&t, 500), 1);
    CHECK_INT(tcptries_next(&t, 500), -EAGAIN);
    CHECK_INT(t.at[0].state, TCPTRY_OPENING);
}

TEST("one that is refused is tried again soon, at random, and not for ever")
{
    struct tcptries t;
    uint64_t now = 0, shortest = UINT64_MAX, longest = 0;
    unsigned tries = 0;
    tcptries_init(&t, 40, 7);
    add(&t, "192.0.2.1:1000", 0);
    while (tcptries_next(&t, now) == 0 && t.at[0].state == TCPTRY_OPENING) {
        tries++;
        tcptries_refused(&t, 0, now);
        uint64_t wait = tcptries_due(&t) - now;
        shortest = wait < shortest ? wait : shortest;
        longest = wait > longest ? wait : longest;
        now = tcptries_due(&t);
    }
    CHECK_INT(tries, TCPTRY_TRIES);
    CHECK(shortest >= TCPTRY_PAUSE_MS && longest <= 2 * TCPTRY_PAUSE_MS && shortest < longest);
    CHECK_INT(t.at[0].state, TCPTRY_OVER);
    CHECK(tcptries_due(&t) == UINT64_MAX);
}

TEST("a silent one is begun anew more and more rarely, and never within a round trip")
{
    static const struct {
        uint64_t rtt_ms, first_ms;
    } cases[] = {{0, 250}, {40, 250}, {800, 1200}, {9000, 2000}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tcptries t;
        uint64_t last = 0, wait = 0;
        unsigned tries = 0;
        tcptries_init(&t, cases[i].rtt_ms, 7);
        add(&t, "192.0.2.1:1000", 0);
        for (uint64_t now = 0; tcptries_next(&t, now) == 0 && t.at[0].state == TCPTRY_OPENING;
             now = tcptries_due(&t)) {
            if (++tries == 2)
                CHECK_INT(now - last, cases[i].first_ms);
            CHECK(now - last >= wait && now - last <= TCPTRY_RENEW_MAX_MS);
            wait = now - last;
            last = now;
        }
        CHECK_INT(tries, TCPTRY_TRIES);
    }
}

TEST("one host is not tried without end because many of its ports were offered")
{
    struct tcptries t;
    unsigned tries = 0;
    uint64_t now = 0;
    tcptries_init(&t, 0, 3);
    for (uint16_t i = 0; i < TCPTRY_MAX; i++) {
        struct addr a = at("192.0.2.1:1000");
        addr_set_port(&a, (uint16_t)(2000 + i));
        CHECK(tcptries_add(&t, &a, 0));
    }
    struct addr more = at("192.0.2.9:1");
    CHECK(!tcptries_add(&t, &more, 0));
    for (; now < 60000; now += 10)
        for (int i; (i = tcptries_next(&t, now)) >= 0;) {
            if (t.at[i].state != TCPTRY_OPENING)
                continue;
            tries++;
            tcptries_refused(&t, (size_t)i, now);
        }
    CHECK_INT(tries, TCPTRY_TRIES_IP);
    CHECK(tcptries_due(&t) == UINT64_MAX);
}

TEST("what stands, or can never be, is left alone until it is lost")
{
    struct tcptries t;
    tcptries_init(&t, 0, 3);
    add(&t, "192.0.2.1:1000", 0);
    add(&t, "192.0.2.2:1000", 0);
    CHECK_INT(tcptries_next(&t, 0), 0);
    CHECK_INT(tcptries_next(&t, 0), 1);
    tcptries_stands(&t, 0);
    tcptries_end(&t, 1);
    CHECK(tcptries_due(&t) == UINT64_MAX);
    tcptries_refused(&t, 0, 100);
    CHECK(tcptries_due(&t) >= 100 + TCPTRY_PAUSE_MS);
}

TEST("a greeting is good once, in whatever order they come")
{
    struct greetings g = {.made = 0};
    CHECK(greetings_take(&g, 2));
    CHECK(greetings_take(&g, 1));
    CHECK(!greetings_take(&g, 1));
    CHECK(!greetings_take(&g, 2));
    CHECK(greetings_take(&g, 70));
    CHECK(greetings_take(&g, 7));
    CHECK(!greetings_take(&g, 6));
    CHECK(greetings_take(&g, 0x7fffffff));
    CHECK(!greetings_take(&g, 70));
    CHECK(!greetings_take(&g, 0x7fffffff));
}
