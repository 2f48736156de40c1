#include "share/route.h"

#include <stdlib.h>

#include "test.h"

#define MAX_ROUTES 8

/* One line of text is one entry: a route, and behind a space the bound address, by default
 * 0.0.0.0:80. "6only" may follow it. Each has a claim and an application of its own, its index. */
static struct route_entry entry(const char *text, uint32_t index)
{
    char route[ROUTE_TEXT_MAX], bound[128] = "0.0.0.0:80", flag[16] = "", reason[ROUTE_REASON_MAX];
    struct route_entry e = {.claim = index, .app = index};
    CHECK(sscanf(text, "%2000s %127s %15s", route, bound, flag) >= 1);
    if (route_parse(route, &e.route, reason) < 0)
        test_fail(__FILE__, __LINE__, text, reason, "a route");
    if (addr_parse(bound, &e.bound) < 0)
        test_fail(__FILE__, __LINE__, text, bound, "an address");
    e.v6only = strcmp(flag, "6only") == 0;
    return e;
}

static size_t entries_of(const char *const texts[], struct route_entry *ret)
{
    size_t n = 0;
    for (; n < MAX_ROUTES && texts[n]; n++)
        ret[n] = entry(texts[n], (uint32_t)n);
    return n;
}

static struct route_table *table_of(const char *const texts[])
{
    static struct route_entry e[MAX_ROUTES];
    struct route_table *t = route_table_new(e, entries_of(texts, e));
    CHECK(t != NULL);
    return t;
}

static struct addr address(const char *text)
{
    struct addr a = {0};
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

/* A request as a reader would note it down. */
struct request {
    enum proto proto;
    const char *host, *path; /* path: the database for PostgreSQL, the first bytes for PROTO_NONE */
    const char *local, *peer; /* default 10.0.0.1:80, 192.0.2.1:4711 */
    const char *word;         /* user, or ALPN separated by commas */
    bool silent, unread;
};

static void sniffed_fill(const struct request *r, struct sniffed *s)
{
    *s = (struct sniffed){.proto = r->proto, .host = str_of(r->host)};
    if (r->proto == PROTO_POSTGRES)
        s->database = str_of(r->path);
    else if (r->proto != PROTO_NONE)
        s->path = str_of(r->path);
    if (r->proto != PROTO_TLS) {
        s->user = str_of(r->word);
        return;
    }
    for (const char *at = r->word; at; at = at[strcspn(at, ",")] ? at + strcspn(at, ",") + 1 : NULL)
        s->alpn[s->alpn_count++] = (struct str){at, strcspn(at, ",")};
}

static uint32_t match(const struct route_table *t, const struct request *r)
{
    static struct sniffed s;
    sniffed_fill(r, &s);
    struct route_query q = {.local = address(r->local ? r->local : "10.0.0.1:80"),
                            .peer = address(r->peer ? r->peer : "192.0.2.1:4711"),
                            .sniffed = r->unread ? NULL : &s,
                            .silent = r->silent};
    if (r->proto == PROTO_NONE)
        q.head = str_of(r->path);
    return route_match(t, &q);
}

struct match_case {
    const char *routes[MAX_ROUTES];
    struct request request;
    int want; /* index of the route; -1: none */
};

static void check_cases(const struct match_case *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct route_table *t = table_of(c[i].routes);
        int got = (int)match(t, &c[i].request);
        if (got != c[i].want) {
            char g[64], w[64];
            (void)snprintf(g, sizeof g, "route %d for case %zu", got, i);
            (void)snprintf(w, sizeof w, "route %d, of %s ...", c[i].want, c[i].routes[0]);
            test_fail(__FILE__, __LINE__, c[i].request.host ? c[i].request.host : "", g, w);
        }
        route_table_free(t);
    }
}

#define CHECK_CASES(cases) check_cases(cases, sizeof(cases) / sizeof *(cases))
#define HTTP(h, p)                                                                                 \
    {                                                                                              \
        .proto = PROTO_HTTP, .host = (h), .path = (p)                                              \
    }
#define TLS(h, a)                                                                                  \
    {                                                                                              \
        .proto = PROTO_TLS, .host = (h), .word = (a)                                               \
    }
#define BYTES(b)                                                                                   \
    {                                                                                              \
        .path = (b)                                                                                \
    }

