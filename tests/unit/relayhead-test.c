/* The head of relayed packets: what is written is read again, and nothing else is. */
#include "wire/relay.h"

#include "guard.h"
#include "test.h"

TEST("a channel and a payload survive the wire")
{
    uint8_t packet[RELAY_HEAD + 5] = {[RELAY_HEAD] = 'h', 'e', 'l', 'l', 'o'};
    uint32_t channel = 0;
    struct str payload;
    relay_head(packet, 0xfedcba98);
    CHECK(relay_looks(packet, sizeof packet));
    CHECK_INT(relay_decode(packet, sizeof packet, &channel, &payload), 0);
    CHECK_INT(channel, 0xfedcba98);
    CHECK_STR(payload, "hello");
}

TEST("a head that is cut off or changed is refused")
{
    uint8_t packet[RELAY_MAX + 1] = {0};
    uint32_t channel;
    struct str payload;
    relay_head(packet, 7);
    for (size_t n = 0; n < RELAY_HEAD; n++) {
        const void *at = guard_copy(packet, n);
        CHECK(!relay_looks(at, n));
        CHECK_INT(relay_decode(at, n, &channel, &payload), -EBADMSG);
        guard_free(at, n);
    }
    CHECK_INT(relay_decode(packet, RELAY_MAX, &channel, &payload), 0);
    CHECK_INT(relay_decode(packet, RELAY_MAX + 1, &channel, &payload), -EBADMSG);
    for (size_t i = 0; i < 4; i++) {
        packet[i] ^= 1;
        CHECK_INT(relay_decode(packet, RELAY_MAX, &channel, &payload), -EBADMSG);
        packet[i] ^= 1;
    }
}

TEST("a call's number survives the wire in place of a channel")
{
    uint8_t packet[RELAY_EARLY_HEAD + 5] = {[RELAY_EARLY_HEAD] = 'h', 'e', 'l', 'l', 'o'};
    uint64_t call = 0;
    relay_early_head(packet, 0xfedcba9876543210);
    CHECK(relay_looks(packet, sizeof packet));
    CHECK_INT(relay_early_decode(packet, sizeof packet, &call), 0);
    CHECK(call == 0xfedcba9876543210);
    CHECK(memcmp(packet, "\6\1\0\0", 4) == 0);
}

TEST("neither head passes for the other, cut off or changed")
{
    uint8_t packet[RELAY_MAX + 1] = {0};
    uint32_t channel;
    uint64_t call;
    struct str payload;
    relay_head(packet, 7);
    CHECK_INT(relay_early_decode(packet, RELAY_MAX, &call), -EBADMSG);
    relay_early_head(packet, 7);
    CHECK_INT(relay_decode(packet, RELAY_MAX, &channel, &payload), -EBADMSG);
    for (size_t n = 0; n < RELAY_EARLY_HEAD; n++) {
        const void *at = guard_copy(packet, n);
        CHECK_INT(relay_early_decode(at, n, &call), -EBADMSG);
        guard_free(at, n);
    }
    CHECK_INT(relay_early_decode(packet, RELAY_MAX, &call), 0);
    CHECK_INT(relay_early_decode(packet, RELAY_MAX + 1, &call), -EBADMSG);
    for (size_t i = 0; i < 4; i++) {
        packet[i] ^= 2;
        CHECK_INT(relay_early_decode(packet, RELAY_MAX, &call), -EBADMSG);
        packet[i] ^= 2;
    }
}
