/* ClientHellos: real ones, and ones made by hand to be split, large or wrong. */
#include "base/wr.h"
#include "first-flights.h"
#include "sniff-check.h"

static const struct str openssl = {(const char *)first_flight_tls_openssl,
                                   sizeof first_flight_tls_openssl};
static const struct str node = {(const char *)first_flight_tls_node, sizeof first_flight_tls_node};

TEST("real hellos give their name and ALPN, and nothing before they are whole")
{
    struct sniffed s;
    CHECK_PREFIXES(tlshello_sniff, openssl);
    CHECK_VERDICT(tlshello_sniff(openssl, &s), SNIFF_DONE);
    CHECK_INT(s.proto, PROTO_TLS);
    CHECK_STR(s.host, "blog.example");
    CHECK_INT(s.alpn_count, 2);
    CHECK_STR(s.alpn[0], "h2");
    CHECK_STR(s.alpn[1], "http/1.1");
    CHECK(!s.ech);
    CHECK_PREFIXES(tlshello_sniff, node);
    CHECK_VERDICT(tlshello_sniff(node, &s), SNIFF_DONE);
    CHECK_STR(s.host, "node.example");
    CHECK_INT(s.alpn_count, 1);
    CHECK_STR(s.alpn[0], "acme-tls/1");
}

struct hello {
    uint8_t bytes[24000];
    size_t n;
};

static struct str bytes_of(const struct hello *h)
{
    return (struct str){(const char *)h->bytes, h->n};
}

/* A handshake message of this type with these extensions. */
static struct hello message(uint8_t type, struct str extensions)
{
    struct hello h;
    struct wr w = wr_init(h.bytes, sizeof h.bytes);
    static const uint8_t random[32] = {1};
    wr_u8(&w, type);
    wr_be(&w, 2 + 32 + 1 + 4 + 2 + 2 + extensions.n, 3);
    wr_u16(&w, 0x0303);
    wr_bytes(&w, random, sizeof random);
    wr_u8(&w, 0);
    wr_vec16(&w, STR("\x13\x01"));
    wr_u16(&w, 0x0100);
    wr_vec16(&w, extensions);
    h.n = w.used;
    return h;
}

/* The message in records of at most `part` bytes. */
static struct hello records(struct hello m, size_t part)
{
    struct hello h;
    struct wr w = wr_init(h.bytes, sizeof h.bytes);
    for (size_t at = 0; at < m.n; at += part) {
        size_t n = m.n - at < part ? m.n - at : part;
        wr_u8(&w, 22);
        wr_u16(&w, 0x0301);
        wr_u16(&w, (uint16_t)n);
        wr_bytes(&w, m.bytes + at, n);
    }
    h.n = w.used;
    return h;
}

#define SNI       "\0\0\0\x0b\0\x09\0\0\6a.test"
#define ALPN      "\0\x10\0\5\0\3\2h2"
#define ECH_OUTER "\xfe\x0d\0\2\0\0"

TEST("a hello in many records is read as one")
{
    size_t parts[] = {1, 2, 3, 5, 17, 40};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        struct sniffed s;
        struct hello h = records(message(1, STR(SNI ALPN)), parts[i]);
        CHECK_PREFIXES(tlshello_sniff, bytes_of(&h));
        CHECK_VERDICT(tlshello_sniff(bytes_of(&h), &s), SNIFF_DONE);
        CHECK_STR(s.host, "a.test");
        CHECK_STR(s.alpn[0], "h2");
    }
}

/* A key share as large as X25519MLKEM768 makes it, in front of the name. */
static struct hello large(size_t share)
{
    static char ext[24000];
    struct wr w = wr_init(ext, sizeof ext);
    wr_u16(&w, 51);
    wr_u16(&w, (uint16_t)share);
    memset(ext + w.used, 7, share);
    w.used += share;
    wr_bytes(&w, SNI ECH_OUTER, STR(SNI ECH_OUTER).n);
    return message(1, (struct str){ext, w.used});
}

TEST("a post-quantum hello over two segments or two records is no error")
{
    for (size_t share = 1700; share <= 2100; share += 200) {
        struct sniffed s;
        struct hello one = records(large(share), 16384), two = records(large(share), 1300);
        CHECK_PREFIXES(tlshello_sniff, bytes_of(&one));
        CHECK_PREFIXES(tlshello_sniff, bytes_of(&two));
        CHECK_VERDICT(tlshello_sniff(bytes_of(&two), &s), SNIFF_DONE);
        CHECK_STR(s.host, "a.test");
        CHECK(s.ech);
    }
}