TEST("strong wildcard, host, label, address, weak wildcard: the first that has a hit wins")
{
#define ALL                                                                                        \
    {                                                                                              \
        "http://*/", "http://10.0.0.1/", "http://*.example.org/", "http://a.example.org/",         \
            "http://+/strong/"                                                                     \
    }
    static const struct match_case cases[] = {
        {ALL, HTTP("a.example.org", "/strong/x"), 4},
        {ALL, HTTP("elsewhere", "/strong"), 4},
        {ALL, HTTP("a.example.org", "/"), 3},
        {ALL, HTTP("b.example.org", "/"), 2},
        {ALL, HTTP("a.b.example.org", "/"), 1},
        {ALL, HTTP("example.org", "/"), 1},
        {ALL, HTTP("", "/"), 1},
        {ALL, {PROTO_HTTP, "example.org", "/", .local = "10.0.0.2:80"}, 0},
        {ALL, {PROTO_H2, "a.example.org", "/"}, 3},
        {ALL, {PROTO_HTTP, "a.example.org", "/", .local = "10.0.0.1:81"}, -1},
        {ALL, {PROTO_HTTP, "a.example.org", "/", .local = "[::ffff:10.0.0.1]:80"}, 3},
        {ALL, {PROTO_HTTP, "x", "/", .local = "[::ffff:10.0.0.1]:80"}, 1},
        {ALL, {PROTO_HTTP, "a.example.org", "/", .local = "[::1]:80"}, -1},
        {ALL, TLS("a.example.org", NULL), -1},
        /* A longer path in a lower category does not win. */
        {{"http://*/a/b/c/", "http://h/a/"}, HTTP("h", "/a/b/c/"), 1},
        {{"http://*/a/b/c/", "http://h/x/"}, HTTP("h", "/a/b/c/"), 0},
        {{"http://*.localhost/"}, HTTP(".localhost", "/"), -1},
        {{"http://*.localhost/"}, HTTP("localhost", "/"), -1},
    };
    CHECK_CASES(cases);
}

TEST("the longest path wins, by whole segments")
{
#define PATHS                                                                                      \
    {                                                                                              \
        "http://h/", "http://h/dir/", "http://h/dir/sna/", "http://h/dir/sna/deep/er/",            \
            "http://h/dir.d/", "http://h/d%2Fr/"                                                   \
    }
    static const struct match_case cases[] = {
        {PATHS, HTTP("h", "/"), 0},
        {PATHS, HTTP("h", ""), 0},
        {PATHS, HTTP("h", "*"), 0},
        {PATHS, HTTP("h", "/other"), 0},
        {PATHS, HTTP("h", "/di"), 0},
        {PATHS, HTTP("h", "/dirt/"), 0},
        {PATHS, HTTP("h", "/dir"), 1},
        {PATHS, HTTP("h", "/dir/app.htm"), 1},
        {PATHS, HTTP("h", "/dir/snap"), 1},
        {PATHS, HTTP("h", "/dir/sn"), 1},
        {PATHS, HTTP("h", "/dir/sna"), 2},
        {PATHS, HTTP("h", "/dir/sna/"), 2},
        {PATHS, HTTP("h", "/dir/sna/deep"), 2},
        {PATHS, HTTP("h", "/dir/sna/deep/er"), 3},
        {PATHS, HTTP("h", "/dir/sna/deep/er/and/deeper"), 3},
        {PATHS, HTTP("h", "/dir.d/x"), 4},
        {PATHS, HTTP("h", "/dir.d"), 4},
        {PATHS, HTTP("h", "/dir!"), 0},
        {PATHS, HTTP("h", "/d%2Fr/x"), 5},
        {PATHS, HTTP("h", "/Dir/"), 0},
        {{"http://h/dir/sna/"}, HTTP("h", "/dir/app.htm"), -1},
        {{"http://h/dir/sna/"}, HTTP("h", "/dir/sna"), 0},
        {{"http://h/dir/sna/"}, HTTP("h", "/"), -1},
    };
    CHECK_CASES(cases);
}

