/* Random tables and random connections: the table must answer as a linear search does that follows
 * the rules of the design word by word, one entry after the other. The seeds are fixed. */
#include "share/route.h"

#include <stdlib.h>

#include "test.h"

#define PICK(list) (list)[rnd(sizeof(list) / sizeof *(list))]

static uint64_t state;

static uint32_t rnd(size_t below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

static struct addr address(const char *text)
{
    struct addr a = {0};
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

/* The rules. */

static bool naive_host(const struct route *r, const struct addr *local, struct str host)
{
    struct addr a = addr_unmap(local);
    const char *dot = host.n > 0 ? memchr(host.p, '.', host.n) : NULL;
    switch (r->kind) {
    case HOST_NAME:
        return str_eq(host, str_of(r->host));
    case HOST_LABEL:
        return dot && dot > host.p &&
               str_eq(str_skip(host, (size_t)(dot - host.p) + 1), str_of(r->host));
    case HOST_ADDR:
        addr_set_port(&a, 0);
        return addr_equal(&r->addr, &a);
    default:
        return true;
    }
}

static bool naive_path(const struct route *r, const struct route_query *q)
{
    struct str path = {r->path, r->path_len};
    if (r->scheme == SCHEME_HTTP) {
        char request[256];
        struct str s = q->sniffed->path;
        bool rooted = s.n > 0 && s.p[0] == '/';
        (void)snprintf(request, sizeof request, STR_FMT "/", STR_ARG(s));
        return str_starts(str_of(rooted ? request : "/"), path);
    }
    if (r->scheme == SCHEME_POSTGRES)
        return path.n == 0 || str_eq(path, q->sniffed->database);
    return r->scheme != SCHEME_PREFIX || str_starts(q->head, path);
}

static bool naive_word(const struct route *r, const struct route_query *q)
{
    if (r->user[0] && !(q->sniffed && str_eq(str_of(r->user), q->sniffed->user)))
        return false;
    if (!r->alpn[0])
        return true;
    for (int i = 0; q->sniffed && i < q->sniffed->alpn_count; i++)
        if (str_eq(str_of(r->alpn), q->sniffed->alpn[i]))
            return true;
    return false;
}

static int naive_bound(const struct route_entry *e)
{
    if (!addr_is_wildcard(&e->bound))
        return 2;
    return e->bound.sa.sa_family == AF_INET || e->v6only;
}

/* Is a better than b for the same connection? What came first stays. */
static bool naive_better(const struct route_entry *a, const struct route_entry *b)
{
    const struct route *x = &a->route, *y = &b->route;
    int rank[][2] = {
        {y->kind, x->kind}, /* the category first, lower is better */
        {x->path_len, y->path_len},
        {x->from.family ? x->from.bits + 1 : 0, y->from.family ? y->from.bits + 1 : 0},
        {x->alpn[0] || x->user[0], y->alpn[0] || y->user[0]},
        {naive_bound(a), naive_bound(b)},
    };
    for (size_t i = 0; i < sizeof rank / sizeof *rank; i++)
        if (rank[i][0] != rank[i][1])
            return rank[i][0] > rank[i][1];
    return false;
}

static uint32_t naive_scheme(const struct route_entry *e, size_t n, const struct route_query *q,
                             enum route_scheme scheme)
{
    const struct route_entry *best = NULL;
    struct str host = q->sniffed ? q->sniffed->host : (struct str){"", 0};
    for (size_t i = 0; i < n; i++) {
        const struct route *r = &e[i].route;
        if (r->scheme != scheme || !addr_covers(&e[i].bound, e[i].v6only, &q->local) ||
            !prefix_matches(&r->from, &q->peer) || !naive_host(r, &q->local, host) ||
            !naive_path(r, q) || !naive_word(r, q))
            continue;
        if (!best || naive_better(&e[i], best))
            best = &e[i];
    }
    return best ? best->claim : ROUTE_NONE;
}

static uint32_t naive_match(const struct route_entry *e, size_t n, const struct route_query *q)
{
    enum proto proto = q->sniffed ? q->sniffed->proto : PROTO_NONE;
    uint32_t claim = ROUTE_NONE;
    if (proto == PROTO_HTTP || proto == PROTO_H2)
        claim = naive_scheme(e, n, q, SCHEME_HTTP);
    else if (proto == PROTO_TLS)
        claim = naive_scheme(e, n, q, SCHEME_TLS);
    else if (proto == PROTO_POSTGRES)
        claim = naive_scheme(e, n, q, SCHEME_POSTGRES);
    else if (proto == PROTO_SSH || (proto == PROTO_NONE && q->silent))
        claim = naive_scheme(e, n, q, SCHEME_SSH);
    if (claim == ROUTE_NONE)
        claim = naive_scheme(e, n, q, SCHEME_PREFIX);
    return claim == ROUTE_NONE ? naive_scheme(e, n, q, SCHEME_ANY) : claim;
}

static enum route_early naive_early(const struct route_entry *e, size_t n,
                                    const struct route_query *q, uint32_t *ret_app)
{
    const struct route_entry *first = NULL, *tcp = NULL;
    bool solo = true;
    for (size_t i = 0; i < n; i++) {
        const struct route *r = &e[i].route;
        if (!addr_covers(&e[i].bound, e[i].v6only, &q->local))
            continue;
        first = first ? first : &e[i];
        solo = solo && e[i].app == first->app && r->from.family == AF_UNSPEC;
        if (r->scheme != SCHEME_TCP || !prefix_matches(&r->from, &q->peer) ||
            !naive_host(r, &q->local, STR("")))
            continue;
        int from = r->from.family ? r->from.bits + 1 : 0, addr = r->kind == HOST_ADDR;
        int best = tcp && tcp->route.from.family ? tcp->route.from.bits + 1 : 0;
        if (!tcp || from > best || (from == best && addr > (tcp->route.kind == HOST_ADDR)) ||
            (from == best && addr == (tcp->route.kind == HOST_ADDR) && naive_better(&e[i], tcp)))
            tcp = &e[i];
    }
    if (!first)
        return ROUTE_NOBODY;
    *ret_app = tcp ? tcp->app : first->app;
    return tcp || solo ? ROUTE_CLAIM : ROUTE_SNIFF;
}

/* The dice. Universes are small, so that everything collides with everything. */

static const char *const bounds[] = {"0.0.0.0:80",   "0.0.0.0:80", "[::]:80",    "127.0.0.1:80",
                                     "127.0.0.2:80", "[::1]:80",   "0.0.0.0:81", "127.0.0.1:81",
                                     "unix:/run/a",  "10.0.0.1:80"};
static const char *const locals[] = {"127.0.0.1:80", "127.0.0.2:80",         "10.0.0.1:80",
                                     "[::1]:80",     "[fd00::1]:80",         "127.0.0.1:81",
                                     "unix:/run/a",  "[::ffff:127.0.0.1]:80"};
static const char *const peers[] = {"10.1.2.3:9", "10.1.9.9:9", "[fd00::2]:9", "127.0.0.1:9",
                                    "[::ffff:10.1.2.3]:9"};
static const char *const hosts[] = {"*",
                                    "+",
                                    "a.b",
                                    "c.a.b",
                                    "*.b",
                                    "*.a.b",
                                    "127.0.0.1",
                                    "[::1]",
                                    "10.0.0.1",
                                    "longer-than-eight.b",
                                    "longer-than-9.b"};
static const char *const plain_hosts[] = {"*", "*", "+", "127.0.0.1", "[::1]"};
static const char *const paths[] = {"/",     "/x/",    "/x/y/", "/x/y/z/", "/xy/",
                                    "/x.y/", "/x/yy/", "/y/",   "/x!/",    "/%2F/"};
static const char *const froms[] = {"",
                                    "",
                                    "",
                                    "",
                                    "",
                                    "from=10.0.0.0/8",
                                    "from=10.1.2.0/24",
                                    "from=10.1.2.3",
                                    "from=fd00::/16",
                                    "from=0.0.0.0/0"};
static const char *const words[] = {"p", "q", "pp"};
static const char *const bytes[] = {"", "A", "AB", "ABC", "AC", "B", "GET"};

static struct route_entry random_entry(uint32_t claim)
{
    static const char *const schemes[] = {"http", "http", "http",   "tls", "postgres",
                                          "ssh",  "tcp",  "prefix", "any"};
    const char *scheme = PICK(schemes), *from = PICK(froms), *path = "";
    bool named = strchr("ha", scheme[0]) || strcmp(scheme, "tls") == 0;
    char text[256], word[32] = "", tail[32] = "", reason[ROUTE_REASON_MAX];
    if (scheme[0] == 'h')
        path = PICK(paths);
    if (strcmp(scheme, "prefix") == 0 || scheme[1] == 'o')
        (void)snprintf(tail, sizeof tail, "/%s",
                       scheme[1] == 'o' ? bytes[rnd(3)] : bytes[1 + rnd(5)]);
    if ((scheme[1] == 'o' || scheme[1] == 'l') && rnd(2))
        (void)snprintf(word, sizeof word, "%s=%s&", scheme[1] == 'o' ? "user" : "alpn",
                       PICK(words));
    (void)snprintf(text, sizeof text, "%s://%s%s%s?%s%s", scheme,
                   named ? PICK(hosts) : PICK(plain_hosts), path, tail, word, from);
    struct route_entry e = {.claim = claim, .app = rnd(3)};
    if (route_parse(text, &e.route, reason) < 0)
        test_fail(__FILE__, __LINE__, text, reason, "a route");
    e.bound = address(PICK(bounds));
    e.v6only = rnd(2);
    return e;
}

static void random_query(struct route_query *q, struct sniffed *s)
{
    static const enum proto protos[] = {PROTO_NONE, PROTO_HTTP, PROTO_HTTP,     PROTO_H2,
                                        PROTO_TLS,  PROTO_SSH,  PROTO_POSTGRES, PROTO_MQTT};
    static const char *const names[] = {
        "", "a.b", "c.a.b", "d.b", "b", "longer-than-eight.b", "longer-than-7.b", ".b"};
    static const char *const requests[] = {"",        "/",      "/x",    "/x/",      "/x/y",
                                           "/x/y/zz", "/x/y/z", "/xy",   "/x.y/1",   "/x!",
                                           "/w",      "*",      "/%2F/", "/x/yy/1/2"};
    *s = (struct sniffed){.proto = PICK(protos), .host = str_of(PICK(names))};
    s->path = str_of(PICK(requests));
    s->database = str_of(PICK(bytes));
    s->user = str_of(PICK(words));
    s->alpn_count = (uint8_t)rnd(3);
    for (int i = 0; i < s->alpn_count; i++)
        s->alpn[i] = str_of(PICK(words));
    *q = (struct route_query){.local = address(PICK(locals)),
                              .peer = address(PICK(peers)),
                              .sniffed = rnd(8) ? s : NULL,
                              .head = str_of(PICK(bytes)),
                              .silent = rnd(4) == 0};
}

static void explain(const struct route_entry *e, size_t n, const struct route_query *q)
{
    char text[ROUTE_TEXT_MAX], bound[ADDR_TEXT_MAX];
    for (size_t i = 0; i < n; i++)
        (void)printf("# %zu %s %s%s app %u\n", i, route_format(&e[i].route, text),
                     addr_format(&e[i].bound, bound), e[i].v6only ? " 6only" : "", e[i].app);
    (void)printf("# local %s", addr_format(&q->local, bound));
    (void)printf(" peer %s silent %d head " STR_FMT, addr_format(&q->peer, bound), q->silent,
                 STR_ARG(q->head));
    if (q->sniffed)
        (void)printf(" proto %d host " STR_FMT " path " STR_FMT, q->sniffed->proto,
                     STR_ARG(q->sniffed->host), STR_ARG(q->sniffed->path));
    (void)printf("\n");
}

static void compare(const struct route_table *t, const struct route_entry *e, size_t n,
                    const struct route_query *q)
{
    CHECK_INT((int)route_match(t, q), (int)naive_match(e, n, q));
    uint32_t claim = 0, app = 0;
    enum route_early early = route_match_early(t, &q->local, &q->peer, &claim);
    CHECK_INT(early, naive_early(e, n, q, &app));
    if (early == ROUTE_CLAIM && claim < n) {
        CHECK_INT(e[claim].app, app);
        CHECK(addr_covers(&e[claim].bound, e[claim].v6only, &q->local));
    }
    if (test_failed)
        explain(e, n, q);
}

TEST("random tables answer as a linear search by the rules does")
{
    static struct route_entry e[64];
    static struct sniffed s;
    struct route_query q;
    state = 1;
    for (int round = 0; round < 1500 && !test_failed; round++) {
        size_t n = rnd(round % 3 ? 12 : 64) + 1;
        for (size_t i = 0; i < n; i++)
            e[i] = random_entry((uint32_t)i);
        struct route_table *t = route_table_new(e, n);
        for (int i = 0; i < 60 && !test_failed; i++) {
            random_query(&q, &s);
            compare(t, e, n, &q);
        }
        route_table_free(t);
    }
}

TEST("where early answers are called uniform, all addresses and sources get the same")
{
    static struct route_entry e[8];
    size_t uniform = 0;
    state = 2;
    for (int round = 0; round < 3000 && !test_failed; round++) {
        size_t n = rnd(4) + 1;
        for (size_t i = 0; i < n; i++)
            e[i] = random_entry((uint32_t)i);
        struct route_table *t = route_table_new(e, n);
        struct addr bound = address(PICK(bounds));
        bool v6only = rnd(2), first = true;
        enum route_early want = ROUTE_NOBODY;
        uint32_t want_claim = 0;
        bool is = route_early_is_uniform(t, &bound, v6only);
        uniform += is;
        for (size_t i = 0; is && i < sizeof locals / sizeof *locals * 5; i++) {
            struct addr local = address(locals[i / 5]), peer = address(peers[i % 5]);
            uint32_t claim = 0;
            if (!addr_covers(&bound, v6only, &local))
                continue;
            enum route_early got = route_match_early(t, &local, &peer, &claim);
            want = first ? got : want;
            want_claim = first ? claim : want_claim;
            first = false;
            CHECK_INT(got, want);
            CHECK_INT(claim, want_claim);
        }
        route_table_free(t);
    }
    CHECK(uniform > 500);
}

static bool wants_more(const struct route_entry *e, size_t n, const struct addr *local,
                       struct str head)
{
    for (size_t i = 0; i < n; i++) {
        const struct route *r = &e[i].route;
        if (r->scheme == SCHEME_PREFIX && addr_covers(&e[i].bound, e[i].v6only, local) &&
            naive_host(r, local, STR("")) && r->path_len > head.n &&
            str_starts((struct str){r->path, r->path_len}, head))
            return true;
    }
    return false;
}

static bool count_one(void *ctx, const struct route_entry *e)
{
    size_t *n = ctx;
    CHECK(e->claim < 64);
    ++*n;
    return true;
}

TEST("prefixes still possible and the list agree with a linear search, too")
{
    static struct route_entry e[64];
    state = 3;
    for (int round = 0; round < 500 && !test_failed; round++) {
        size_t n = rnd(40) + 1, listed = 0, covered = 0;
        for (size_t i = 0; i < n; i++)
            e[i] = random_entry((uint32_t)i);
        struct route_table *t = route_table_new(e, n);
        struct addr local = address(PICK(locals));
        for (size_t i = 0; i < sizeof bytes / sizeof *bytes; i++)
            CHECK_INT(route_wants_more(t, &local, str_of(bytes[i])),
                      wants_more(e, n, &local, str_of(bytes[i])));
        for (size_t i = 0; i < n; i++)
            covered += addr_covers(&e[i].bound, e[i].v6only, &local);
        route_each(t, &local, count_one, &listed);
        CHECK_INT(listed, covered);
        route_table_free(t);
    }
}

/* 100,000 routes of the given form, each with its number in it; every one must be found. */
static void check_many(const char *form, enum proto proto, const char *path)
{
    enum { MANY = 100000 };
    struct route_entry *e = calloc(MANY, sizeof *e);
    char text[128], reason[ROUTE_REASON_MAX];
    for (uint32_t i = 0; e && i < MANY; i++) {
        (void)snprintf(text, sizeof text, form, i);
        e[i] = (struct route_entry){.claim = i, .app = i, .bound = address("0.0.0.0:80")};
        CHECK_INT(route_parse(text, &e[i].route, reason), 0);
    }
    struct route_table *t = e ? route_table_new(e, MANY) : NULL;
    CHECK(t && route_table_bytes(t) < 160 * (size_t)MANY);
    static struct sniffed s;
    size_t wrong = 0;
    for (uint32_t i = 0; t && i < MANY; i++) {
        char host[64], request[64];
        (void)snprintf(host, sizeof host, "app%u.example.org", path ? 0 : i);
        (void)snprintf(request, sizeof request, path ? path : "/", i);
        s = (struct sniffed){.proto = proto, .host = str_of(host), .path = str_of(request)};
        struct route_query q = {.local = address("10.0.0.1:80"), .sniffed = &s};
        wrong += route_match(t, &q) != i;
    }
    CHECK_INT(wrong, 0);
    route_table_free(t);
    free(e);
}

TEST("100,000 hosts are all found")
{
    check_many("http://app%u.example.org/", PROTO_HTTP, NULL);
    check_many("tls://app%u.example.org", PROTO_TLS, NULL);
}

TEST("100,000 paths of one host are all found")
{
    check_many("http://app0.example.org/p/%u/", PROTO_HTTP, "/p/%u/index.html");
    check_many("http://*.example.org/p/%u/", PROTO_HTTP, "/p/%u");
}

TEST("100,000 programs with an address each are all found")
{
    enum { MANY = 100000 };
    struct route_entry *e = calloc(MANY, sizeof *e);
    char reason[ROUTE_REASON_MAX];
    struct route r;
    CHECK_INT(route_parse("http://*/", &r, reason), 0);
    for (uint32_t i = 0; e && i < MANY; i++) {
        uint32_t ip = htonl(0x7f000001 + i);
        e[i] = (struct route_entry){
            .route = r, .claim = i, .app = i, .bound = addr_make(AF_INET, &ip, 80)};
    }
    struct route_table *t = e ? route_table_new(e, MANY) : NULL;
    size_t wrong = t ? 0 : 1;
    for (uint32_t i = 0; t && i < MANY; i++) {
        uint32_t claim = ROUTE_NONE;
        wrong +=
            route_match_early(t, &e[i].bound, &e[i].bound, &claim) != ROUTE_CLAIM || claim != i;
    }
    CHECK_INT(wrong, 0);
    route_table_free(t);
    free(e);
}
