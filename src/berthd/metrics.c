/* Metrics: the counters of the board and what berthd knows of its applications come in, a page of
 * text goes out. */
#include "berthd/metrics.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/log.h"
#include "berthd/exposition.h"
#include "berthd/pool-report.h"
#include "berthd/pool.h"
#include "ipc/runtime.h"
#include "share/reason.h"

#ifndef BERTH_VERSION
#define BERTH_VERSION "0"
#endif

/* All applications, measured once, because a family goes through all of them. */
struct measured {
    struct metrics_app *apps;
    size_t count;
};

void metrics_app(const struct app *a, struct metrics_app *ret_app)
{
    *ret_app = (struct metrics_app){.name = a->name};
    list_for_each(b, &a->binds, struct bind, app_link) ret_app->waiting += bind_waiting(b);
    if (a->pool)
        pool_measure(a->pool, ret_app);
}

static int measure(const struct server *s, struct measured *m)
{
    size_t count = 0;
    list_for_each(a, &s->apps, struct app, link) count++;
    m->count = 0;
    m->apps = calloc(count ? count : 1, sizeof *m->apps);
    if (!m->apps)
        return -ENOMEM;
    list_for_each(a, &s->apps, struct app, link) metrics_app(a, &m->apps[m->count++]);
    return 0;
}

static void board_families(struct exposition *e, struct board *b)
{
    exposition_one(e, "berth_connections_accepted_total", "counter",
                   "Connections that were accepted.", (double)board_get(&b->accepted));
    exposition_begin(e, "berth_connections_refused_total", "counter",
                     "Connections that were refused; berth-route(7) lists the reasons.");
    for (unsigned i = REASON_NONE + 1; i < REASON_COUNT; i++)
        exposition_add(e, (struct exposition_label[]){{"reason", reason_word(i)}, {NULL, NULL}},
                       (double)board_get(&b->reasons[i]));
    exposition_end(e);
    exposition_one(e, "berth_connections_undecided", "gauge",
                   "Connections that are looked at, or wait for room in a queue.",
                   (double)board_get(&b->sniffing));
    exposition_one(e, "berth_connections_waiting", "gauge",
                   "Of these, the ones that wait for room in a queue.",
                   (double)board_get(&b->waiting));
}

static void delivered_family(struct exposition *e, struct server *s)
{
    exposition_begin(e, "berth_app_connections_delivered_total", "counter",
                     "Connections that were put on the application's queue, by its route.");
    list_for_each(b, &s->binds, struct bind, link)
    {
        list_for_each(c, &b->claims, struct claim, link)
        {
            struct exposition_label labels[] = {
                {"app", b->app->name}, {"route", c->route}, {NULL, NULL}};
            exposition_add(e, labels, (double)report_delivered(s, c));
        }
    }
    exposition_end(e);
}

static void app_sample(struct exposition *e, const struct metrics_app *a, double value)
{
    exposition_add(e, (struct exposition_label[]){{"app", a->name}, {NULL, NULL}}, value);
}

static void app_counts(struct exposition *e, const struct metrics_app *a, const char *label,
                       const struct metrics_count *counts)
{
    for (size_t i = 0; i < METRICS_WORDS_MAX && counts[i].word; i++) {
        struct exposition_label labels[] = {
            {"app", a->name}, {label, counts[i].word}, {NULL, NULL}};
        exposition_add(e, labels, (double)counts[i].n);
    }
}

