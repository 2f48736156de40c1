/* How often an address is sent to that peers have offered. */
#include "peerd/targets.h"

#include "test.h"

static struct addr at(const char *text)
{
    struct addr a;
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

static unsigned taken(struct targets *t, const char *text, unsigned wanted, uint64_t now_ms)
{
    struct addr a = at(text);
    unsigned n = 0;
    for (unsigned i = 0; i < wanted; i++)
        n += targets_take(t, &a, now_ms);
    return n;
}

TEST("one address is offered again and again: some times in each period, whatever the port")
{
    struct targets t;
    targets_init(&t);
    CHECK_INT(taken(&t, "198.51.100.7:1", 10, 50000), 10);
    CHECK_INT(taken(&t, "198.51.100.7:2", 100, 50000 + TARGETS_PERIOD_MS - 1), TARGETS_STARTS - 10);
    CHECK_INT(taken(&t, "198.51.100.7:3", 100, 50000 + TARGETS_PERIOD_MS), TARGETS_STARTS);
}

TEST("of IPv6 a network counts as one")
{
    struct targets t;
    targets_init(&t);
    CHECK_INT(taken(&t, "[2001:db8:1:2::1]:1", 100, 50000), TARGETS_STARTS);
    CHECK_INT(taken(&t, "[2001:db8:1:2::2]:1", 100, 50000), 0);
}

TEST("many other addresses do not make it forget one")
{
    struct targets t;
    char text[32];
    targets_init(&t);
    CHECK_INT(taken(&t, "198.51.100.7:1", 100, 50000), TARGETS_STARTS);
    for (unsigned i = 0; i < 20000; i++) {
        (void)snprintf(text, sizeof text, "10.%u.%u.%u:9", i >> 16, i >> 8 & 255, i & 255);
        (void)taken(&t, text, 1, 50000);
    }
    CHECK_INT(taken(&t, "198.51.100.7:1", 100, 50000), 0);
}