TEST("only programs that bound the local address count")
{
    static const struct match_case cases[] = {
        {{"http://h/ 127.0.0.1:80", "http://* 0.0.0.0:80"}, HTTP("h", "/"), 1},
        {{"http://h/ 127.0.0.1:80", "http://* 0.0.0.0:80"},
         {PROTO_HTTP, "h", "/", .local = "127.0.0.1:80"},
         0},
        {{"http://h/ 127.0.0.1:80"}, HTTP("h", "/"), -1},
        {{"http://h/a/ 127.0.0.1:80", "http://h/"},
         {PROTO_HTTP, "h", "/a/", .local = "127.0.0.2:80"},
         1},
        {{"http://h/ [::]:80", "http://h/ 0.0.0.0:80"}, HTTP("h", "/"), 1},
        {{"http://h/ [::]:80", "http://h/x/ 0.0.0.0:80"}, HTTP("h", "/"), 0},
        {{"http://h/ [::]:80"}, {PROTO_HTTP, "h", "/", .local = "[::1]:80"}, 0},
        {{"http://h/ [::]:80 6only"}, HTTP("h", "/"), -1},
        {{"http://h/ [::]:80", "http://h/ [::]:80 6only"},
         {PROTO_HTTP, "h", "/", .local = "[::1]:80"},
         1},
        {{"http://h/ 0.0.0.0:80", "http://h/ 10.0.0.1:80"}, HTTP("h", "/"), 1},
        {{"http://h/ unix:/run/a", "http://h/ unix:/run/b"},
         {PROTO_HTTP, "h", "/", .local = "unix:/run/b"},
         1},
        {{"http://h/ unix:/run/a"}, {PROTO_HTTP, "h", "/", .local = "unix:/run/c"}, -1},
    };
    CHECK_CASES(cases);
}

TEST("source, ALPN and user narrow a route, and the narrower one wins")
{
    static const struct match_case cases[] = {
        {{"http://h/", "http://h/?from=192.0.2.0/24", "http://h/?from=192.0.2.1"},
         HTTP("h", "/"),
         2},
        {{"http://h/", "http://h/?from=192.0.2.0/24", "http://h/?from=192.0.2.1"},
         {PROTO_HTTP, "h", "/", .peer = "192.0.2.9:1"},
         1},
        {{"http://h/", "http://h/?from=192.0.2.0/24"},
         {PROTO_HTTP, "h", "/", .peer = "192.0.3.9:1"},
         0},
        {{"http://h/?from=0.0.0.0/0", "http://h/"}, HTTP("h", "/"), 0},
        {{"http://h/?from=::/0", "http://h/"}, HTTP("h", "/"), 1},
        /* A longer path that does not take this source gives way to a shorter one. */
        {{"http://h/a/?from=10.0.0.0/8", "http://h/"}, HTTP("h", "/a/"), 1},
        {{"http://h/?from=10.0.0.0/8", "http://*/"}, HTTP("h", "/"), 1},
        {{"tls://*", "tls://*?alpn=acme-tls/1"}, TLS("h", "acme-tls/1"), 1},
        {{"tls://*", "tls://*?alpn=acme-tls/1"}, TLS("h", "h2,http/1.1"), 0},
        {{"tls://*", "tls://*?alpn=acme-tls/1"}, TLS("h", "h2,acme-tls/1"), 1},
        {{"tls://*", "tls://*?alpn=acme-tls/1"}, TLS("h", NULL), 0},
        {{"tls://*?alpn=h2"}, TLS("h", "h"), -1},
        {{"tls://*?alpn=acme-tls/1", "tls://h"}, TLS("h", "acme-tls/1"), 1},
        {{"mqtt://*", "mqtt://*?user=pump"}, {PROTO_MQTT, .word = "pump"}, 1},
        {{"mqtt://*", "mqtt://*?user=pump"}, {PROTO_MQTT, .word = "fan"}, 0},
        {{"rdp://*?user=bob"}, {PROTO_RDP, .word = ""}, -1},
        {{"postgres://*", "postgres://*/shop", "postgres://*/shop?user=al", "postgres://*?user=al"},
         {PROTO_POSTGRES, .path = "shop", .word = "al"},
         2},
        {{"postgres://*", "postgres://*/shop", "postgres://*/shop?user=al", "postgres://*?user=al"},
         {PROTO_POSTGRES, .path = "shop", .word = "bo"},
         1},
        {{"postgres://*", "postgres://*/shop", "postgres://*/shop?user=al", "postgres://*?user=al"},
         {PROTO_POSTGRES, .path = "shopping", .word = "al"},
         3},
        {{"postgres://*", "postgres://*/shop", "postgres://*/shopping"},
         {PROTO_POSTGRES, .path = "shopp"},
         0},
        {{"postgres://*", "postgres://*/shop"}, {PROTO_POSTGRES}, 0},
        {{"postgres://*/shop"}, {PROTO_POSTGRES, .path = "sho"}, -1},
    };
    CHECK_CASES(cases);
}

