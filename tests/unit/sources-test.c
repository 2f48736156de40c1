/* Counting connections by client address. */
#include "share/sources.h"
#include "test.h"

static struct addr at(const char *text)
{
    struct addr a;
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

TEST("each address has a count of its own, whatever the port")
{
    struct sources *s = sources_new();
    struct addr a = at("192.0.2.1:1000"), a2 = at("192.0.2.1:2000"), b = at("192.0.2.2:1000");
    CHECK_INT(sources_add(s, &a), 1);
    CHECK_INT(sources_add(s, &a2), 2);
    CHECK_INT(sources_add(s, &b), 1);
    sources_remove(s, &a);
    CHECK_INT(sources_count(s, &a), 1);
    sources_remove(s, &a2);
    CHECK_INT(sources_count(s, &a), 0);
    CHECK_INT(sources_count(s, &b), 1);
    sources_remove(s, &a);
    CHECK_INT(sources_count(s, &a), 0);
    sources_free(s);
}

TEST("one customer's IPv6 addresses are one source, and a mapped address is IPv4")
{
    struct sources *s = sources_new();
    struct addr a = at("[2001:db8:1:2::1]:1"), b = at("[2001:db8:1:2:ffff::1]:1"),
                c = at("[2001:db8:1:3::1]:1"), four = at("192.0.2.1:1"),
                mapped = at("[::ffff:192.0.2.1]:1");
    (void)sources_add(s, &a);
    CHECK_INT(sources_add(s, &b), 2);
    CHECK_INT(sources_add(s, &c), 1);
    (void)sources_add(s, &four);
    CHECK_INT(sources_add(s, &mapped), 2);
    sources_free(s);
}

TEST("many addresses, and clients without one")
{
    struct sources *s = sources_new();
    struct addr nobody = {.un.sun_family = AF_UNIX};
    CHECK_INT(sources_add(s, &nobody), 0);
    sources_remove(s, &nobody);
    for (uint32_t i = 0; i < 20000; i++) {
        struct addr a = addr_make(AF_INET, &i, 1);
        CHECK_INT(sources_add(s, &a), 1);
    }
    for (uint32_t i = 0; i < 20000; i += 3) {
        struct addr a = addr_make(AF_INET, &i, 1);
        sources_remove(s, &a);
        CHECK_INT(sources_count(s, &a), 0);
    }
    sources_free(s);
}
