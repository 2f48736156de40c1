/* Records: what is encoded comes back, and nothing else is taken. */
#include "wire/record.h"

#include "guard.h"
#include "test.h"

static struct record sample(void)
{
    struct record r = {.sequence = 7, .not_after = 1900000000, .relay = STR("relay.example:3478")};
    for (size_t i = 0; i < RECORD_KEY; i++)
        r.key[i] = (uint8_t)i;
    r.candidates[0] = (struct record_candidate){.kind = RECORD_HOST, .transport = RECORD_UDP};
    r.candidates[1] = (struct record_candidate){.kind = RECORD_MAPPED, .transport = RECORD_TCP};
    CHECK_INT(addr_parse("192.0.2.7:4711", &r.candidates[0].addr), 0);
    CHECK_INT(addr_parse("[2001:db8::7]:4712", &r.candidates[1].addr), 0);
    r.candidate_count = 2;
    r.ports[0] = (struct record_port){RECORD_UDP, 4711};
    r.port_count = 1;
    r.services[0] = (struct record_service){STR("web"), RECORD_TCP, 8080};
    r.services[1] = (struct record_service){STR("ssh"), RECORD_TCP, 0};
    r.service_count = 2;
    return r;
}

/* With a signature of zeros. */
static size_t sample_bytes(uint8_t buf[RECORD_MAX])
{
    struct record r = sample();
    int n = record_encode(&r, buf, RECORD_MAX);
    CHECK(n > 0);
    memset(buf + n, 0, RECORD_SIGNATURE);
    return (size_t)n + RECORD_SIGNATURE;
}

TEST("a record survives the wire")
{
    uint8_t buf[RECORD_MAX];
    size_t n = sample_bytes(buf);
    struct record want = sample(), r;
    CHECK_INT(record_decode(&r, buf, n), 0);
    CHECK_INT(memcmp(r.key, want.key, RECORD_KEY), 0);
    CHECK_INT(r.sequence, 7);
    CHECK_INT(r.not_after, 1900000000);
    CHECK_INT(r.candidate_count, 2);
    CHECK(addr_equal(&r.candidates[1].addr, &want.candidates[1].addr));
    CHECK_INT(r.candidates[1].kind, RECORD_MAPPED);
    CHECK_INT(r.ports[0].port, 4711);
    CHECK_INT(r.service_count, 2);
    CHECK_STR(r.services[0].name, "web");
    CHECK_INT(r.services[0].port, 8080);
    CHECK_STR(r.relay, "relay.example:3478");
}

TEST("no truncated record is read past its end")
{
    uint8_t buf[RECORD_MAX];
    size_t n = sample_bytes(buf);
    struct record r;
    for (size_t i = 0; i < n; i++) {
        const void *at = guard_copy(buf, i);
        /* Cut at the end of a field it is a shorter record, whose signature will be wrong. */
        int e = record_decode(&r, at, i);
        CHECK(e == 0 || e == -EBADMSG || (e == -EPROTONOSUPPORT && i <= RECORD_SIGNATURE + 1));
        guard_free(at, i);
    }
}

TEST("a record of another version or size is refused")
{
    uint8_t buf[RECORD_MAX + 1] = {0};
    size_t n = sample_bytes(buf);
    struct record r;
    buf[0] = 2;
    CHECK_INT(record_decode(&r, buf, n), -EPROTONOSUPPORT);
    CHECK_INT(record_decode(&r, buf, RECORD_SIGNATURE), -EBADMSG);
    CHECK_INT(record_decode(&r, buf, RECORD_MAX + 1), -EBADMSG);
}

/* Appends a field to a record without any and decodes that. */
static int with_field(const char *field, size_t field_n)
{
    uint8_t buf[RECORD_MAX];
    struct record r = {.not_after = 1}, back;
    int n = record_encode(&r, buf, sizeof buf);
    memcpy(buf + n, field, field_n);
    memset(buf + n + field_n, 0, RECORD_SIGNATURE);
    return record_decode(&back, buf, (size_t)n + field_n + RECORD_SIGNATURE);
}
#define WITH_FIELD(literal) with_field(literal, sizeof(literal) - 1)

TEST("fields that break the rules are refused, unknown ones passed over")
{
    CHECK_INT(WITH_FIELD(""), 0);
    CHECK_INT(WITH_FIELD("\xc8\3abc"), 0);
    CHECK_INT(WITH_FIELD("\xc8\3ab"), -EBADMSG);
    CHECK_INT(WITH_FIELD("\0\1a"), -EBADMSG);
    CHECK_INT(WITH_FIELD("\1\x08\1\1\0\1\xc0\0\2\7"), 0);
    CHECK_INT(WITH_FIELD("\1\x08\4\1\0\1\xc0\0\2\7"), -EBADMSG); /* kind */
    CHECK_INT(WITH_FIELD("\1\x08\1\3\0\1\xc0\0\2\7"), -EBADMSG); /* transport */
    CHECK_INT(WITH_FIELD("\1\x07\1\1\0\1\xc0\0\2"), -EBADMSG);   /* a short address */
    CHECK_INT(WITH_FIELD("\2\3\1\0\x50"), 0);
    CHECK_INT(WITH_FIELD("\2\3\1\0\0"), -EBADMSG); /* port 0 */
    CHECK_INT(WITH_FIELD("\3\6\2\0\0web"), 0);
    CHECK_INT(WITH_FIELD("\3\6\2\0\0wEb"), -EBADMSG);
    CHECK_INT(WITH_FIELD("\4\1r\4\1s"), -EBADMSG);                /* two relays */
    CHECK_INT(WITH_FIELD("\4\3r\x1b]"), -EBADMSG);                /* would be shown to people */
    CHECK_INT(WITH_FIELD("\3\6\2\0\0web\2\3\1\0\x50"), -EBADMSG); /* not ascending */
}

TEST("more candidates than there may be are refused")
{
    char field[17 * 10];
    for (size_t i = 0; i < 17; i++)
        memcpy(field + i * 10, "\1\x08\1\1\0\1\xc0\0\2\7", 10);
    CHECK_INT(with_field(field, 160), 0);
    CHECK_INT(with_field(field, 170), -EBADMSG);
}

TEST("a record that would be too large is not encoded")
{
    uint8_t buf[RECORD_MAX * 2];
    static const char name[] = "a23456789012345678901234567890123456789x";
    struct record r = sample();
    for (r.service_count = 0; r.service_count < RECORD_SERVICES_MAX; r.service_count++)
        r.services[r.service_count] =
            (struct record_service){{name, RECORD_NAME_MAX}, RECORD_TCP, 0};
    for (r.candidate_count = 0; r.candidate_count < RECORD_CANDIDATES_MAX; r.candidate_count++)
        r.candidates[r.candidate_count] = sample().candidates[1];
    CHECK_INT(record_encode(&r, buf, sizeof buf), -EMSGSIZE);
}

TEST("names have letters, digits and inner hyphens")
{
    CHECK(record_name_valid(STR("a")));
    CHECK(record_name_valid(STR("my-home-2")));
    CHECK(!record_name_valid(STR("")));
    CHECK(!record_name_valid(STR("-a")));
    CHECK(!record_name_valid(STR("a-")));
    CHECK(!record_name_valid(STR("A")));
    CHECK(!record_name_valid(STR("a.b")));
    CHECK(!record_name_valid(STR("a23456789012345678901234567890123456789xy")));
}
