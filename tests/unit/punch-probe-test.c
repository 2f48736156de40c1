/* The codec of connectivity checks. */
#include "guard.h"
#include "test.h"
#include "wire/probe.h"

#include <errno.h>

static const uint8_t ping[PROBE_SIZE] = {7, 1, 1,    1,    0,    1,    2,   3,   4,   5,
                                         6, 7, 0xde, 0xad, 0xbe, 0xef, 't', 'a', 'g', '.'};

TEST("a probe is read, and written as it was")
{
    struct probe p;
    uint8_t again[PROBE_SIZE];
    const void *at = guard_copy(ping, sizeof ping);
    CHECK(probe_looks(at, sizeof ping));
    CHECK_INT(probe_decode(&p, at, sizeof ping), 0);
    CHECK_INT(p.type, PROBE_PING);
    CHECK(p.from_caller);
    CHECK_INT(p.attempt, 0x0001020304050607);
    CHECK_INT(p.sequence, 0xdeadbeef);
    CHECK(memcmp(p.tag, "tag.", 4) == 0);
    CHECK_INT(probe_encode(&p, again, sizeof again), PROBE_SIZE);
    CHECK(memcmp(again, ping, sizeof ping) == 0);
    CHECK_INT(probe_encode(&p, again, sizeof again - 1), -EMSGSIZE);
    guard_free(at, sizeof ping);
}

TEST("what is shorter, longer or changed in its head is refused")
{
    struct probe p;
    uint8_t bad[PROBE_SIZE + 1] = {0};
    for (size_t n = 0; n < PROBE_SIZE; n++) {
        const void *at = guard_copy(ping, n);
        CHECK_INT(probe_decode(&p, at, n), -EBADMSG);
        guard_free(at, n);
    }
    memcpy(bad, ping, sizeof ping);
    CHECK_INT(probe_decode(&p, bad, sizeof bad), -EBADMSG);
    static const struct {
        uint8_t at, value;
        int error;
    } changes[] = {{0, 8, -EBADMSG}, {1, 2, -EPROTONOSUPPORT}, {1, 0x81, -EBADMSG},
                   {2, 0, -EBADMSG}, {2, 3, -EBADMSG},         {3, 2, -EBADMSG}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        memcpy(bad, ping, sizeof ping);
        bad[changes[i].at] = changes[i].value;
        CHECK_INT(probe_decode(&p, bad, PROBE_SIZE), changes[i].error);
    }
}
