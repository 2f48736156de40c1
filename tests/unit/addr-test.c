#include "base/addr.h"
#include "test.h"

static struct addr parse(const char *text)
{
    struct addr a = {0};
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

TEST("an address is written as it was read")
{
    const char *texts[] = {"127.0.0.1:80", "[::1]:8080", "[::]:1", "0.0.0.0:65535", "unix:/tmp/a"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct addr a = parse(texts[i]);
        char buf[ADDR_TEXT_MAX];
        CHECK_TEXT(addr_format(&a, buf), texts[i]);
    }
}

TEST("text that is no address is refused")
{
    const char *texts[] = {
        "",           "80",    "1.2.3.4",     "1.2.3:80", "[::1:80", "1.2.3.4:65536",
        "1.2.3.4:+1", "unix:", "1.2.3.4:80x", "[::1]"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct addr a;
        CHECK_INT(addr_parse(texts[i], &a), -EINVAL);
    }
}

static bool covers(const char *bound, bool v6only, const char *local)
{
    struct addr b = parse(bound), l = parse(local);
    return addr_covers(&b, v6only, &l);
}

TEST("a bound address covers what the kernel would give it")
{
    CHECK(covers("0.0.0.0:80", false, "10.1.2.3:80"));
    CHECK(!covers("0.0.0.0:80", false, "[::1]:80"));
    CHECK(!covers("0.0.0.0:80", false, "10.1.2.3:81"));
    CHECK(!covers("127.0.0.1:80", false, "127.0.0.2:80"));
    CHECK(covers("[::]:80", false, "10.1.2.3:80"));
    CHECK(!covers("[::]:80", true, "10.1.2.3:80"));
    CHECK(covers("[::]:80", false, "[::ffff:10.1.2.3]:80"));
}

static bool overlap(const char *a, bool a6, const char *b, bool b6)
{
    struct addr x = parse(a), y = parse(b);
    return addr_overlap(&x, a6, &y, b6) && addr_overlap(&y, b6, &x, a6);
}

TEST("overlap is seen from both sides")
{
    CHECK(overlap("0.0.0.0:80", false, "127.0.0.1:80", false));
    CHECK(overlap("0.0.0.0:80", false, "[::]:80", false));
    CHECK(!overlap("0.0.0.0:80", false, "[::]:80", true));
    CHECK(!overlap("127.0.0.1:80", false, "127.0.0.2:80", false));
    CHECK(!overlap("127.0.0.1:80", false, "127.0.0.1:81", false));
}

static int prefix_of(const char *text, struct prefix *p)
{
    return prefix_parse(str_of(text), p);
}

TEST("a source prefix matches its own addresses only")
{
    struct prefix p;
    CHECK_INT(prefix_of("192.168.0.0/16", &p), 0);
    struct addr in = parse("192.168.7.9:1"), out = parse("192.169.0.1:1");
    CHECK(prefix_matches(&p, &in));
    CHECK(!prefix_matches(&p, &out));
    CHECK_INT(prefix_of("10.0.0.0/9", &p), 0);
    in = parse("10.127.0.1:1");
    out = parse("10.128.0.1:1");
    CHECK(prefix_matches(&p, &in));
    CHECK(!prefix_matches(&p, &out));
    CHECK_INT(prefix_of("2001:db8::/32", &p), 0);
    in = parse("[2001:db8:1::1]:1");
    CHECK(prefix_matches(&p, &in));
    CHECK(!prefix_matches(&p, &out));
}

TEST("a prefix with host bits or silly lengths is refused")
{
    struct prefix p;
    CHECK_INT(prefix_of("192.168.1.0/16", &p), -EINVAL);
    CHECK_INT(prefix_of("192.168.0.0/33", &p), -EINVAL);
    CHECK_INT(prefix_of("::/129", &p), -EINVAL);
    CHECK_INT(prefix_of("", &p), -EINVAL);
    CHECK_INT(prefix_of("1.2.3.4/", &p), -EINVAL);
}
