/* All sniffers behind one call: who wins, and that none of them hides another. */
#include "share/sniff.h"

#include "first-flights.h"
#include "sniff-check.h"

struct sample {
    enum proto proto;
    struct str bytes;
};

#define S(literal)                                                                                 \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }
#define FLIGHT(bytes)                                                                              \
    {                                                                                              \
        (const char *)(bytes), sizeof(bytes)                                                       \
    }

static const struct sample samples[] = {
    {PROTO_HTTP, S("GET / HTTP/1.1\r\nHost: a\r\n\r\n")},
    {PROTO_HTTP, S("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n")},
    {PROTO_HTTP, S("INFO / HTTP/1.1\r\nHost: a\r\n\r\n")},
    {PROTO_HTTP, S("PROXY / HTTP/1.0\r\n\r\n")},
    {PROTO_TLS, FLIGHT(first_flight_tls_openssl)},
    {PROTO_H2, FLIGHT(first_flight_h2_curl)},
    {PROTO_SSH, S("SSH-")},
    {PROTO_POSTGRES, S("\0\0\0\x11\0\3\0\2user\0bo\0\0")},
    {PROTO_POSTGRES, S("\0\0\0\x08\4\xd2\x16\x2f")},
    {PROTO_REDIS, S("*1\r\n$4\r\n")},
    {PROTO_REDIS, S("PING\r\n")},
    {PROTO_REDIS, S("ECHO a /b\r\n")},
    {PROTO_MQTT, S("\x10\x0e\0\4MQTT\4\2\0\x3c\0\2id")},
    {PROTO_XMPP, S("<?xml version='1.0'?><stream:stream to='a'>")},
    {PROTO_RDP, S("\3\0\0\x0b\6\xe0\0\0\0\0\0")},
    {PROTO_SOCKS, S("\5\1\0")},
    {PROTO_SOCKS, S("\4\1\0\x50\x7f\0\0\1\0")},
};

TEST("every protocol is found at its last byte, and not before")
{
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        struct sniffed s;
        CHECK_PREFIXES(sniff_bytes, samples[i].bytes);
        CHECK_VERDICT(sniff_bytes(samples[i].bytes, &s), SNIFF_DONE);
        CHECK_TEXT(proto_name(s.proto), proto_name(samples[i].proto));
    }
}

TEST("garbage is nobody's at once")
{
    static const struct str garbage[] = {S("\xff"),
                                         S("\x80\x2e\1"),
                                         S("HELO \n"),
                                         S("\r\nx\r\n"),
                                         S(" "),
                                         S("\x7f"
                                           "ELF"),
                                         S("GET /\r\n"),
                                         S("\0\1"),
                                         S("MAIL FROM:<a@b>\r\n")};
    for (size_t i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        struct sniffed s;
        CHECK_VERDICT(sniff_guarded(sniff_bytes, garbage[i], &s), SNIFF_NOT);
        CHECK_TEXT(proto_name(s.proto), "none");
    }
}

TEST("no byte at all may become anything")
{
    struct sniffed s;
    CHECK_VERDICT(sniff_bytes(STR(""), &s), SNIFF_MORE);
    CHECK_INT(s.proto, PROTO_NONE);
}

TEST("20 KiB of headers are too large, and HTTP is told so")
{
    char head[20480] = "GET / HTTP/1.1\r\nHost: a\r\n";
    struct sniffed s = {.reason = NULL};
    for (size_t n = strlen(head); n + 8 < sizeof head; n += 8)
        memcpy(head + n, "X: abc\r\n", 8);
    CHECK_VERDICT(sniff_bytes((struct str){head, SNIFF_BYTES_MAX - 1}, &s), SNIFF_MORE);
    CHECK_VERDICT(sniff_bytes((struct str){head, SNIFF_BYTES_MAX}, &s), SNIFF_BAD);
    CHECK_TEXT(s.reason, "TooLarge");
    CHECK_VERDICT(sniff_bytes((struct str){head, sizeof head}, &s), SNIFF_BAD);
    CHECK_TEXT(s.reason, "TooLarge");
    CHECK_INT(s.proto, PROTO_HTTP);
}

TEST("a refused request is nobody else's")
{
    struct sniffed s;
    CHECK_VERDICT(sniff_bytes(STR("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n"), &s), SNIFF_BAD);
    CHECK_TEXT(s.reason, "TwoHosts");
    CHECK_INT(s.proto, PROTO_HTTP);
}

TEST("every protocol has a name, and a number that is none has \"none\"")
{
    CHECK_TEXT(proto_name(PROTO_H2), "h2");
    CHECK_TEXT(proto_name(PROTO_XMPP), "xmpp");
    CHECK_TEXT(proto_name(PROTO_COUNT), "none");
}