TEST("each protocol goes to its scheme, then to prefixes, then to any")
{
#define MIXED                                                                                      \
    {                                                                                              \
        "ssh://*", "socks://*", "redis://*", "xmpp://chat.example", "prefix://*/HELO%20",          \
            "prefix://*/HELO%20x", "tls://*"                                                       \
    }
    static const struct match_case cases[] = {
        {MIXED, {PROTO_SSH}, 0},
        {MIXED, {PROTO_SOCKS}, 1},
        {MIXED, {PROTO_REDIS}, 2},
        {MIXED, {PROTO_XMPP, "chat.example"}, 3},
        {MIXED, {PROTO_XMPP, "talk.example"}, -1},
        {MIXED, TLS("", NULL), 6},
        {MIXED, BYTES("HELO you"), 4},
        {MIXED, BYTES("HELO xy"), 5},
        {MIXED, BYTES("HELO x"), 5},
        {MIXED, BYTES("HELO"), -1},
        {MIXED, {PROTO_HTTP, "h", "/"}, -1},
        {MIXED, {PROTO_MQTT}, -1},
        {MIXED, {.silent = true}, 0},
        {MIXED, {.silent = true, .unread = true}, 0},
        {MIXED, {.unread = true}, -1},
        {{"any://*", "http://h/"}, HTTP("h", "/"), 1},
        {{"any://*", "http://h/"}, HTTP("i", "/"), 0},
        {{"any://*", "http://h/"}, BYTES("x"), 0},
        {{"any://*", "http://h/"}, {.silent = true}, 0},
        {{"any://*", "ssh://*"}, {.silent = true}, 1},
        {{"any://*", "ssh://+"}, {.silent = true, .unread = true}, 1},
        {{"any://h", "any://*"}, {PROTO_TLS, "h"}, 0},
        {{"ssh://10.0.0.2", "any://*"}, {PROTO_SSH}, 1},
        {{"ssh://10.0.0.1", "ssh://*"}, {PROTO_SSH}, 0},
        {{"prefix://+/A", "prefix://*/AB", "prefix://10.0.0.1/ABC"}, BYTES("ABC"), 0},
        {{"prefix://*/AB", "prefix://10.0.0.1/A"}, BYTES("ABC"), 1},
        {{"prefix://*/%16%03?from=10.0.0.0/8", "prefix://*/%16"}, BYTES("\x16\x03\x01"), 1},
        {{"tcp://*", "http://h/"}, HTTP("i", "/"), -1},
    };
    CHECK_CASES(cases);
}

TEST("a prefix route sees the bytes of a protocol that nobody serves")
{
    struct route_table *t = table_of((const char *const[MAX_ROUTES]){"prefix://*/GET", "any://*"});
    struct sniffed s = {.proto = PROTO_HTTP, .host = STR("h"), .path = STR("/")};
    struct route_query q = {.local = address("10.0.0.1:80"), .sniffed = &s, .head = STR("GET / ")};
    CHECK_INT(route_match(t, &q), 0);
    q.head = STR("PUT / ");
    CHECK_INT(route_match(t, &q), 1);
    route_table_free(t);
}

struct early_case {
    const char *routes[MAX_ROUTES];
    const char *apps; /* one letter an entry; NULL: all are different */
    const char *local, *peer;
    enum route_early want;
    int claim;
};

static void check_early(const struct early_case *c)
{
    struct route_entry e[MAX_ROUTES];
    size_t n = entries_of(c->routes, e);
    for (size_t i = 0; c->apps && i < n; i++)
        e[i].app = (uint32_t)c->apps[i];
    struct route_table *t = route_table_new(e, n);
    struct addr local = address(c->local ? c->local : "10.0.0.1:80");
    struct addr peer = address(c->peer ? c->peer : "192.0.2.1:4711");
    uint32_t claim = 99;
    CHECK_INT(route_match_early(t, &local, &peer, &claim), c->want);
    CHECK_INT(claim, c->want == ROUTE_CLAIM ? c->claim : 99);
    if (test_failed)
        (void)printf("# in the case of %s for %s\n", c->routes[0] ? c->routes[0] : "", c->local);
    route_table_free(t);
}

