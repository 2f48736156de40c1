/* PROXY headers, versions 1 and 2. */
#include "base/addr.h"
#include "sniff-check.h"
#include "wire/proxy.h"

struct proxied {
    size_t len;
    struct addr src, dst;
};

static enum sniff_verdict proxy(struct str in, struct proxied *ret)
{
    return proxy_sniff(in, &ret->len, &ret->src, &ret->dst);
}

/* proxy_sniff() in the shape of the others, so that the same checks serve. */
static enum sniff_verdict proxy_any(struct str in, struct sniffed *out)
{
    struct proxied p;
    (void)out;
    return proxy(in, &p);
}

#define V2      "\r\n\r\n\0\r\nQUIT\n"
#define V2_TCP4 V2 "\x21\x11\0\x0c\x0a\1\2\3\x7f\0\0\1\x12\x67\0\x50"
#define V2_TCP6                                                                                    \
    V2 "\x21\x21\0\x28\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"      \
       "\x12\x67\0\x50\4\0\1x"

static void check(struct str in, const char *src, const char *dst)
{
    struct proxied p = {0};
    char buf[ADDR_TEXT_MAX];
    CHECK_PREFIXES(proxy_any, in);
    CHECK_VERDICT(proxy(in, &p), SNIFF_DONE);
    CHECK_INT(p.len, in.n);
    CHECK_TEXT(addr_format(&p.src, buf), src);
    CHECK_TEXT(addr_format(&p.dst, buf), dst);
}

TEST("both versions give the addresses that they state")
{
    check(STR("PROXY TCP4 10.1.2.3 127.0.0.1 4711 80\r\n"), "10.1.2.3:4711", "127.0.0.1:80");
    check(STR("PROXY TCP6 2001:db8::1 ::1 4711 80\r\n"), "[2001:db8::1]:4711", "[::1]:80");
    check(STR(V2_TCP4), "10.1.2.3:4711", "127.0.0.1:80");
    check(STR(V2_TCP6), "[2001:db8::1]:4711", "[::1]:80");
}

TEST("a header without addresses has a length, too")
{
    check(STR("PROXY UNKNOWN\r\n"), "?", "?");
    check(STR("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"), "?", "?");
    check(STR(V2 "\x20\0\0\0"), "?", "?");
    check(STR(V2 "\x20\x11\0\2xx"), "?", "?");
    check(STR(V2 "\x21\0\0\3abc"), "?", "?");
    check(STR(V2 "\x21\x12\0\1a"), "?", "?");
}

TEST("Unix addresses are read")
{
    char in[16 + 216] = V2 "\x21\x31\0\xd8/run/a";
    (void)strcpy(in + 16 + 108, "/run/b");
    check((struct str){in, sizeof in}, "unix:/run/a", "unix:/run/b");
}

TEST("what follows the header is not counted")
{
    struct proxied p;
    CHECK_VERDICT(proxy(STR("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n"), &p), SNIFF_DONE);
    CHECK_INT(p.len, 15);
    CHECK_VERDICT(proxy(STR(V2 "\x20\0\0\0GET"), &p), SNIFF_DONE);
    CHECK_INT(p.len, 16);
}

