/* The table of reservations: its rules one by one, and random tables beside a linear search over
 * texts that follows the rules word by word. */
#include "berthd/reserve-table.h"

#include <stdlib.h>

#include "test.h"

static struct route route(const char *text)
{
    struct route r = {0};
    char reason[ROUTE_REASON_MAX] = "";
    if (route_parse(text, &r, reason) < 0)
        test_fail(__FILE__, __LINE__, text, reason, "a route");
    return r;
}

static void add(struct reserve_table *t, const char *text, uid_t uid)
{
    struct reservation r = {.route = route(text), .uid = uid, .status = RESERVE_STATUS};
    CHECK_INT(reserve_table_add(t, &r), 0);
}

/* The owner's number, or -1. */
static long owner(struct reserve_table *t, const char *text)
{
    struct route r = route(text);
    const struct reservation *v = reserve_table_cover(t, &r, NULL);
    return v ? (long)v->uid : -1;
}

TEST("a reservation covers its own path and those below it, by whole segments")
{
    static struct reserve_table t;
    reserve_table_init(&t);
    add(&t, "http://shop.example/api/", 7);
    CHECK_INT(owner(&t, "http://shop.example/api/"), 7);
    CHECK_INT(owner(&t, "http://shop.example/api/v1/"), 7);
    CHECK_INT(owner(&t, "http://SHOP.example:8080/api/v1/"), 7);
    CHECK_INT(owner(&t, "http://shop.example/"), -1);
    CHECK_INT(owner(&t, "http://shop.example/apix/"), -1);
    CHECK_INT(owner(&t, "tls://shop.example"), -1);
    reserve_table_done(&t);
    CHECK_INT(t.count, 0);
}

TEST("the longest path decides, whoever owns what lies above")
{
    static struct reserve_table t;
    reserve_table_init(&t);
    add(&t, "http://shop.example/", 1);
    add(&t, "http://shop.example/a/b/", 3);
    add(&t, "http://shop.example/a/", 2);
    CHECK_INT(owner(&t, "http://shop.example/x/"), 1);
    CHECK_INT(owner(&t, "http://shop.example/a/"), 2);
    CHECK_INT(owner(&t, "http://shop.example/a/b/c/"), 3);
    reserve_table_done(&t);
}

TEST("categories of hosts do not meet")
{
    static struct reserve_table t;
    reserve_table_init(&t);
    add(&t, "http://*.example/", 1);
    add(&t, "http://+:80/", 2);
    add(&t, "http://10.0.0.1:80/", 3);
    CHECK_INT(owner(&t, "http://shop.example/"), -1);
    CHECK_INT(owner(&t, "http://*.example/x/"), 1);
    CHECK_INT(owner(&t, "http://+:80/x/"), 2);
    CHECK_INT(owner(&t, "http://*:80/"), -1);
    CHECK_INT(owner(&t, "http://10.0.0.1:80/x/"), 3);
    CHECK_INT(owner(&t, "http://10.0.0.2:80/"), -1);
    reserve_table_done(&t);
}

TEST("a reservation with a port is for that port, one without for all, and the port is nearer")
{
    static struct reserve_table t;
    reserve_table_init(&t);
    add(&t, "http://shop.example/", 1);
    add(&t, "http://shop.example:80/", 2);
    CHECK_INT(owner(&t, "http://shop.example:80/a/"), 2);
    CHECK_INT(owner(&t, "http://shop.example:81/"), 1);
    CHECK_INT(owner(&t, "http://shop.example/"), 1);
    add(&t, "http://shop.example/a/", 3);
    CHECK_INT(owner(&t, "http://shop.example:80/a/"), 3);
    reserve_table_done(&t);
}

