/* Shares of a batch: everybody sends everything until the thread falls behind. */
#include "rendezvousd/shares.h"

#include "test.h"
#include "wire/relay.h"

#define PACKET 1200

static void ask(struct shares *s, uint32_t channel, int packets)
{
    uint8_t packet[PACKET] = {0};
    relay_head(packet, channel);
    for (int i = 0; i < packets; i++)
        shares_ask(s, packet, sizeof packet);
}

static int take(struct shares *s, uint32_t channel, int packets)
{
    int passed = 0;
    for (int i = 0; i < packets; i++)
        passed += shares_take(s, channel, PACKET);
    return passed;
}

static void fall_behind(struct shares *s)
{
    *s = (struct shares){.strict = false};
    for (int i = 0; i < 10; i++)
        shares_begin(s, true);
    CHECK(s->strict);
}

TEST("a thread that keeps up passes everything on")
{
    struct shares s = {.strict = false};
    for (int i = 0; i < 10; i++) {
        shares_begin(&s, i % 3 != 0);
        CHECK(!s.strict);
        CHECK_INT(take(&s, 2, 64), 64);
    }
}

TEST("who floods a thread that has fallen behind gets an equal part, others all of theirs")
{
    struct shares s;
    fall_behind(&s);
    ask(&s, 2, 61);
    ask(&s, 4, 1);
    ask(&s, 7, 2);
    CHECK_INT(take(&s, 2, 61), 21);
    CHECK_INT(take(&s, 4, 1), 1);
    CHECK_INT(take(&s, 7, 2), 2);
    shares_begin(&s, false);
    CHECK(!s.strict);
}

TEST("both sides of a pair are one, and a pair that is alone has everything")
{
    struct shares s;
    fall_behind(&s);
    ask(&s, 2, 32);
    ask(&s, 3, 32);
    CHECK_INT(take(&s, 2, 32), 32);
    CHECK_INT(take(&s, 3, 32), 32);
}

TEST("numbers that meet in the table are told apart, and damaged heads are passed over")
{
    struct shares s;
    uint8_t noise[PACKET] = {RELAY_MAGIC, 1};
    fall_behind(&s);
    for (uint32_t i = 0; i < 64; i++)
        ask(&s, i * SHARES * 2, 1);
    shares_ask(&s, noise, sizeof noise);
    shares_ask(&s, noise, 3);
    CHECK_INT(s.pairs, 64);
    for (uint32_t i = 0; i < 64; i++)
        CHECK_INT(take(&s, i * SHARES * 2, 2), 1);
}
