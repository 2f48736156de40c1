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
                       .word = 0x99aabbccddeeff00,
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
    CHECK_INT(addr_parse("192.0.2.7:3478", &m.relay), 0);
    memset(m.peer, 5, sizeof m.peer);
    memset(m.ticket, 6, sizeof m.ticket);
    m.call = 0x1122334455667788;
    m.channel = 0xcafe0001;
    m.rtt_us = 20000;
    m.wait_us = 30000;
    m.print = (struct nat_print){4, 3, 2, 1};
    m.technique = TECHNIQUE_GUESSED;
    m.offer = STR("a sealed offer");
    m.flags = RDVMSG_ANYONE;
    m.allowed = STR("11111111222222223333333");
    m.allowed.n++; /* the NUL counts */
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
    m = sample(RDVMSG_REFRESHED);
    n = rdvmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), 0);
    CHECK(d.word == m.word);
    m = sample(RDVMSG_NAMES);
    n = rdvmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), 0);
    CHECK_INT(d.name_count, 2);
    CHECK_STR(d.names[1], "laptop");
}

TEST("what a call carries arrives")
{
    uint8_t buf[RDVMSG_MAX];
    struct rdvmsg m = sample(RDVMSG_INVITE), d;
    int n = rdvmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), 0);
    CHECK_INT(d.call, m.call);
    CHECK_INT(d.channel, m.channel);
    CHECK_INT(memcmp(d.peer, m.peer, sizeof d.peer), 0);
    CHECK_INT(memcmp(d.ticket, m.ticket, sizeof d.ticket), 0);
    CHECK(addr_equal(&d.relay, &m.relay) && addr_equal(&d.addr, &m.addr));
    CHECK_STR(d.offer, "a sealed offer");
    m = sample(RDVMSG_ANSWERED);
    n = rdvmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), 0);
    CHECK_INT(d.wait_us, 30000);
    CHECK_INT(d.technique, TECHNIQUE_GUESSED);
    CHECK_INT(d.reason, RDV_FORGED);
    m = sample(RDVMSG_ANSWER);
    n = rdvmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), 0);
    CHECK(nat_print_equal(&d.print, &m.print));
    m = sample(RDVMSG_ALLOW);
    n = rdvmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), 0);
    CHECK_INT(d.flags, RDVMSG_ANYONE);
    CHECK_INT(d.allowed.n, 24);
}

TEST("the relay may be the server itself, the one who is seen may not be nobody")
{
    uint8_t buf[RDVMSG_MAX];
    struct rdvmsg m = sample(RDVMSG_CALLING), d;
    m.relay.len = 0;
    int n = rdvmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), 0);
    CHECK_INT(d.relay.len, 0);
    m = sample(RDVMSG_START);
    n = rdvmsg_encode(&m, buf, sizeof buf);
    buf[RDVMSG_HEAD + 8 + 4 + 1] = 0;
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), -EBADMSG);
    CHECK_INT(rdvmsg_decode(&d, buf, RDVMSG_HEAD + 8 + 4 + 1 + 1), -EBADMSG);
}

TEST("the longest offers and lists fit, longer ones are refused")
{
    static char big[RDVMSG_MAX];
    uint8_t buf[RDVMSG_MAX];
    static const enum rdvmsg_type types[] = {RDVMSG_CALL, RDVMSG_INVITE, RDVMSG_ANSWER,
                                             RDVMSG_ANSWERED};
    struct rdvmsg m, d;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        m = sample(types[i]);
        CHECK_INT(addr_parse("[2001:db8::1]:4711", &m.relay), 0);
        m.offer = (struct str){big, RDVMSG_OFFER_MAX};
        CHECK(rdvmsg_encode(&m, buf, sizeof buf) > 0);
        m.offer.n++;
        CHECK_INT(rdvmsg_encode(&m, buf, sizeof buf), -EMSGSIZE);
    }
    m = sample(RDVMSG_ALLOW);
    m.allowed = (struct str){big, (size_t)RDVMSG_ALLOWED_MAX * RDVMSG_ALLOWED};
    int n = rdvmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), 0);
    CHECK_INT(d.allowed.n, m.allowed.n);
    m.allowed.n += RDVMSG_ALLOWED;
    CHECK_INT(rdvmsg_encode(&m, buf, sizeof buf), -EMSGSIZE);
    m.allowed.n = RDVMSG_ALLOWED + 1;
    CHECK_INT(rdvmsg_encode(&m, buf, sizeof buf), -EMSGSIZE);
    buf[RDVMSG_HEAD + 16 + 32] = 2; /* a flag that is not known */
    CHECK_INT(rdvmsg_decode(&d, buf, (size_t)n), -EBADMSG);
}

TEST("an answer to a call or to an opening is shorter than what asks for it")
{
    uint8_t buf[RDVMSG_MAX];
    struct rdvmsg ask = sample(RDVMSG_CALL), answer = sample(RDVMSG_CALLING);
    ask.offer = STR("");
    CHECK(rdvmsg_encode(&answer, buf, sizeof buf) <= rdvmsg_encode(&ask, buf, sizeof buf));
    ask = sample(RDVMSG_OPEN);
    answer = sample(RDVMSG_OPENED);
    CHECK(rdvmsg_encode(&answer, buf, sizeof buf) <= rdvmsg_encode(&ask, buf, sizeof buf));
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
        bool padded =
            t == RDVMSG_HELLO || t == RDVMSG_LOOKUP || t == RDVMSG_LIST || t == RDVMSG_OPEN;
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

TEST("every technique has a word of its own, and a number that is not known is unknown")
{
    for (unsigned i = TECHNIQUE_PLAIN; i < TECHNIQUE_END; i++) {
        CHECK_INT(technique_from((uint8_t)i), i);
        for (unsigned k = 0; k < i; k++)
            CHECK(strcmp(technique_word(i), technique_word(k)) != 0);
    }
    CHECK_TEXT(technique_word(TECHNIQUE_END), "unknown");
    CHECK_TEXT(technique_word((enum technique)200), "unknown");
    CHECK_INT(technique_from(TECHNIQUE_END), TECHNIQUE_UNKNOWN);
    CHECK_INT(technique_from(255), TECHNIQUE_UNKNOWN);
}
