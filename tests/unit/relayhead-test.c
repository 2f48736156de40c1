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
