/* What a user may ask, and what is understood. */
#include "test.h"

#include "why/why.h"

struct question {
    const char *text;
    enum why_kind kind;
    int number; /* the port or the process; 0: refused */
};

TEST("every form of a question is understood")
{
    static const struct question questions[] = {
        {"8080", WHY_PORT, 8080},
        {"65535", WHY_PORT, 65535},
        {"70000", WHY_PID, 70000},
        {"pid:12", WHY_PID, 12},
        {"127.0.0.1:80", WHY_ADDR, 80},
        {"[::1]:80", WHY_ADDR, 80},
        {":8080", WHY_PORT, 8080},
        {"*:8080", WHY_PORT, 8080},
        {"localhost:3000", WHY_PORT, 3000},
        {"http://blog.localhost:8080/x?y=1", WHY_PORT, 8080},
        {"http://blog.localhost", WHY_PORT, 80},
        {"HTTPS://shop.example/a", WHY_PORT, 443},
        {"https://user:secret@shop.example:8443/", WHY_PORT, 8443},
        {"http://127.0.0.1:8080/", WHY_ADDR, 8080},
        {"http://[::1]/", WHY_ADDR, 80},
        {"tls://*?alpn=acme-tls/1", WHY_PORT, 443},
        {"ssh://:443", WHY_PORT, 443},
        {"any://:443", WHY_PORT, 443},
        {"tcp://10.0.0.5:5432?from=192.168.0.0/16", WHY_ADDR, 5432},
    };
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) {
        struct why_target t = {.kind = WHY_PORT};
        char reason[WHY_REASON_MAX] = "";
        if (why_target_parse(questions[i].text, &t, reason) < 0)
            CHECK_TEXT(reason, questions[i].text);
        CHECK_INT(t.kind, questions[i].kind);
        CHECK_INT(t.kind == WHY_PID ? t.pid : t.port, questions[i].number);
    }
}

TEST("what is no question is refused with a sentence")
{
    static const char *const texts[] = {
        "",
        "0",
        "80x",
        "-1",
        "+80",
        " 80",
        "99999999999",
        "pid:",
        "pid:0",
        "pid:x",
        "localhost",
        "[::1]",
        "::1",
        "localhost:0",
        "host:",
        "host:99999",
        "any://x",
        "http://a:b",
        "http://a:0/",
        "unix:/x",
        "127.0.0.1",
        "nonsense://x/",
        "tcp://10.0.0.5",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct why_target t;
        char reason[WHY_REASON_MAX] = "";
        int rc = why_target_parse(texts[i], &t, reason);
        if (rc == 0)
            CHECK_TEXT("understood", texts[i]);
        CHECK(rc == 0 || reason[0] != 0);
    }
}