static void app_families(struct exposition *e, const struct measured *m)
{
    exposition_begin(e, "berth_app_queue_waiting", "gauge",
                     "Connections that the application has not taken yet.");
    for (size_t i = 0; i < m->count; i++)
        app_sample(e, &m->apps[i], (double)m->apps[i].waiting);
    exposition_end(e);
    exposition_begin(e, "berth_app_open_connections", "gauge",
                     "Connections that a pool's workers have and did not close.");
    for (size_t i = 0; i < m->count; i++)
        if (m->apps[i].pool)
            app_sample(e, &m->apps[i], (double)m->apps[i].open);
    exposition_end(e);
    exposition_begin(e, "berth_app_connections_refused_total", "counter",
                     "Connections that were for a pool and were refused.");
    for (size_t i = 0; i < m->count; i++)
        if (m->apps[i].pool)
            app_sample(e, &m->apps[i], (double)m->apps[i].refused);
    exposition_end(e);
    exposition_begin(e, "berth_app_memory_bytes", "gauge", "Memory of a pool's workers.");
    for (size_t i = 0; i < m->count; i++)
        if (m->apps[i].pool)
            app_sample(e, &m->apps[i], (double)m->apps[i].memory);
    exposition_end(e);
    exposition_begin(e, "berth_app_workers", "gauge", "A pool's workers, by state.");
    for (size_t i = 0; i < m->count; i++)
        app_counts(e, &m->apps[i], "state", m->apps[i].workers);
    exposition_end(e);
    exposition_begin(e, "berth_app_restarts_total", "counter",
                     "Workers that were replaced, by reason.");
    for (size_t i = 0; i < m->count; i++)
        app_counts(e, &m->apps[i], "reason", m->apps[i].restarts);
    exposition_end(e);
}

static size_t open_fds(void)
{
    size_t count = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        count++;
    if (d)
        (void)closedir(d);
    return count > 3 ? count - 3 : 0; /* ".", ".." and the folder itself */
}

static void daemon_families(struct exposition *e, struct server *s, const struct measured *m)
{
    struct rlimit limit = {0};
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    exposition_begin(e, "berth_build_info", "gauge", "1, with the version as a label.");
    exposition_add(e, (struct exposition_label[]){{"version", BERTH_VERSION}, {NULL, NULL}}, 1);
    exposition_end(e);
    exposition_one(e, "berth_dispatch_restarts_total", "counter",
                   "How often berth-dispatch ended and was started again.",
                   (double)s->dispatch_restarts);
    exposition_one(e, "berth_applications", "gauge", "Applications that are known.",
                   (double)m->count);
    exposition_one(e, "berth_routes", "gauge", "Routes that are claimed, one for each address.",
                   (double)s->claim_numbers.next - (double)s->claim_numbers.free_count);
    exposition_one(e, "process_start_time_seconds", "gauge",
                   "When berthd was started, in seconds since 1970.",
                   (double)s->started_unix_ms / 1000);
    exposition_one(e, "process_open_fds", "gauge", "Descriptors that berthd has open.",
                   (double)open_fds());
    exposition_one(e, "process_max_fds", "gauge", "Descriptors that berthd may have open.",
                   (double)limit.rlim_cur);
}

char *metrics_text(struct server *s)
{
    struct exposition e = {.text = NULL};
    struct measured m;
    if (measure(s, &m) < 0)
        return NULL;
    daemon_families(&e, s, &m);
    if (s->board)
        board_families(&e, s->board);
    delivered_family(&e, s);
    app_families(&e, &m);
    free(m.apps);
    return exposition_finish(&e);
}

static char *page_make(void *ctx)
{
    return metrics_text(ctx);
}

void metrics_init(struct server *s, const char *where)
{
    s->metrics_option = where;
    metrics_http_init(&s->metrics, &s->loop, page_make, s);
}

static int default_place(struct addr *ret_where)
{
    char path[RUNTIME_PATH_MAX], text[RUNTIME_PATH_MAX + 8];
    int r = runtime_path(RUNTIME_METRICS, path);
    (void)snprintf(text, sizeof text, "unix:%s", r < 0 ? "" : path);
    return r < 0 ? r : addr_parse(text, ret_where);
}

static int place(const struct server *s, struct addr *ret_where)
{
    const struct addr *configured = &s->definition->conf->global.metrics;
    if (s->metrics_option && strcmp(s->metrics_option, "off") == 0)
        return 0;
    if (s->metrics_option)
        return addr_parse(s->metrics_option, ret_where);
    if (configured->sa.sa_family == AF_UNSPEC)
        return default_place(ret_where);
    *ret_where = *configured;
    return 0;
}

void metrics_settle(struct server *s)
{
    struct addr where = {.len = 0};
    char text[ADDR_TEXT_MAX];
    int r = place(s, &where);
    if (r == 0)
        r = metrics_http_listen(&s->metrics, &where);
    if (r < 0)
        log_warn("metrics not served where=%s err=%s",
                 s->metrics_option ? s->metrics_option : addr_format(&where, text), strerror(-r));
}
