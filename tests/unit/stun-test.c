/* STUN: the sample messages of RFC 5769, and messages of our own there and back. */
#include "wire/stun.h"

#include "guard.h"
#include "test.h"

/* RFC 5769 2.1: a request with SOFTWARE, PRIORITY, ICE-CONTROLLED, USERNAME, MESSAGE-INTEGRITY and
 * FINGERPRINT. PRIORITY must be understood and is not known here. */
static const char request[] =
    "\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae"
    "\x80\x22\x00\x10"
    "STUN test client"
    "\x00\x24\x00\x04\x6e\x00\x01\xff"
    "\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36"
    "\x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20"
    "\x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71"
    "\xa2"
    "\x80\x28\x00\x04\xe5\x7a\x3b\xcf";

/* RFC 5769 2.2: the answer to an IPv4 client at 192.0.2.1:32853. */
static const char answer4[] =
    "\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae"
    "\x80\x22\x00\x0b"
    "test vector "
    "\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43"
    "\x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7"
    "\xd7"
    "\x80\x28\x00\x04\xc0\x7d\x4c\x96";

/* RFC 5769 2.3: to an IPv6 client. */
static const char answer6[] =
    "\x01\x01\x00\x48\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae"
    "\x80\x22\x00\x0b"
    "test vector "
    "\x00\x20\x00\x14\x00\x02\xa1\x47\x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9"
    "\xd9"
    "\x00\x08\x00\x14\xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed"
    "\x41"
    "\x80\x28\x00\x04\xc8\xfb\x0b\x4c";

TEST("the RFC's sample request is read, with its fingerprint")
{
    struct stun s;
    CHECK_INT(stun_decode(&s, request, sizeof request - 1), 0);
    CHECK_INT(s.type, STUN_REQUEST);
    CHECK(s.has_fingerprint && !s.classic);
    CHECK_INT(s.unknown_count, 1);
    CHECK_INT(s.unknown[0], 0x24);
}

TEST("the RFC's sample answers give the addresses that they carry")
{
    struct stun s;
    char text[ADDR_TEXT_MAX];
    CHECK_INT(stun_decode(&s, answer4, sizeof answer4 - 1), 0);
    CHECK_TEXT(addr_format(&s.mapped, text), "192.0.2.1:32853");
    CHECK_INT(stun_decode(&s, answer6, sizeof answer6 - 1), 0);
    CHECK_TEXT(addr_format(&s.mapped, text), "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
}

TEST("a changed byte under the fingerprint is noticed")
{
    char bytes[sizeof request];
    struct stun s;
    memcpy(bytes, request, sizeof request);
    bytes[30] ^= 1;
    CHECK_INT(stun_decode(&s, bytes, sizeof request - 1), -EBADMSG);
}

static void round_trip(const struct stun *s)
{
    uint8_t buf[STUN_MAX], again[STUN_MAX];
    struct stun d;
    int n = stun_encode(s, buf, sizeof buf);
    CHECK(n >= STUN_HEAD && stun_looks(buf, (size_t)n));
    CHECK_INT(stun_decode(&d, buf, (size_t)n), 0);
    CHECK_INT(stun_encode(&d, again, sizeof again), n);
    CHECK_INT(memcmp(buf, again, (size_t)n), 0);
    for (size_t i = 0; i < (size_t)n; i++) {
        const void *at = guard_copy(buf, i);
        CHECK_INT(stun_decode(&d, at, i), -EBADMSG);
        guard_free(at, i);
    }
}

TEST("our own messages survive the wire")
{
    struct stun s = {.type = STUN_SUCCESS, .transaction = "hello world", .has_fingerprint = true};
    CHECK_INT(addr_parse("[2001:db8::1]:4711", &s.mapped), 0);
    CHECK_INT(addr_parse("192.0.2.1:3478", &s.origin), 0);
    CHECK_INT(addr_parse("192.0.2.2:3479", &s.other), 0);
    round_trip(&s);
    s = (struct stun){.type = STUN_REQUEST, .has_change = true, .change = STUN_CHANGE_PORT};
    round_trip(&s);
    s = (struct stun){.type = STUN_REQUEST, .has_response_port = true, .response_port = 40000};
    round_trip(&s);
    s = (struct stun){.type = STUN_SUCCESS, .classic = true, .old_cookie = 7};
    CHECK_INT(addr_parse("192.0.2.1:32853", &s.mapped), 0);
    round_trip(&s);
    s = (struct stun){.type = STUN_FAILURE, .error = 420};
    round_trip(&s);
}

TEST("a response port may be filled up to four bytes or not")
{
    static const char two[] = "\0\1\0\x08\x21\x12\xa4\x42"
                              "123456789012"
                              "\0\x27\0\2\x9c\x40\0\0";
    static const char four[] = "\0\1\0\x08\x21\x12\xa4\x42"
                               "123456789012"
                               "\0\x27\0\4\x9c\x40\0\0";
    struct stun s;
    CHECK_INT(stun_decode(&s, two, 28), 0);
    CHECK(s.has_response_port && s.response_port == 40000);
    CHECK_INT(stun_decode(&s, four, 28), 0);
    CHECK(s.has_response_port && s.response_port == 40000);
}

TEST("a message is made as long as its answer will be")
{
    uint8_t buf[STUN_MAX];
    struct stun s = {.type = STUN_REQUEST}, d;
    for (s.pad_to = 0; s.pad_to <= 100; s.pad_to++) {
        int n = stun_encode(&s, buf, sizeof buf);
        size_t least = s.pad_to < STUN_FILL_MAX ? s.pad_to : STUN_FILL_MAX;
        CHECK((size_t)n >= least && (size_t)n <= (least > STUN_HEAD ? least + 7 : STUN_HEAD));
        CHECK_INT(stun_decode(&d, buf, (size_t)n), 0);
    }
}

TEST("an error names the attributes that were not understood")
{
    uint8_t buf[STUN_MAX];
    struct stun s = {.type = STUN_FAILURE, .error = 420, .unknown = {0x24}, .unknown_count = 1};
    int n = stun_encode(&s, buf, sizeof buf);
    CHECK_INT(n, STUN_HEAD + 8 + 8);
    CHECK_INT(memcmp(buf + 20, "\0\x09\0\4\0\0\4\x14\0\x0a\0\2\0\x24\0\0", 16), 0);
}

TEST("an answer over IPv4 has 32 bytes")
{
    uint8_t buf[STUN_MAX];
    struct stun s = {.type = STUN_SUCCESS};
    CHECK_INT(addr_parse("192.0.2.1:32853", &s.mapped), 0);
    CHECK_INT(stun_encode(&s, buf, sizeof buf), 32);
}

TEST("what is not STUN is told at once")
{
    struct stun s;
    CHECK(!stun_looks("", 0));
    CHECK(!stun_looks("GET / HTTP/1.1\r\nHost: x\r\n", 24));
    CHECK(!stun_looks("\x00\x01\x00\x04\x21\x12\xa4\x42"
                      "123456789012",
                      20));
    CHECK_INT(stun_decode(&s,
                          "\x00\x02\x00\x00\x21\x12\xa4\x42"
                          "123456789012",
                          20),
              -EBADMSG);
}
