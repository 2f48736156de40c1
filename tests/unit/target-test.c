/* Addresses to connect to, as people write them. */
#include "base/target.h"
#include "test.h"

TEST("addresses, names and paths are told apart")
{
    struct target_place p;
    CHECK_INT(target_place_parse("127.0.0.1:3000", &p), 0);
    CHECK(!p.is_name);
    CHECK_INT(addr_port(&p.addr), 3000);
    CHECK_INT(target_place_parse("[::1]:8080", &p), 0);
    CHECK_INT(p.addr.sa.sa_family, AF_INET6);
    CHECK_INT(target_place_parse("unix:/run/app.sock", &p), 0);
    CHECK_TEXT(p.addr.un.sun_path, "/run/app.sock");
    CHECK_INT(target_place_parse("db.example:5432", &p), 0);
    CHECK(p.is_name);
    CHECK_TEXT(p.host, "db.example");
    CHECK_TEXT(p.port, "5432");
}

TEST("what cannot be connected to is none")
{
    static const char *const bad[] = {"",       "3000",      "127.0.0.1",   "127.0.0.1:0",
                                      "*:80",   "0.0.0.0:1", "[::]:80",     "db.example",
                                      "db:0",   "db:65536",  "db:http",     "-a:80",
                                      ".a:80",  "a b:80",    "1.2.3.4.5:1", "a/b:80",
                                      "unix:a", ":80",       "[::1]",       "db:080000"};
    struct target_place p;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (target_place_parse(bad[i], &p) != -EINVAL)
            CHECK_TEXT(bad[i], "refused");
}
