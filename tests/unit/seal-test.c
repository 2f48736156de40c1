/* The seal on notes: what berthd wrote it knows again, everything else it does not. */
#include "berthd/server.h"

#include "test.h"

static struct server server = {.seal_key = {1, 2, 3}};

TEST("a sealed note is known again, for its own queue only, and loses its seal")
{
    uint8_t note[64] = "a note";
    size_t n = seal_put(&server, 7, note, 6, sizeof note);
    CHECK_INT(n, 22);
    struct str s = {(char *)note, n};
    CHECK(seal_check(&server, 7, &s));
    CHECK_STR(s, "a note");
    s.n = n;
    CHECK(!seal_check(&server, 8, &s));
}

TEST("a change of any bit, a shorter note, and none at all are seen")
{
    uint8_t note[64] = "a note";
    size_t n = seal_put(&server, 7, note, 6, sizeof note);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        note[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct str s = {(char *)note, n};
        CHECK(!seal_check(&server, 7, &s));
        note[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t shorter = 0; shorter < n; shorter++) {
        struct str s = {(char *)note, shorter};
        CHECK(!seal_check(&server, 7, &s));
    }
}

TEST("a note without room for the seal is none")
{
    uint8_t note[20] = "a note";
    CHECK_INT(seal_put(&server, 7, note, 6, sizeof note), 0);
    CHECK_INT(seal_put(&server, 7, note, 0, sizeof note), 0);
}
