/* Addresses of Redis. */
#include "rendezvous/redis-link.h"

#include "test.h"

static struct redis_target good(const char *text)
{
    struct redis_target t = {.port = 1};
    CHECK_INT(redis_target_parse(text, &t), 0);
    return t;
}

TEST("a host alone has the usual port, no password and the first database")
{
    struct redis_target t = good("redis://cache.example");
    CHECK_TEXT(t.host, "cache.example");
    CHECK_INT(t.port, 6379);
    CHECK_TEXT(t.user, "");
    CHECK_TEXT(t.password, "");
    CHECK_INT(t.db, 0);
}

TEST("everything may be said, and the password may have any character")
{
    struct redis_target t = good("redis://app:a%40b:c%2f@10.0.0.1:7000/15");
    CHECK_TEXT(t.host, "10.0.0.1");
    CHECK_INT(t.port, 7000);
    CHECK_TEXT(t.user, "app");
    CHECK_TEXT(t.password, "a@b:c/");
    CHECK_INT(t.db, 15);
}

TEST("an IPv6 address stands in brackets")
{
    CHECK_TEXT(good("redis://[2001:db8::1]").host, "2001:db8::1");
    CHECK_INT(good("redis://:x@[::1]:9/2").port, 9);
}

TEST("a socket has a path, and an @ in it is none")
{
    struct redis_target t = good("unix:///run/redis@a/s?db=4");
    CHECK_TEXT(t.host, "/run/redis@a/s");
    CHECK_INT(t.port, 0);
    CHECK_INT(t.db, 4);
    CHECK_TEXT(good("unix://:pw@/run/s").password, "pw");
    CHECK_TEXT(good("unix://:pw@/run/s").host, "/run/s");
}

TEST("nonsense is refused")
{
    static const char *const texts[] = {"",
                                        "redis:",
                                        "redis://",
                                        "redis:///1",
                                        "http://h",
                                        "unix://",
                                        "unix://s",
                                        "unix:///s?db=",
                                        "unix:///s?x=1",
                                        "redis://h:0",
                                        "redis://h:65536",
                                        "redis://h:x",
                                        "redis://h/1x",
                                        "redis://user@h",
                                        "redis://:%zz@h",
                                        "redis://:%4",
                                        "redis://:%00@h",
                                        "redis://[::1",
                                        "redis://[::1]x",
                                        "redis://h/99999999999"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct redis_target t;
        if (redis_target_parse(texts[i], &t) != -EINVAL)
            CHECK_TEXT(texts[i], "refused");
    }
}