TEST("a header that breaks the rules is refused")
{
    CHECK_SNIFF(proxy_any, "PROXY TCP5 10.1.2.3 127.0.0.1 1 80\r\n", SNIFF_BAD);
    CHECK_SNIFF(proxy_any, "PROXY TCP4 10.1.2.3 127.0.0.1 1 80\n", SNIFF_BAD);
    CHECK_SNIFF(proxy_any, "PROXY TCP4 10.1.2.3 127.0.0.1 01 80\r\n", SNIFF_BAD);
    CHECK_SNIFF(proxy_any, "PROXY TCP4 10.1.2.3 127.0.0.1 1 65536\r\n", SNIFF_BAD);
    CHECK_SNIFF(proxy_any, "PROXY TCP4 10.1.2.3 127.0.0.1 1\r\n", SNIFF_BAD);
    CHECK_SNIFF(proxy_any, "PROXY TCP4 10.1.2.3 127.0.0.1 1 2 3\r\n", SNIFF_BAD);
    CHECK_SNIFF(proxy_any, "PROXY TCP4  10.1.2.3 127.0.0.1 1 2\r\n", SNIFF_BAD);
    CHECK_SNIFF(proxy_any, "PROXY TCP4 ::1 ::1 1 2\r\n", SNIFF_BAD);
    CHECK_SNIFF(proxy_any, "PROXY \n", SNIFF_BAD);
    CHECK_SNIFF(proxy_any,
                "PROXY UNKNOWN 1111111111111111111111111111111111111111111111111111111111111111111"
                "11111111111111111111111111",
                SNIFF_BAD);
    CHECK_SNIFF(proxy_any, V2 "\x11", SNIFF_BAD);
    CHECK_SNIFF(proxy_any, V2 "\x22", SNIFF_BAD);
    CHECK_SNIFF(proxy_any, V2 "\x21\x11\xff\xff", SNIFF_BAD);
    CHECK_SNIFF(proxy_any,
                V2 "\x21\x11\0\x0b"
                   "12345678901",
                SNIFF_BAD);
}

TEST("what is no PROXY header is said to be so at once")
{
    CHECK_SNIFF(proxy_any, "GET", SNIFF_NOT);
    CHECK_SNIFF(proxy_any, "PROXX", SNIFF_NOT);
    CHECK_SNIFF(proxy_any, "\r\n\r\n\r", SNIFF_NOT);
}

static struct addr address(const char *text)
{
    struct addr a = {0};
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

TEST("what is written is read back, in both versions")
{
    static const char *const pairs[][2] = {{"192.0.2.7:4711", "127.0.0.1:80"},
                                           {"[2001:db8::1]:4711", "[::1]:8443"}};
    uint8_t buf[PROXY_MAX];
    for (size_t i = 0; i < 2; i++)
        for (unsigned version = 1; version <= 2; version++) {
            struct proxy_header h = {address(pairs[i][0]), address(pairs[i][1]), NULL, 0};
            int n = proxy_encode(version, &h, buf, sizeof buf);
            CHECK(n > 0);
            check((struct str){(const char *)buf, (size_t)n}, pairs[i][0], pairs[i][1]);
        }
}

TEST("addresses of a kind that the protocol cannot say are unknown")
{
    uint8_t buf[PROXY_MAX];
    struct proxied p = {0};
    for (unsigned version = 1; version <= 2; version++) {
        struct proxy_header h = {address("unix:/tmp/x"), address("127.0.0.1:80"), NULL, 0};
        int n = proxy_encode(version, &h, buf, sizeof buf);
        CHECK_VERDICT(proxy((struct str){(const char *)buf, (size_t)n}, &p), SNIFF_DONE);
        CHECK_INT(p.src.sa.sa_family, AF_UNSPEC);
        CHECK_INT(p.len, n);
    }
}

TEST("who dialled stands behind the addresses in version 2")
{
    static const uint8_t want[] = {0xe0, 0, 4, 'k', 'e', 'y', '!', 0xe2, 0, 3, 'w', 'e', 'b'};
    const struct proxy_tlv tlvs[] = {{PROXY_TLV_PEER_KEY, STR("key!")},
                                     {PROXY_TLV_PEER_SERVICE, STR("web")}};
    uint8_t buf[PROXY_MAX];
    struct proxied p = {0};
    struct proxy_header h = {address("127.0.0.1:5"), address("127.0.0.1:80"), tlvs, 2};
    int n = proxy_encode(2, &h, buf, sizeof buf);
    CHECK_INT(n, 16 + 12 + (int)sizeof want);
    CHECK(memcmp(buf + 28, want, sizeof want) == 0);
    CHECK_VERDICT(proxy((struct str){(const char *)buf, (size_t)n}, &p), SNIFF_DONE);
    CHECK_INT(p.len, n);
    CHECK_INT(proxy_encode(2, &h, buf, 30), -EMSGSIZE);
}
