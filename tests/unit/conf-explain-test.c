/* What would happen to a request: the answers that `berth check` prints. */
#include "conf/explain.h"

#include <errno.h>

#include "test.h"

static const char text[] =
    "[app web]\nroute = http://a.example/\nlisten = 0.0.0.0:80 [::]:80\ncommand = w\n"
    "[app api]\nroute = http://a.example/api/\nlisten = 0.0.0.0:80 [::]:80\ncommand = a\n"
    "[app inside]\nroute = http://a.example/?from=10.0.0.0/8\nlisten = 0.0.0.0:80\ncommand = i\n"
    "[app local]\nroute = http://a.example/\nlisten = 127.0.0.2:81\ncommand = l\n"
    "[app every]\nroute = any://\nlisten = 127.0.0.3:81\ncommand = l\n"
    "[app tls]\nroute = b.example\nlisten = *:443\ncommand = t\n"
    "[app shell]\nroute = ssh://\nlisten = *:443\ncommand = s\n"
    "[app dev]\nroute = dev.localhost\ncommand = d\nport = 3000\n"
    "[app alone]\nroute = http://x.example/\nlisten = *:8080\ncommand = x\n"
    "[app mail]\nroute = peer://mail\nlisten = *:25\nto = 127.0.0.1:2525\n"
    "[app rest]\nroute = peer://*\nto = 127.0.0.1:9\n"
    "[reserve http://shop.example/]\nuser = shop\nstatus = 404\n"
    "[reserve http://a.example/]\nuser = web\n";

/* "NAME ROUTE", or "reserved USER", or the reason, or "nobody", for each answer, with a comma. */
static void ask(const char *request, char *buf, size_t size)
{
    struct conf *c = NULL;
    struct conf_errors e = {0};
    struct conf_router *r = NULL;
    struct conf_answer answers[CONF_ANSWERS_MAX];
    char reason[256] = "";
    size_t used = 0;
    buf[0] = 0;
    CHECK_INT(conf_read_text(STR(text), "f", &c, &e), 0);
    CHECK_INT(conf_router_new(c, &r), 0);
    int n = conf_explain(r, request, answers, reason, sizeof reason);
    if (n < 0)
        (void)snprintf(buf, size, "? %s", reason);
    for (int i = 0; i < n && used < size; i++) {
        const struct conf_answer *a = &answers[i];
        used += (size_t)snprintf(buf + used, size - used, "%s%s%s%s%s%s", i ? ", " : "",
                                 a->fate == CONF_FATE_DELIVERED  ? a->app->name
                                 : a->fate == CONF_FATE_RESERVED ? "reserved "
                                 : a->fate == CONF_FATE_REFUSED  ? a->reason
                                                                 : "nobody",
                                 a->reserve ? a->reserve->user : "",
                                 a->route[0] && a->app ? " " : "", a->app ? a->route : "",
                                 a->assumed ? " assumed"
                                 : a->early ? " early"
                                            : "");
    }
    conf_router_free(r);
    conf_free(c);
    conf_errors_done(&e);
}

static void check_ask(const char *request, const char *want)
{
    char got[2048];
    ask(request, got, sizeof got);
    if (strcmp(got, want) != 0)
        test_fail(__FILE__, __LINE__, request, got, want);
}

TEST("the longest path and the narrowest source win")
{
    check_ask("GET http://a.example/api/x", "api http://a.example:80/api/");
    check_ask("http://a.example/api", "api http://a.example:80/api/");
    check_ask("http://a.example/apix", "web http://a.example:80/");
    check_ask("POST http://A.example./api/../x?y=/api/", "web http://a.example:80/");
    check_ask("http://a.example/ from 10.0.0.7", "inside http://a.example:80/?from=10.0.0.0/8");
    check_ask("http://a.example/ from 11.0.0.7", "web http://a.example:80/");
    check_ask("http://a.example/ at [::1]:80 from 10.0.0.7", "web http://a.example:80/");
}

TEST("answers that differ by address are all given")
{
    check_ask("http://a.example:81/", "local http://a.example:81/, reserved web");
    check_ask("http://a.example/ at 127.0.0.2:81", "local http://a.example:81/");
    check_ask("http://127.0.0.3:81/", "every any://*:81");
    check_ask("http://127.0.0.4:81/", "nobody");
}

TEST("TLS goes by its name, and ssh by its first bytes")
{
    check_ask("https://b.example/any/thing", "tls tls://b.example:443");
    check_ask("tls://b.example", "tls tls://b.example:443");
    check_ask("ssh://:443", "shell ssh://*:443");
    check_ask("https://c.example/", "NoRoute");
}

TEST("a reserved name that nobody serves answers for itself")
{
    check_ask("http://shop.example/x", "reserved shop");
    check_ask("http://shop.example:8080/x", "reserved shop");
    check_ask("http://a.example/", "web http://a.example:80/");
}

TEST("what nobody has, nobody gets")
{
    check_ask("http://nobody.example/", "NoRoute");
    check_ask("http://a.example:9999/", "nobody");
    check_ask("redis://:6379", "nobody");
}

TEST("a program whose addresses are not known is asked when nobody else answers")
{
    check_ask("http://dev.localhost:3000/x", "dev http://dev.localhost:3000/ assumed");
    check_ask("http://dev.localhost:3001/x", "nobody");
}

TEST("a request that dispatch would find bad is bad here")
{
    check_ask("http://a.example/%zz", "BadRequest");
    check_ask("BREW http://a.example/", "web http://a.example:80/");
}

TEST("what is no request says what one looks like")
{
    const char *const bad[] = {"",
                               "GET",
                               "a.example",
                               "http://a.example/ to 10.0.0.1",
                               "http://a.example/ from",
                               "http://a.example/ from nowhere",
                               "http://*.example/",
                               "http://a\x01/",
                               "quic://a/",
                               "http://a:b/"};
    char got[2048];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ask(bad[i], got, sizeof got);
        if (got[0] != '?' || strlen(got) < 10)
            test_fail(__FILE__, __LINE__, bad[i], got, "a sentence");
    }
}

TEST("names that may have been meant are found")
{
    struct conf *c = NULL;
    struct conf_errors e = {0};
    struct conf_near near[CONF_NEAR_MAX];
    CHECK_INT(conf_read_text(STR(text), "f", &c, &e), 0);
    CHECK_INT(conf_near(c, "http://xx.exmple/", near), 1);
    CHECK_TEXT(near[0].app->name, "alone");
    CHECK_INT(conf_near(c, "http://b.example:99/", near), CONF_NEAR_MAX);
    CHECK_TEXT(near[0].app->name, "tls");
    CHECK_INT(conf_near(c, "http://www.dev.localhost/", near), 1);
    CHECK_TEXT(near[0].app->name, "dev");
    conf_free(c);
}

TEST("a service goes to who has its name, and to nobody by an address")
{
    check_ask("peer://mail", "mail peer://mail");
    check_ask("peer://web", "rest peer://*");
    check_ask("http://nobody.example:25/", "NoRoute");
}