TEST("narrower sources, one ALPN and a database lie below the plain route")
{
    static struct reserve_table t;
    reserve_table_init(&t);
    add(&t, "tls://a.example", 1);
    add(&t, "tls://a.example?alpn=acme-tls%2F1", 2);
    add(&t, "http://a.example/?from=10.0.0.0/8", 3);
    add(&t, "postgres://:5432", 4);
    add(&t, "postgres://:5432/shop", 5);
    CHECK_INT(owner(&t, "tls://a.example?alpn=acme-tls%2F1"), 2);
    CHECK_INT(owner(&t, "tls://a.example?alpn=h2"), 1);
    CHECK_INT(owner(&t, "http://a.example/"), -1);
    CHECK_INT(owner(&t, "http://a.example/?from=10.1.0.0/16"), 3);
    CHECK_INT(owner(&t, "http://a.example/?from=11.0.0.0/8"), -1);
    CHECK_INT(owner(&t, "postgres://:5432/shop"), 5);
    CHECK_INT(owner(&t, "postgres://:5432/shopping"), 4);
    reserve_table_done(&t);
}

TEST("the very same route is reserved once, and can be passed over to see what lies above")
{
    static struct reserve_table t;
    reserve_table_init(&t);
    add(&t, "http://shop.example/", 1);
    add(&t, "http://shop.example/a/", 2);
    struct reservation again = {.route = route("http://shop.example/a")};
    CHECK_INT(reserve_table_add(&t, &again), -EEXIST);
    struct reservation *own = reserve_table_find(&t, &again.route);
    CHECK(own != NULL);
    const struct reservation *above = reserve_table_cover(&t, &again.route, own);
    CHECK_INT(above ? (long)above->uid : -1, 1);
    reserve_table_remove(&t, own);
    CHECK_INT(owner(&t, "http://shop.example/a/"), 1);
    reserve_table_done(&t);
}

/* Random tables. */

static uint64_t state = 11;

static unsigned rnd(unsigned below)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((state >> 33) % below);
}

struct model {
    char host[16], path[16];
    unsigned port;
};

static struct model random_model(void)
{
    static const char *const hosts[] = {"a.example", "b.example", "*.example", "+", "*"};
    static const char *const paths[] = {"/", "/x/", "/x/y/", "/xx/", "/x/y/z/"};
    struct model m = {.port = rnd(3) ? 80 + rnd(2) : 0};
    (void)snprintf(m.host, sizeof m.host, "%s", hosts[rnd(5)]);
    (void)snprintf(m.path, sizeof m.path, "%s", paths[rnd(5)]);
    return m;
}

static void model_text(const struct model *m, char text[96])
{
    char port[16] = "";
    if (m->port)
        (void)snprintf(port, sizeof port, ":%u", m->port);
    (void)snprintf(text, 96, "http://%s%s%s", m->host, port, m->path);
}

/* How well a covers b; 0: not at all. */
static size_t naive_rank(const struct model *a, const struct model *b)
{
    bool host = strcmp(a->host, b->host) == 0, port = a->port == 0 || a->port == b->port;
    size_t n = strlen(a->path);
    return host && port && strncmp(a->path, b->path, n) == 0 ? 2 * n + (a->port != 0) : 0;
}

TEST("random tables answer as a linear search over texts does")
{
    enum { TABLES = 200, ROWS = 40, QUESTIONS = 50 };
    static struct reserve_table t;
    for (size_t i = 0; i < TABLES; i++) {
        struct model rows[ROWS];
        size_t count = 0;
        char text[96];
        reserve_table_init(&t);
        while (count < ROWS && rnd(60)) {
            struct model m = random_model();
            model_text(&m, text);
            struct reservation r = {.route = route(text), .uid = (uid_t)count};
            if (reserve_table_add(&t, &r) == 0)
                rows[count++] = m;
        }
        CHECK_INT(t.count, count);
        for (size_t q = 0; q < QUESTIONS; q++) {
            struct model m = random_model();
            long best = -1;
            size_t best_rank = 0;
            for (size_t k = 0; k < count; k++) {
                size_t rank = naive_rank(&rows[k], &m);
                if (rank > best_rank) {
                    best_rank = rank;
                    best = (long)k;
                }
            }
            model_text(&m, text);
            CHECK_INT(owner(&t, text), best);
        }
        reserve_table_done(&t);
    }
}
