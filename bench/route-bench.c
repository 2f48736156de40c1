/* How long route_match() takes: prints "name min median max" in nanoseconds of CPU time a match,
 * over several rounds. Requests come from a fixed seed and ask for routes in random order, so that
 * at 100,000 routes the answers come from memory rather than from the nearest cache. */
#include "share/route.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROUNDS  15
#define QUERIES 32768

struct setup {
    const char *name;
    const char *route, *host, *path; /* with the number of the route */
    uint32_t count;
};

static const struct setup setups[] = {
    {"route_match_10_hosts", "http://app%u.example.org/", "app%u.example.org", "/index.html", 10},
    {"route_match_10_paths", "http://example.org/app%u/", "example.org", "/app%u/index.html", 10},
    {"route_match_10_labels", "http://*.app%u.example/", "www.app%u.example", "/", 10},
    {"route_match_100000_hosts", "http://app%u.example.org/", "app%u.example.org", "/index.html",
     100000},
    {"route_match_100000_paths", "http://example.org/app%u/", "example.org", "/app%u/index.html",
     100000},
    {"route_match_100000_labels", "http://*.app%u.example/", "www.app%u.example", "/", 100000},
    {"route_match_100000_unknown", "http://app%u.example.org/", "no%u.example.org", "/", 100000},
};

struct request {
    char host[28], path[28];
    uint32_t host_len, path_len;
};

static uint64_t now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint32_t rnd(uint64_t *state, uint32_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*state >> 33) % below);
}

static struct route_table *table_make(const struct setup *s)
{
    struct route_entry *e = calloc(s->count, sizeof *e);
    char text[128], reason[ROUTE_REASON_MAX];
    for (uint32_t i = 0; e && i < s->count; i++) {
        (void)snprintf(text, sizeof text, s->route, i);
        e[i] = (struct route_entry){.claim = i, .app = i};
        if (route_parse(text, &e[i].route, reason) < 0 ||
            addr_parse("0.0.0.0:80", &e[i].bound) < 0) {
            (void)fprintf(stderr, "%s: %s\n", text, reason);
            exit(1);
        }
    }
    uint64_t start = now_ns();
    struct route_table *t = e ? route_table_new(e, s->count) : NULL;
    if (t)
        (void)fprintf(stderr, "# %s: built in %.1f ms, %zu bytes a route\n", s->name,
                      (double)(now_ns() - start) / 1e6, route_table_bytes(t) / s->count);
    free(e);
    return t;
}

static struct request *requests_make(const struct setup *s)
{
    uint64_t state = 42;
    struct request *r = calloc(QUERIES, sizeof *r);
    for (size_t i = 0; r && i < QUERIES; i++) {
        uint32_t number = rnd(&state, s->count);
        r[i].host_len = (uint32_t)snprintf(r[i].host, sizeof r[i].host, s->host, number);
        r[i].path_len = (uint32_t)snprintf(r[i].path, sizeof r[i].path, s->path, number);
    }
    return r;
}

/* One round; the sum of the answers keeps the compiler from leaving the work out. */
static double round_run(const struct route_table *t, const struct request *r, uint64_t *sum)
{
    static struct sniffed s = {.proto = PROTO_HTTP};
    struct route_query q = {.sniffed = &s};
    (void)!addr_parse("10.0.0.1:80", &q.local);
    (void)!addr_parse("192.0.2.1:4711", &q.peer);
    uint64_t start = now_ns();
    for (size_t i = 0; i < QUERIES; i++) {
        s.host = (struct str){r[i].host, r[i].host_len};
        s.path = (struct str){r[i].path, r[i].path_len};
        *sum += route_match(t, &q);
    }
    return (double)(now_ns() - start) / QUERIES;
}

static int double_cmp(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int setup_run(const struct setup *s)
{
    struct route_table *t = table_make(s);
    struct request *r = requests_make(s);
    double ns[ROUNDS];
    uint64_t sum = 0;
    int result = t && r ? 0 : -1;
    if (result == 0) {
        (void)round_run(t, r, &sum);
        for (size_t i = 0; i < ROUNDS; i++)
            ns[i] = round_run(t, r, &sum);
        qsort(ns, ROUNDS, sizeof *ns, double_cmp);
        (void)printf("%s %.1f %.1f %.1f\n", s->name, ns[0], ns[ROUNDS / 2], ns[ROUNDS - 1]);
        (void)fprintf(stderr, "# %s: sum of answers %llu\n", s->name, (unsigned long long)sum);
    }
    free(r);
    route_table_free(t);
    return result;
}

int main(void)
{
    for (size_t i = 0; i < sizeof setups / sizeof *setups; i++)
        if (setup_run(&setups[i]) < 0)
            return 1;
    return 0;
}