TEST("a hello of nearly 16 KiB is read, a larger one is refused at once")
{
    struct sniffed s = {.reason = NULL};
    struct hello h = records(large(16000), 16384);
    CHECK_VERDICT(sniff_guarded(tlshello_sniff, bytes_of(&h), &s), SNIFF_DONE);
    h = records(large(17000), 16384);
    CHECK_VERDICT(sniff_guarded(tlshello_sniff, (struct str){(char *)h.bytes, 9}, &s), SNIFF_BAD);
    CHECK_TEXT(s.reason, "TooLarge");
}

static void check_extensions(struct str extensions, enum sniff_verdict want, const char *host)
{
    struct hello h = records(message(1, extensions), 16384);
    struct sniffed s = {.reason = NULL};
    CHECK_VERDICT(sniff_guarded(tlshello_sniff, bytes_of(&h), &s), want);
    CHECK_VERDICT(tlshello_sniff(bytes_of(&h), &s), want);
    if (want == SNIFF_DONE)
        CHECK_STR(s.host, host);
    else
        CHECK_TEXT(s.reason, "BadRequest");
}

TEST("a name that is none, or twice there, is refused")
{
    check_extensions(STR(""), SNIFF_DONE, "");
    check_extensions(STR(SNI), SNIFF_DONE, "a.test");
    check_extensions(STR("\0\0\0\x0c\0\x0a\0\0\7A.TEST."), SNIFF_DONE, "a.test");
    check_extensions(STR("\0\0\0\x0c\0\x0a\0\0\7"
                         "1.2.3.4"),
                     SNIFF_DONE, "");
    check_extensions(STR("\0\0\0\x08\0\x06\0\0\3::1"), SNIFF_DONE, "");
    check_extensions(STR("\0\0\0\x0f\0\x0d\7\0\1x\0\0\6a.test"), SNIFF_DONE, "a.test");
    check_extensions(STR(SNI SNI), SNIFF_BAD, "");
    check_extensions(STR(ALPN ALPN), SNIFF_BAD, "");
    check_extensions(STR("\0\0\0\x0a\0\x08\0\0\1a\0\0\1b"), SNIFF_BAD, "");
    check_extensions(STR("\0\0\0\x0b\0\x09\0\0\6a.te\0t"), SNIFF_BAD, "");
    check_extensions(STR("\0\0\0\5\0\3\0\0\0"), SNIFF_BAD, "");
    check_extensions(STR("\0\0\0\2\0\0"), SNIFF_BAD, "");
    check_extensions(STR("\0\0\0\0"), SNIFF_BAD, "");
    check_extensions(STR("\0\0\0\x0b\0\x08\0\0\6a.test"), SNIFF_BAD, "");
    check_extensions(STR("\0\x10\0\3\0\1\0"), SNIFF_BAD, "");
    check_extensions(STR("\0\x10\0\4\0\2\2h"), SNIFF_BAD, "");
    check_extensions(STR("\0\x20\0\4\0"), SNIFF_BAD, "");
}

TEST("of too many ALPN names the first are kept")
{
    char ext[6 + 40] = "\0\x10\0\x2a\0\x28";
    struct sniffed s;
    for (int i = 0; i < 20; i++) {
        ext[6 + 2 * i] = 1;
        ext[7 + 2 * i] = (char)('a' + i);
    }
    struct hello h = records(message(1, (struct str){ext, sizeof ext}), 16384);
    CHECK_VERDICT(tlshello_sniff(bytes_of(&h), &s), SNIFF_DONE);
    CHECK_INT(s.alpn_count, SNIFFED_ALPN_MAX);
    CHECK_STR(s.alpn[15], "p");
}

TEST("a record that cannot be in a hello is refused")
{
    CHECK_BAD(tlshello_sniff, "\x16\3\1\0\0", "BadRequest");
    CHECK_BAD(tlshello_sniff, "\x16\3\1\x40\1", "BadRequest");
    CHECK_BAD(tlshello_sniff, "\x16\3\1\0\4\2", "BadRequest");
    CHECK_BAD(tlshello_sniff, "\x16\3\1\0\1\1\x15", "BadRequest");
    CHECK_BAD(tlshello_sniff, "\x16\3\1\0\4\1\0\0\0", "BadRequest");
}

TEST("what is not TLS is said to be so at once")
{
    CHECK_SNIFF(tlshello_sniff, "\x80", SNIFF_NOT);
    CHECK_SNIFF(tlshello_sniff, "\x16\2", SNIFF_NOT);
    CHECK_SNIFF(tlshello_sniff, "\x16\3\5", SNIFF_NOT);
    CHECK_SNIFF(tlshello_sniff, "\x15\3\1", SNIFF_NOT);
}