TEST("what addresses alone decide is decided before a byte is read")
{
    static const struct early_case cases[] = {
        {{NULL}, .want = ROUTE_NOBODY},
        {{"http://h/"}, .want = ROUTE_CLAIM, .claim = 0},
        {{"http://h/"}, .local = "10.0.0.1:81", .want = ROUTE_NOBODY},
        {{"http://h/ 127.0.0.1:80"}, .want = ROUTE_NOBODY},
        {{"http://h/", "tls://h"}, .want = ROUTE_SNIFF},
        {{"http://h/", "tls://h"}, "AA", .want = ROUTE_CLAIM, .claim = 0},
        {{"http://h/", "tls://h", "ssh://*"}, "AAB", .want = ROUTE_SNIFF},
        /* The other one is not on this address. */
        {{"http://h/", "tls://h 127.0.0.1:80"}, .want = ROUTE_CLAIM, .claim = 0},
        {{"http://h/", "tls://h 127.0.0.1:80"}, .local = "127.0.0.1:80", .want = ROUTE_SNIFF},
        {{"http://h/ 0.0.0.0:80", "http://h/ 127.0.0.1:80"},
         "AA",
         "127.0.0.1:80",
         NULL,
         ROUTE_CLAIM,
         1},
        {{"http://h/ [::]:80", "http://i/ 0.0.0.0:80"}, .want = ROUTE_SNIFF},
        {{"http://h/ [::]:80", "http://i/ 0.0.0.0:80"},
         .local = "[::1]:80",
         .want = ROUTE_CLAIM,
         .claim = 0},
        /* One application that does not take every source is not alone. */
        {{"http://h/?from=192.0.2.0/24"}, .want = ROUTE_SNIFF},
        {{"http://h/?from=192.0.2.0/24", "tls://h"}, "AA", .want = ROUTE_SNIFF},
        {{"tcp://*", "http://h/"}, .want = ROUTE_CLAIM, .claim = 0},
        {{"http://h/", "tcp://10.0.0.1", "tcp://*"}, .want = ROUTE_CLAIM, .claim = 1},
        {{"http://h/", "tcp://10.0.0.2", "tcp://*"}, .want = ROUTE_CLAIM, .claim = 2},
        {{"http://h/", "tcp://10.0.0.2"}, .want = ROUTE_SNIFF},
        {{"http://h/", "tcp://*?from=192.0.2.0/24"}, .want = ROUTE_CLAIM, .claim = 1},
        {{"http://h/", "tcp://*?from=192.0.2.0/24"}, .peer = "192.0.3.1:1", .want = ROUTE_SNIFF},
        {{"tcp://10.0.0.1", "tcp://*?from=192.0.2.0/24"}, .want = ROUTE_CLAIM, .claim = 1},
        {{"tcp://*?from=192.0.2.0/24", "tcp://10.0.0.1?from=192.0.0.0/16"},
         .want = ROUTE_CLAIM,
         .claim = 0},
        {{"tcp://* 127.0.0.1:80", "http://h/", "http://i/"}, .want = ROUTE_SNIFF},
        {{"http://h/ unix:/run/a"}, .local = "unix:/run/a", .want = ROUTE_CLAIM, .claim = 0},
        {{"http://h/ unix:/run/a"}, .local = "unix:/run/b", .want = ROUTE_NOBODY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_early(&cases[i]);
}

static bool uniform(const char *const texts[], const char *bound, bool v6only)
{
    struct route_table *t = table_of(texts);
    struct addr a = address(bound);
    bool answer = route_early_is_uniform(t, &a, v6only);
    route_table_free(t);
    return answer;
}

#define ROUTES(...) ((const char *const[MAX_ROUTES]){__VA_ARGS__})

TEST("early answers are uniform when no address and no source can change them")
{
    CHECK(uniform(ROUTES("http://h/"), "0.0.0.0:80", false));
    CHECK(uniform(ROUTES("http://h/", "tls://i"), "0.0.0.0:80", false));
    CHECK(uniform(ROUTES("http://h/"), "0.0.0.0:81", false));
    CHECK(!uniform(ROUTES("http://h/", "http://i/ 127.0.0.1:80"), "0.0.0.0:80", false));
    CHECK(uniform(ROUTES("http://h/", "http://i/ 127.0.0.1:80"), "127.0.0.1:80", false));
    CHECK(uniform(ROUTES("http://h/", "http://i/ [::1]:80"), "0.0.0.0:80", false));
    CHECK(!uniform(ROUTES("http://h/ [::]:80", "http://i/ [::1]:80"), "[::]:80", true));
    CHECK(!uniform(ROUTES("http://h/ [::]:80", "http://i/ 127.0.0.1:80"), "[::]:80", false));
    CHECK(!uniform(ROUTES("http://h/ [::]:80", "http://i/ 0.0.0.0:80"), "[::]:80", false));
    CHECK(uniform(ROUTES("http://h/ [::]:80"), "[::]:80", false));
    CHECK(uniform(ROUTES("http://h/?from=10.0.0.0/8"), "0.0.0.0:80", false));
    CHECK(!uniform(ROUTES("tcp://*?from=10.0.0.0/8"), "0.0.0.0:80", false));
    CHECK(!uniform(ROUTES("tcp://10.0.0.1"), "0.0.0.0:80", false));
    CHECK(uniform(ROUTES("tcp://10.0.0.1"), "10.0.0.1:80", false));
    CHECK(uniform(ROUTES("tcp://*"), "0.0.0.0:80", false));
}

TEST("more bytes are wanted while a longer prefix is still possible")
{
    struct route_table *t = table_of(ROUTES("prefix://*/HELO%20", "prefix://*/HELO%20world",
                                            "prefix://10.0.0.2/EHLO", "http://h/"));
    struct addr a = address("10.0.0.1:80"), b = address("10.0.0.2:80"), c = address("10.0.0.1:81");
    CHECK(route_wants_more(t, &a, STR("")));
    CHECK(route_wants_more(t, &a, STR("H")));
    CHECK(route_wants_more(t, &a, STR("HELO ")));
    CHECK(route_wants_more(t, &a, STR("HELO worl")));
    CHECK(!route_wants_more(t, &a, STR("HELO world")));
    CHECK(!route_wants_more(t, &a, STR("HELO x")));
    CHECK(!route_wants_more(t, &a, STR("EH")));
    CHECK(route_wants_more(t, &b, STR("EH")));
    CHECK(!route_wants_more(t, &c, STR("")));
    route_table_free(t);
}

struct listing {
    char text[2048];
    int left;
};

static bool list_one(void *ctx, const struct route_entry *e)
{
    struct listing *l = ctx;
    char route[ROUTE_TEXT_MAX], bound[ADDR_TEXT_MAX];
    size_t n = strlen(l->text);
    (void)snprintf(l->text + n, sizeof l->text - n, "%s %s%s %u/%u\n",
                   route_format(&e->route, route), addr_format(&e->bound, bound),
                   e->v6only ? " 6only" : "", e->claim, e->app);
    return --l->left > 0;
}

TEST("the list of a port shows whole entries, in order, each once")
{
    struct route_entry e[MAX_ROUTES];
    size_t n = entries_of(ROUTES("tls://b:443?alpn=h2", "http://b:80/x/", "http://a/ [::]:80",
                                 "http://*/?from=10.0.0.0/8", "http://a/ 127.0.0.1:80",
                                 "rdp://10.0.0.1?user=bob 10.0.0.1:80", "prefix://*/a%00",
                                 "http://b:80/x/ [::]:80"),
                          e);
    e[7].claim = e[1].claim;
    e[7].app = e[1].app;
    struct route_table *t = route_table_new(e, n);
    struct addr local = address("10.0.0.1:80");
    struct listing l = {.left = 100};
    route_each(t, &local, list_one, &l);
    CHECK_TEXT(l.text, "rdp://10.0.0.1?user=bob 10.0.0.1:80 5/5\n"
                       "http://b:80/x/ 0.0.0.0:80 1/1\n"
                       "http://*/?from=10.0.0.0/8 0.0.0.0:80 3/3\n"
                       "tls://b:443?alpn=h2 0.0.0.0:80 0/0\n"
                       "prefix://*/a%00 0.0.0.0:80 6/6\n"
                       "http://a/ [::]:80 2/2\n");
    l = (struct listing){.left = 2};
    route_each(t, &local, list_one, &l);
    CHECK_TEXT(l.text, "rdp://10.0.0.1?user=bob 10.0.0.1:80 5/5\n"
                       "http://b:80/x/ 0.0.0.0:80 1/1\n");
    route_table_free(t);
}

TEST("an empty table answers everything with no")
{
    struct route_table *t = route_table_new(NULL, 0);
    struct addr a = address("10.0.0.1:80");
    uint32_t claim;
    struct listing l = {.left = 9};
    CHECK_INT(match(t, &(struct request)HTTP("h", "/")), ROUTE_NONE);
    CHECK_INT(route_match_early(t, &a, &a, &claim), ROUTE_NOBODY);
    CHECK(route_early_is_uniform(t, &a, false));
    CHECK(!route_wants_more(t, &a, STR("")));
    route_each(t, &a, list_one, &l);
    CHECK_TEXT(l.text, "");
    CHECK(route_table_bytes(t) < 4096);
    route_table_free(t);
    route_table_free(NULL);
}
