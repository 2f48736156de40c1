/* The instant of two peers that were introduced, by simulated messages: what the server picks, how
 * long its words are under way, and when each of the two fires. */
#include "rendezvous/instant.h"

#include <stdlib.h>

#include "test.h"

/* How far from each other they fire, when the way to each takes half of its round trip and what
 * comes on top. */
struct world {
    uint32_t caller_us, callee_us;           /* round trips as they are */
    uint32_t said_caller_us, said_callee_us; /* as the peers say */
    uint32_t caller_late_us, callee_late_us; /* of one message */
};

static long apart(const struct world *w)
{
    struct instant at = instant_pick(w->said_caller_us, w->said_callee_us);
    long caller = (long)(w->caller_us / 2 + w->caller_late_us + at.caller_wait_us);
    long callee = (long)(w->callee_us / 2 + w->callee_late_us + at.callee_wait_us);
    return labs(caller - callee);
}

TEST("both fire at once, however far each is, and no later than the slack after the slower one")
{
    static const uint32_t rtts[] = {1, 200, 5000, 40000, 90001, 300000, 600000, 1999999};
    enum { N = sizeof rtts / sizeof *rtts };
    for (size_t i = 0; i < N * N; i++) {
        uint32_t a = rtts[i / N], b = rtts[i % N];
        struct world w = {a, b, a, b, 0, 0};
        struct instant at = instant_pick(a, b);
        CHECK(apart(&w) <= 1);
        CHECK_INT(a > b ? at.caller_wait_us : at.callee_wait_us, INSTANT_SLACK_US);
    }
}

TEST("messages that are late by up to 5 ms leave both within 5 ms of each other")
{
    for (uint32_t late = 0; late <= 5000; late += 500) {
        struct world w = {20000, 80000, 20000, 80000, late, 0};
        CHECK(apart(&w) <= 5000);
        w.callee_late_us = late / 2;
        CHECK(apart(&w) <= 5000);
    }
}

TEST("of a round trip that nobody knows the other's is taken")
{
    struct world w = {40000, 44000, 0, 44000, 0, 0};
    CHECK(apart(&w) <= 2000);
    w = (struct world){40000, 44000, 40000, 0, 0, 0};
    CHECK(apart(&w) <= 2000);
    struct instant none = instant_pick(0, 0);
    CHECK_INT(none.caller_wait_us, INSTANT_SLACK_US);
    CHECK_INT(none.callee_wait_us, INSTANT_SLACK_US);
}

TEST("nobody waits for long, whatever the peers say")
{
    struct instant at = instant_pick(UINT32_MAX, 1000);
    CHECK_INT(at.caller_wait_us, INSTANT_SLACK_US);
    CHECK_INT(at.callee_wait_us, INSTANT_RTT_MAX_US / 2 + INSTANT_SLACK_US - 500);
    at = instant_pick(UINT32_MAX, UINT32_MAX);
    CHECK_INT(at.callee_wait_us, INSTANT_SLACK_US);
    CHECK(instant_through(UINT32_MAX, UINT32_MAX) <= 2 * INSTANT_RTT_MAX_US);
}

/* The callee's server introduces; what it has for the caller goes to Redis, from there to the
 * caller's server, and from there to the caller. Each server knows its own way to Redis and back.
 */
TEST("both fire at once through two servers, however far these are from Redis")
{
    static const uint32_t hops[] = {0, 300, 20000, 70000};
    for (size_t i = 0; i < 16; i++) {
        uint32_t callers = hops[i / 4], callees = hops[i % 4];
        uint32_t asked = instant_through(30000, callers);
        struct world w = {30000, 60000, instant_through(asked, callees), 60000, 0, 0};
        w.caller_late_us = callees / 2 + callers / 2;
        CHECK(apart(&w) <= 1);
    }
    CHECK_INT(instant_through(0, 20000), 0);
}
