/* Pools from the configuration. A change is read as a whole, compared with what is in force, and
 * then made, pool by pool; what did not change is not touched. With one mistake anywhere nothing
 * changes at all. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "berthd/metrics.h"
#include "berthd/pool.h"
#include "berthd/reserve.h"
#include "share/sniff.h"

struct definition *definition_new_consume(struct conf *c)
{
    struct definition *d = malloc(sizeof *d);
    if (!d) {
        conf_free(c);
        return NULL;
    }
    *d = (struct definition){.refs = 1, .conf = c};
    return d;
}

struct definition *definition_ref(struct definition *d)
{
    d->refs++;
    return d;
}

void definition_unref(struct definition *d)
{
    if (!d || --d->refs > 0)
        return;
    conf_free(d->conf);
    free(d);
}

/* What is wrong, a line each, as text that the caller frees. */
static char *errors_text(const struct conf_errors *errors)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    for (size_t i = 0; f && i < errors->count; i++)
        conf_error_print(&errors->items[i], f);
    if (f && errors->dropped)
        (void)fprintf(f, "and %zu more\n", errors->dropped);
    if (f)
        (void)fclose(f);
    return text;
}

static int config_read(const struct server *s, struct definition **ret_definition, char **ret_text)
{
    struct conf_errors errors = {0};
    struct conf *conf = NULL;
    int r = conf_read(s->config_path, &conf, &errors);
    if (r < 0)
        *ret_text = errors_text(&errors);
    conf_errors_done(&errors);
    if (r < 0)
        return r;
    *ret_definition = definition_new_consume(conf);
    return *ret_definition ? 0 : -ENOMEM;
}

/* What was asked for on the command line is stronger. */
static void limits_settle(struct server *s)
{
    const struct conf_global *g = &s->definition->conf->global;
    s->limits = (struct dispatch_limits){
        .silence_ms = s->silence_ms ? s->silence_ms : (uint32_t)g->silence_ms,
        .header_wait_ms = s->header_wait_ms ? s->header_wait_ms : (uint32_t)g->header_wait_ms,
        .min_rate = g->min_rate,
        .sniff_bytes = SNIFF_BYTES_MAX,
        .connections = g->max_connections,
        .per_source = g->per_source,
    };
}

/* What is not about one application. */
static void config_globals(struct server *s)
{
    reserve_from_conf(s, s->definition->conf);
    metrics_settle(s);
}

static bool is_defined(const struct definition *d, const struct pool *p)
{
    return conf_app_find(d->conf, p->conf->name) != NULL;
}

/* Names that are free now may be what another pool waits for: those that go, go first. A pool of
 * `berth run` never becomes one of the configuration: its owner, its environment and its workers
 * are those of whoever ran it. */
static void pools_leave(struct server *s, const struct definition *next)
{
    list_for_each(p, &s->pools, struct pool, link)
    {
        if (p->leaving || p->by_hand != is_defined(next, p))
            continue;
        pool_leave(p, p->by_hand ? "the configuration has this name now"
                                 : "no longer in the configuration");
    }
}

static void pool_apply(struct server *s, struct definition *next, const struct conf_app *conf)
{
    struct pool *p = pool_find(s, conf->name);
    if (p) {
        pool_redefine(p, next, conf, conf_app_compare(p->conf, conf));
        return;
    }
    p = pool_new(s, next, conf, NULL);
    if (p)
        pool_open(p);
    else
        log_error("pool not made app=%s reason=NoMemory", conf->name);
}

static char *diff_text(const struct conf *old, const struct conf *next)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return NULL;
    int r = conf_diff(old, next, f);
    (void)fclose(f);
    if (r >= 0)
        return text;
    free(text);
    return NULL;
}

static bool writes_logs(const struct definition *d)
{
    return d->conf->global.access_log || d->conf->global.refusal_log;
}

int config_reload(struct server *s, bool dry_run, char **ret_text)
{
    struct definition *next = NULL;
    int r = config_read(s, &next, ret_text);
    if (r < 0)
        return r;
    *ret_text = diff_text(s->definition->conf, next->conf);
    if (dry_run) {
        definition_unref(next);
        return 0;
    }
    bool logs = writes_logs(s->definition) || writes_logs(next);
    s->holding = true;
    pools_leave(s, next);
    for (size_t i = 0; i < next->conf->app_count; i++)
        pool_apply(s, next, &next->conf->apps[i]);
    definition_unref(s->definition);
    s->definition = next;
    struct dispatch_limits before = s->limits;
    limits_settle(s);
    if (memcmp(&before, &s->limits, sizeof before) != 0)
        dispatch_limits(s);
    if (logs)
        dispatch_logs(s);
    config_globals(s);
    s->holding = false;
    (void)dispatch_commit(s);
    /* The old configuration leaves holes as large as itself. */
    (void)malloc_trim(0);
    log_info("reloaded apps=%zu", next->conf->app_count);
    return 0;
}

int config_start(struct server *s)
{
    char *text = NULL;
    int r = config_read(s, &s->definition, &text);
    if (r < 0) {
        (void)fprintf(stderr, "%s", text ? text : strerror(-r));
        free(text);
        return r;
    }
    limits_settle(s);
    reserve_from_conf(s, s->definition->conf);
    for (size_t i = 0; i < s->definition->conf->app_count; i++)
        if (!pool_new(s, s->definition, &s->definition->conf->apps[i], NULL))
            return -ENOMEM;
    pool_store_load(s);
    return 0;
}

void config_open(struct server *s)
{
    s->holding = true;
    limits_settle(s);
    dispatch_limits(s);
    dispatch_logs(s);
    config_globals(s);
    list_for_each(p, &s->pools, struct pool, link)
    {
        if (p->leaving)
            pool_leave(p, "the configuration has this name now");
        else
            pool_open(p);
    }
    s->holding = false;
    (void)dispatch_commit(s);
}
