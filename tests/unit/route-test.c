#include "share/route.h"

#include <errno.h>
#include <stdlib.h>

#include "test.h"

static struct route parse(const char *text)
{
    struct route r = {0};
    char reason[ROUTE_REASON_MAX] = "";
    if (route_parse(text, &r, reason) < 0)
        test_fail(__FILE__, __LINE__, text, reason, "a route");
    return r;
}

TEST("a route is brought into its canonical form, and stays in it")
{
    static const char *const cases[][2] = {
        {"http://blog.example:80/", "http://blog.example:80/"},
        {"http://Blog.Example.", "http://blog.example/"},
        {"HTTP://blog.example:8080", "http://blog.example:8080/"},
        {"http://blog.example/api", "http://blog.example/api/"},
        {"http://blog.example/a/b/", "http://blog.example/a/b/"},
        {"http://blog.example/%7Euser/%41%2fb", "http://blog.example/~user/A%2Fb/"},
        {"http://blog.example/caf\xc3\xa9", "http://blog.example/caf%C3%A9/"},
        {"http://blog.example/a b;c=d", "http://blog.example/a%20b;c=d/"},
        {"http://blog.example/%3Fx", "http://blog.example/%3Fx/"},
        {"http://", "http://*/"},
        {"http://*:80/", "http://*:80/"},
        {"http://+:80/.well-known/", "http://+:80/.well-known/"},
        {"http://*.Example.org/", "http://*.example.org/"},
        {"http://my_host-1.x2/", "http://my_host-1.x2/"},
        {"http://2048.localhost/", "http://2048.localhost/"},
        {"http://127.0.0.1:80/", "http://127.0.0.1:80/"},
        {"http://[2001:DB8:0::1]:80/", "http://[2001:db8::1]:80/"},
        {"http://[::ffff:10.0.0.1]/", "http://10.0.0.1/"},
        {"tls://db.example:443", "tls://db.example:443"},
        {"tls://db.example:443/", "tls://db.example:443"},
        {"tls://db.example?", "tls://db.example"},
        {"tls://*?alpn=acme-tls/1", "tls://*?alpn=acme-tls/1"},
        {"tls://*/?alpn=http%2F1.1&from=10.0.0.1", "tls://*?alpn=http/1.1&from=10.0.0.1/32"},
        {"ssh://:443", "ssh://*:443"},
        {"any://:443", "any://*:443"},
        {"tcp://10.0.0.5:5432?from=192.168.0.0/16", "tcp://10.0.0.5:5432?from=192.168.0.0/16"},
        {"tcp://[::1]:1?from=2001:db8::/32", "tcp://[::1]:1?from=2001:db8::/32"},
        {"postgres://:5432/shop?user=al%20ice", "postgres://*:5432/shop?user=al%20ice"},
        {"postgres://:5432/", "postgres://*:5432"},
        {"postgres://:5432/a%2Fb", "postgres://*:5432/a%2Fb"},
        {"prefix://:7000/HELO%20", "prefix://*:7000/HELO%20"},
        {"prefix://:7000/%00%ff/%3f", "prefix://*:7000/%00%FF/%3F"},
        {"mqtt://:1883?user=pump", "mqtt://*:1883?user=pump"},
        {"rdp://:3389?user=bob", "rdp://*:3389?user=bob"},
        {"xmpp://chat.example:5222", "xmpp://chat.example:5222"},
        {"socks://+:1080", "socks://+:1080"},
        {"redis://127.0.0.2:6379", "redis://127.0.0.2:6379"},
        {"peer://web", "peer://web"},
        {"peer://web-2/", "peer://web-2"},
        {"peer://web:3000", "peer://web:3000"},
        {"peer://*", "peer://*"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[ROUTE_TEXT_MAX];
        struct route r = parse(cases[i][0]);
        CHECK_TEXT(route_format(&r, text), cases[i][1]);
        struct route again = parse(text);
        CHECK(route_same(&r, &again));
        CHECK_TEXT(route_format(&again, text), cases[i][1]);
    }
}

TEST("the parts of a route are where the header says")
{
    struct route r = parse("http://*.example.org:8080/a/b");
    CHECK_INT(r.scheme, SCHEME_HTTP);
    CHECK_INT(r.kind, HOST_LABEL);
    CHECK_TEXT(r.host, "example.org");
    CHECK_INT(r.port, 8080);
    CHECK_TEXT(r.path, "/a/b/");
    CHECK_INT(r.path_len, 5);
    r = parse("prefix://:1/a%00b");
    CHECK_INT(r.path_len, 3);
    CHECK(memcmp(r.path, "a\0b", 4) == 0);
    r = parse("postgres://127.0.0.9/db?user=u&from=::1");
    CHECK_INT(r.kind, HOST_ADDR);
    CHECK_INT(r.port, 0);
    CHECK_TEXT(r.path, "db");
    CHECK_TEXT(r.user, "u");
    CHECK_INT(r.from.family, AF_INET6);
    CHECK_INT(r.from.bits, 128);
}

static const char *reason_of(const char *text, char reason[ROUTE_REASON_MAX])
{
    struct route r[2];
    reason[0] = 0;
    CHECK_INT(route_parse(text, &r[0], reason), -EINVAL);
    return reason;
}

TEST("what is refused is refused with what would be right")
{
    /* A piece of the sentence is enough. */
    static const char *const cases[][2] = {
        {"blog.example", "has no scheme: a route looks like http://"},
        {"https://blog.example/", "https needs the gateway, which this version does not have: use "
                                  "tls:// to pass TLS through to the program"},
        {"gopher://x",
         "one of http tls ssh socks rdp postgres redis mqtt xmpp prefix tcp peer any"},
        {"://x", "unknown scheme"},
        {"http://a..b/", "empty label"},
        {"http://.a/", "empty label"},
        {"http://*./", "empty label"},
        {"http://./", "empty label"},
        {"http://a b/", "letters, digits"},
        {"http://user@host/", "letters, digits"},
        {"http://b\xc3\xbc"
         "cher.example/",
         "xn--"},
        {"http://a.*.b/", "left-most label"},
        {"http://a*/", "left-most label"},
        {"http://+.b/", "letters, digits"},
        {"http://1.2.3/", "all four parts"},
        {"http://1.2.3.256/", "all four parts"},
        {"http://0.0.0.0/", "write * for any address"},
        {"http://[::]/", "write * for any address"},
        {"http://[::1/", "bracket"},
        {"http://[]/", "no IPv6 address"},
        {"http://[fe80::1%eth0]/", "no IPv6 address"},
        {"http://[::1]x/", "only :port"},
        {"http://::1/", "in brackets"},
        {"http://a:0/", "no port"},
        {"peer://Web", "no service"},
        {"peer://web.example", "no service"},
        {"peer://-web", "no service"},
        {"peer://127.0.0.1", "no service"},
        {"peer://+", "no service"},
        {"peer://web/x", "have no path"},
        {"peer://web?from=10.0.0.1", "have no options"},
        {"http://a:/", "no port"},
        {"http://a:080/", "no port"},
        {"http://a:65536/", "no port"},
        {"http://a:8o/", "no port"},
        {"http://a:-1/", "no port"},
        {"http://a//b", "empty, \".\" or \"..\" segment"},
        {"http://a//", "empty, \".\" or \"..\" segment"},
        {"http://a/b/../c", "empty, \".\" or \"..\" segment"},
        {"http://a/%2e%2E", "empty, \".\" or \"..\" segment"},
        {"http://a/./", "empty, \".\" or \"..\" segment"},
        {"http://a/%", "two hex digits"},
        {"http://a/%4", "two hex digits"},
        {"http://a/%zz", "two hex digits"},
        {"http://a/%00", "not 00"},
        {"http://a/#top", "follows a #"},
        {"http://a/?alpn=h2", "its options are from="},
        {"tls://a?user=bob", "from= and alpn="},
        {"tls://a?alpn=", "is empty"},
        {"tls://a?alpn=h2&alpn=h3", "given once"},
        {"tls://a?alpn=a%00b", "wrongly %-encoded"},
        {"tls://a/b", "have no path"},
        {"tcp://*?from=10.0.0.1/8", "192.168.0.0/16"},
        {"tcp://*?from=::ffff:10.0.0.0/104", "written as IPv4"},
        {"tcp://*?from=10.0.0.1&from=10.0.0.2", "given once"},
        {"tcp://db.example", "show no host name: use tcp://*"},
        {"ssh://git.example:22", "show no host name: use ssh://*"},
        {"postgres://*/a/b", "%2F"},
        {"postgres://*/a%00", "database"},
        {"prefix://:1", "first bytes"},
        {"prefix://:1/", "first bytes"},
        {"prefix://:1/%4", "two hex digits"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char reason[ROUTE_REASON_MAX];
        if (!strstr(reason_of(cases[i][0], reason), cases[i][1]))
            test_fail(__FILE__, __LINE__, cases[i][0], reason, cases[i][1]);
    }
}

TEST("a refusal never carries control characters to the terminal")
{
    char reason[ROUTE_REASON_MAX];
    const char *texts[] = {"http://a\033[2Jb/", "\x1b\x07://a", "http://a:\n/", "tls://a?\r=1"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (const char *c = reason_of(texts[i], reason); *c; c++)
            CHECK(*c >= 0x20 && *c < 0x7f);
}

static void fill(char *at, size_t n, const char *pattern)
{
    for (size_t i = 0; i < n; i++)
        at[i] = pattern[i % strlen(pattern)];
    at[n] = 0;
}

static int parse_long(const char *head, size_t n, const char *pattern)
{
    static char text[8192];
    char reason[ROUTE_REASON_MAX];
    struct route r;
    size_t at = strlen(head);
    memcpy(text, head, at);
    fill(text + at, n, pattern);
    return route_parse(text, &r, reason);
}

TEST("the longest path is read back, too")
{
    char text[ROUTE_TEXT_MAX] = "http://a/", again[ROUTE_TEXT_MAX];
    fill(text + strlen(text), ROUTE_PATH_MAX - 3, "b");
    struct route r = parse(text);
    CHECK_INT(r.path_len, ROUTE_PATH_MAX - 1);
    struct route s = parse(route_format(&r, again));
    CHECK(route_same(&r, &s));
}

TEST("lengths are accepted up to the limit and not beyond")
{
    CHECK_INT(parse_long("http://", 63, "a"), 0);
    CHECK_INT(parse_long("http://", 64, "a"), -EINVAL);
    CHECK_INT(parse_long("http://", 253, "a."), 0);
    CHECK_INT(parse_long("http://", 255, "a."), -EINVAL);
    CHECK_INT(parse_long("http://*.", 253, "a."), 0);
    CHECK_INT(parse_long("http://a/", ROUTE_PATH_MAX - 3, "b"), 0);
    CHECK_INT(parse_long("http://a/", ROUTE_PATH_MAX - 2, "b"), -EINVAL);
    CHECK_INT(parse_long("http://a/", 341, "\xff"), -EINVAL);
    CHECK_INT(parse_long("prefix://*/", ROUTE_PATH_MAX - 1, "b"), 0);
    CHECK_INT(parse_long("prefix://*/", ROUTE_PATH_MAX, "b"), -EINVAL);
    CHECK_INT(parse_long("prefix://*/", 1000, "\xff"), -EINVAL);
    CHECK_INT(parse_long("tls://a?alpn=", ROUTE_ALPN_MAX - 1, "b"), 0);
    CHECK_INT(parse_long("tls://a?alpn=", ROUTE_ALPN_MAX, "b"), -EINVAL);
    CHECK_INT(parse_long("http://a/", 8000, "b"), -EINVAL);
    CHECK_INT(parse_long("http://[", 300, "1:"), -EINVAL);
}

static void check_expand(const char *text, const char *first, const char *second)
{
    struct route r[2];
    char reason[ROUTE_REASON_MAX], buf[ROUTE_TEXT_MAX];
    CHECK_INT(route_expand(text, r, reason), second ? 2 : 1);
    CHECK_TEXT(route_format(&r[0], buf), first);
    struct route again = parse(first);
    CHECK(route_same(&r[0], &again));
    if (!second)
        return;
    CHECK_TEXT(route_format(&r[1], buf), second);
    again = parse(second);
    CHECK(route_same(&r[1], &again));
}

TEST("a bare host means http and tls")
{
    check_expand("blog.localhost", "http://blog.localhost/", "tls://blog.localhost");
    check_expand("Blog.localhost:8080", "http://blog.localhost:8080/", "tls://blog.localhost:8080");
    check_expand("*", "http://*/", "tls://*");
    check_expand("+:80", "http://+:80/", "tls://+:80");
    check_expand("*.shop.localhost", "http://*.shop.localhost/", "tls://*.shop.localhost");
    check_expand("127.0.0.1", "http://127.0.0.1/", "tls://127.0.0.1");
    check_expand("[::1]:80", "http://[::1]:80/", "tls://[::1]:80");
    check_expand("ssh://:22", "ssh://*:22", NULL);
}

TEST("a bare host that is none is refused")
{
    const char *texts[] = {"", "a/b", "a?from=::1", "a:", "::1", "a..b", "a:b:c", "a b", "[::1"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct route r[2];
        char reason[ROUTE_REASON_MAX] = "";
        CHECK_INT(route_expand(texts[i], r, reason), -EINVAL);
        CHECK(reason[0] != 0);
    }
}

TEST("routes are the same only when everything is")
{
    static const char *const texts[] = {
        "http://a/",
        "http://b/",
        "http://a:80/",
        "http://a:81/",
        "http://a/x/",
        "http://*.a/",
        "http://*/",
        "http://+/",
        "http://10.0.0.1",
        "http://10.0.0.2",
        "http://[::1]/",
        "tls://a",
        "tls://a?alpn=h2",
        "tls://a?alpn=h3",
        "http://a/?from=::1",
        "http://a/?from=::2",
        "any://a",
        "mqtt://*?user=a",
        "http://a/?from=::/127",
        "mqtt://*?user=b",
        "prefix://*/a",
        "prefix://*/a%00",
        "http://a/?from=1.0.0.0/8",
    };
    size_t n = sizeof texts / sizeof *texts;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            struct route a = parse(texts[i]), b = parse(texts[j]);
            CHECK_INT(route_same(&a, &b), i == j);
        }
}

TEST("every scheme has a name and is read by it")
{
    for (int i = 0; i < SCHEME_COUNT; i++) {
        char text[64];
        const char *path = i == SCHEME_PREFIX ? "/x" : "";
        (void)snprintf(text, sizeof text, "%s://*%s", route_scheme_name((enum route_scheme)i),
                       path);
        CHECK_INT(parse(text).scheme, i);
    }
}
