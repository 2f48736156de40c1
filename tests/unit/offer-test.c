/* Offers: what is encoded comes back, nothing else is taken, and only the peer that it is for can
 * open its box. */
#include "wire/offer.h"

#include "guard.h"
#include "rendezvous/sealed.h"
#include "test.h"

static struct offer sample(void)
{
    struct offer o = {.call = 0x1122334455667788,
                      .unix_ms = 1900000000000,
                      .secret = {1, 2, 3},
                      .mapping = 2,
                      .allocation = 3,
                      .delta = -2,
                      .filtering = 3,
                      .flags = OFFER_MAY_GUESS | OFFER_MAPS,
                      .candidate_count = 2};
    o.candidates[0] = (struct record_candidate){.kind = RECORD_HOST, .transport = RECORD_UDP};
    o.candidates[1] = (struct record_candidate){.kind = RECORD_REFLEXIVE, .transport = RECORD_TCP};
    CHECK_INT(addr_parse("192.0.2.7:4711", &o.candidates[0].addr), 0);
    CHECK_INT(addr_parse("[2001:db8::7]:4712", &o.candidates[1].addr), 0);
    return o;
}

TEST("an offer survives the wire")
{
    uint8_t buf[OFFER_MAX];
    struct offer want = sample(), o;
    int n = offer_encode(&want, buf, sizeof buf);
    CHECK_INT(n, 1 + 8 + 8 + 16 + 1 + 1 + 2 + 1 + 9 + 21 + 2);
    CHECK_INT(offer_decode(&o, buf, (size_t)n), 0);
    CHECK(o.call == want.call && o.unix_ms == want.unix_ms);
    CHECK_INT(memcmp(o.secret, want.secret, sizeof o.secret), 0);
    CHECK_INT(o.mapping, 2);
    CHECK_INT(o.allocation, 3);
    CHECK_INT(o.delta, -2);
    CHECK_INT(o.filtering, 3);
    CHECK_INT(o.flags, OFFER_MAY_GUESS | OFFER_MAPS);
    CHECK_INT(o.candidate_count, 2);
    CHECK_INT(o.candidates[1].kind, RECORD_REFLEXIVE);
    CHECK_INT(o.candidates[1].transport, RECORD_TCP);
    CHECK(addr_equal(&o.candidates[0].addr, &want.candidates[0].addr));
    CHECK(addr_equal(&o.candidates[1].addr, &want.candidates[1].addr));
}

TEST("no truncated offer is taken or read past its end")
{
    uint8_t buf[OFFER_MAX];
    struct offer want = sample(), o;
    int n = offer_encode(&want, buf, sizeof buf);
    for (int i = 0; i <= n; i++) {
        const void *at = guard_copy(buf, (size_t)i);
        bool whole = i == n || i == n - 2;
        CHECK_INT(offer_decode(&o, at, (size_t)i), whole ? 0 : -EBADMSG);
        guard_free(at, (size_t)i);
    }
}

TEST("whoever says nothing of filtering and guessing allows no guess")
{
    uint8_t buf[OFFER_MAX];
    struct offer want = sample(), o;
    int n = offer_encode(&want, buf, sizeof buf);
    CHECK_INT(offer_decode(&o, buf, (size_t)n - 2), 0);
    CHECK_INT(o.filtering, 0);
    CHECK_INT(o.flags, 0);
    CHECK_INT(o.candidate_count, 2);
}

TEST("bytes behind the flags are passed over, up to a limit")
{
    uint8_t buf[OFFER_MAX + 1] = {0};
    struct offer want = sample(), o;
    CHECK(offer_encode(&want, buf, sizeof buf) > 0);
    CHECK_INT(offer_decode(&o, buf, OFFER_MAX), 0);
    CHECK_INT(offer_decode(&o, buf, OFFER_MAX + 1), -EBADMSG);
}

TEST("an offer that breaks the rules is refused")
{
    enum { COUNT = 1 + 8 + 8 + 16 + 1 + 1 + 2, FIRST = COUNT + 1 };
    static const struct {
        size_t at;
        uint8_t value;
    } cases[] = {{COUNT, 17},    {COUNT, 3},     {FIRST, 0},     {FIRST, 4},
                 {FIRST + 1, 0}, {FIRST + 1, 3}, {FIRST + 2, 0}, {FIRST + 2, 5}};
    struct offer want = sample(), o;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t buf[OFFER_MAX];
        int n = offer_encode(&want, buf, sizeof buf);
        buf[cases[i].at] = cases[i].value;
        CHECK_INT(offer_decode(&o, buf, (size_t)n), -EBADMSG);
    }
    addr_set_port(&want.candidates[0].addr, 0);
    uint8_t buf[OFFER_MAX];
    int n = offer_encode(&want, buf, sizeof buf);
    CHECK_INT(offer_decode(&o, buf, (size_t)n), -EBADMSG);
    buf[0] = 2;
    CHECK_INT(offer_decode(&o, buf, (size_t)n), -EPROTONOSUPPORT);
}

TEST("the largest offer fits, one more candidate does not")
{
    uint8_t buf[OFFER_MAX], sealed[SEALED_OFFER_MAX];
    struct identity a, b;
    struct offer o = sample(), back;
    CHECK_INT(keys_init(), 0);
    identity_make(&a);
    identity_make(&b);
    for (size_t i = 0; i < OFFER_CANDIDATES_MAX; i++)
        o.candidates[i] = sample().candidates[1];
    o.candidate_count = OFFER_CANDIDATES_MAX;
    CHECK(offer_encode(&o, buf, sizeof buf) > 0);
    int n = sealed_offer_make(&a, &b.key, &o, sealed);
    CHECK(n > 0);
    CHECK_INT(sealed_offer_open(&b, &a.key, (struct str){(char *)sealed, (size_t)n}, &back), 0);
    CHECK_INT(back.candidate_count, OFFER_CANDIDATES_MAX);
    o.candidate_count++;
    CHECK_INT(offer_encode(&o, buf, sizeof buf), -EMSGSIZE);
}

TEST("an offer is for its call and its time")
{
    struct offer o = sample();
    CHECK_INT(sealed_offer_fits(&o, o.call, o.unix_ms + 60000), 0);
    CHECK_INT(sealed_offer_fits(&o, o.call, o.unix_ms - 60000), 0);
    CHECK_INT(sealed_offer_fits(&o, o.call + 1, o.unix_ms), -EINVAL);
    CHECK_INT(sealed_offer_fits(&o, o.call, o.unix_ms + SEALED_OFFER_AGE_MS + 1), -ESTALE);
}
