/* The vectors of the reference: the key is 00 01 .. 0f, the message 00 01 .. n-1. */
#include "base/siphash.h"

#include "test.h"

static void hex_of(size_t n, char hex[2 * SIPHASH_TAG + 1])
{
    uint8_t key[SIPHASH_KEY], message[64], tag[SIPHASH_TAG];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (uint8_t)i;
    siphash128(key, message, n, tag);
    for (size_t i = 0; i < sizeof tag; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", tag[i]);
}

TEST("the tags are those of the reference, from the empty message to one of several words")
{
    char hex[2 * SIPHASH_TAG + 1];
    hex_of(0, hex);
    CHECK_TEXT(hex, "a3817f04ba25a8e66df67214c7550293");
    hex_of(1, hex);
    CHECK_TEXT(hex, "da87c1d86b99af44347659119b22fc45");
    hex_of(8, hex);
    CHECK_TEXT(hex, "3b62a9ba6258f5610f83e264f31497b4");
    hex_of(15, hex);
    CHECK_TEXT(hex, "5493e99933b0a8117e08ec0f97cfc3d9");
}
