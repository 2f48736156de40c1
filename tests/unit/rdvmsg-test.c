/* The rendezvous protocol's messages: each type comes back as it went, and nothing else is taken.
 */
#include "wire/rdvmsg.h"

#include "guard.h"
#include "test.h"

static struct rdvmsg sample(enum rdvmsg_type type)
{
    struct rdvmsg m = {.type = type,
                       .transaction = 0x0102030405060708,
                       .lifetime_s = 90,
                       .refresh_s = 25,
                       .age_s = 3,
                       .number = 1900000000,
                       .reason = RDV_FORGED,
                       .name = STR("home"),
                       .record = STR("a signed record"),
                       .names = {STR("home"), STR("laptop")},
                       .name_count = 2};
    memset(m.cookie, 1, sizeof m.cookie);
    memset(m.token, 2, sizeof m.token);
    memset(m.key, 3, sizeof m.key);
    memset(m.signature, 4, sizeof m.signature);
    CHECK_INT(addr_parse("[2001:db8::1]:4711", &m.addr), 0);
    return m;
}

TEST("each type of message survives the wire to the same bytes")
{
    for (enum rdvmsg_type t = RDVMSG_HELLO; t < RDVMSG_TYPE_COUNT; t++) {
        uint8_t buf[RDVMSG_MAX], again[RDVMSG_MAX];
        struct rdvmsg m = sample(t), d;
        int n = rdvmsg_encode(&m, buf, sizeof buf);
        CHECK(n >= RDVMSG_HEAD);
        CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), 0);
        CHECK_INT(d.type, t);
        CHECK_INT(d.transaction, m.transaction);
        CHECK_INT(rdvmsg_encode(&d, again, sizeof again), n);
        CHECK_INT(memcmp(buf, again, (size_t)n), 0);
    }
}

TEST("values arrive")
{
    uint8_t buf[RDVMSG_MAX];
    struct rdvmsg m = sample(RDVMSG_FOUND), d;
    int n = rdvmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), 0);
    CHECK_INT(d.age_s, 3);
    CHECK_STR(d.record, "a signed record");
    m = sample(RDVMSG_COOKIE_IS);
    n = rdvmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), 0);
    CHECK(addr_equal(&d.addr, &m.addr));
    m = sample(RDVMSG_NAMES);
    n = rdvmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), 0);
    CHECK_INT(d.name_count, 2);
    CHECK_STR(d.names[1], "laptop");
}

TEST("no truncated or lengthened message is taken, and none is read past its end")
{
    for (enum rdvmsg_type t = RDVMSG_HELLO; t < RDVMSG_TYPE_COUNT; t++) {
        uint8_t buf[RDVMSG_MAX + 1];
        struct rdvmsg m = sample(t), d;
        size_t n = (size_t)rdvmsg_encode(&m, buf, sizeof buf);
        for (size_t i = 0; i < n; i++) {
            const void *at = guard_copy(buf, i);
            CHECK_INT(rdvmsg_decode(&d, at, i), -EBADMSG);
            guard_free(at, i);
        }
        bool padded = t == RDVMSG_HELLO || t == RDVMSG_LOOKUP || t == RDVMSG_LIST;
        buf[n] = 0;
        CHECK_INT(rdvmsg_decode(&d, buf, n + 1), padded ? 0 : -EBADMSG);
    }
}

TEST("what is not of this protocol and version is refused")
{
    uint8_t buf[RDVMSG_MAX + 1] = {0};
    struct rdvmsg m = sample(RDVMSG_HELLO), d;
    m.pad_to = RDVMSG_MAX;
    CHECK_INT(rdvmsg_encode(&m, buf, sizeof buf), RDVMSG_MAX);
    CHECK_INT(rdvmsg_decode(&d, buf, RDVMSG_MAX), 0);
    CHECK_INT(rdvmsg_decode(&d, buf, RDVMSG_MAX + 1), -EBADMSG);
    for (size_t i = 0; i < 4; i++) {
        uint8_t old = buf[i];
        buf[i] = 0x77;
        CHECK_INT(rdvmsg_decode(&d, buf, RDVMSG_MAX), -EBADMSG);
        buf[i] = old;
    }
}

TEST("a refresh's answer is no longer than the refresh, a cookie no longer than a hello")
{
    uint8_t buf[RDVMSG_MAX];
    struct rdvmsg ask = sample(RDVMSG_REFRESH), answer = sample(RDVMSG_REFRESHED);
    CHECK(rdvmsg_encode(&answer, buf, sizeof buf) <= rdvmsg_encode(&ask, buf, sizeof buf));
    answer = sample(RDVMSG_COOKIE_IS);
    CHECK(rdvmsg_encode(&answer, buf, sizeof buf) <= RDVMSG_HELLO_MIN);
}

TEST("a message that does not fit is not half written")
{
    uint8_t buf[RDVMSG_MAX];
    static char big[RDVMSG_MAX];
    struct rdvmsg m = sample(RDVMSG_REGISTER);
    m.record = (struct str){big, sizeof big};
    CHECK_INT(rdvmsg_encode(&m, buf, sizeof buf), -EMSGSIZE);
    m = sample(RDVMSG_HELLO);
    CHECK_INT(rdvmsg_encode(&m, buf, RDVMSG_HEAD - 1), -EMSGSIZE);
}

TEST("every reason has a word")
{
    for (enum rdv_reason r = RDV_OK + 1; r < RDV_REASON_COUNT; r++)
        CHECK(strcmp(rdv_reason_word(r), "Unknown") != 0 && *rdv_reason_sentence(r));
    CHECK_TEXT(rdv_reason_word(RDV_REASON_COUNT), "Unknown");
    CHECK_TEXT(rdv_reason_word((enum rdv_reason)200), "Unknown");
}
