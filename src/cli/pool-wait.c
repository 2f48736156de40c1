/* Asks berthd every tenth of a second how a pool is. */
#include "cli/pool-wait.h"

#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cli.h"

#define ASK_MS   100
#define SPEAK_MS 1000

static const char *word(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

/* One that is leaving has given its name up; only who waits for its end still means it. */
static bool is_meant(const json_t *pool, enum pool_wait what)
{
    return pool && (what == POOL_WAIT_GONE || strcmp(word(pool, "state"), "leaving") != 0);
}

/* NULL when there is no such pool any more. */
static json_t *pool_read(const char *name, enum pool_wait what, json_t **ret_all)
{
    char *text = NULL;
    *ret_all = NULL;
    if (cli_ask((const char *[]){"list", NULL}, -EBADF, NULL, &text) != CLI_OK)
        return NULL;
    *ret_all = json_loads(text, 0, NULL);
    free(text);
    size_t i;
    json_t *app;
    json_array_foreach(json_object_get(*ret_all, "apps"), i, app)
    {
        json_t *pool = json_object_get(app, "pool");
        if (strcmp(word(app, "name"), name) == 0 && is_meant(pool, what))
            return pool;
    }
    return NULL;
}

struct counts {
    size_t ready, starting, replaced;
};

static struct counts count(const json_t *pool)
{
    struct counts c = {0};
    size_t i;
    json_t *w;
    json_array_foreach(json_object_get(pool, "workers"), i, w)
    {
        bool replaced = json_is_true(json_object_get(w, "replaced"));
        c.replaced += replaced;
        c.ready += !replaced && strcmp(word(w, "state"), "ready") == 0;
        c.starting += strcmp(word(w, "state"), "starting") == 0;
    }
    return c;
}

/* 1: it is so; 0: not yet; negative: it will not be. */
static int judge(const json_t *pool, enum pool_wait what)
{
    struct counts c = count(pool);
    const char *state = word(pool, "state");
    if (what == POOL_WAIT_GONE)
        return json_array_size(json_object_get(pool, "workers")) == 0;
    if (strcmp(state, "paused") == 0 || strcmp(state, "blocked") == 0 ||
        strcmp(state, "stopped") == 0)
        return -1;
    if (strcmp(state, "waiting") == 0)
        return 1;
    size_t wanted = (size_t)json_integer_value(json_object_get(pool, "wanted"));
    return c.replaced == 0 && c.starting == 0 && c.ready >= wanted;
}

static void speak(const char *name, const json_t *pool, int waited)
{
    struct counts c = count(pool);
    if (waited % SPEAK_MS == 0 && waited > 0)
        (void)fprintf(stderr, "%s: %zu ready, %zu starting, %zu finishing, %d s\n", name, c.ready,
                      c.starting, c.replaced, waited / 1000);
}

long long pool_failures(const char *name)
{
    json_t *all, *pool = pool_read(name, POOL_WAIT_READY, &all);
    long long n = pool ? json_integer_value(json_object_get(pool, "failures")) : 0;
    json_decref(all);
    return n;
}

static int fail(const char *name, const json_t *pool, enum pool_wait what)
{
    const char *reason = word(pool, "reason");
    return cli_fail(NULL, "%s %s: %s; `berth logs %s` shows its output", name,
                    what == POOL_WAIT_READY ? "does not start" : "was not replaced",
                    *reason ? reason : word(pool, "state"), name);
}

int pool_wait(const char *name, enum pool_wait what, long long failures)
{
    for (int waited = 0;; waited += ASK_MS) {
        json_t *all, *pool = pool_read(name, what, &all);
        if (!pool) {
            json_decref(all);
            return what == POOL_WAIT_GONE ? CLI_OK : cli_fail(NULL, "%s is gone", name);
        }
        int so = judge(pool, what), status = -1;
        bool failed = json_integer_value(json_object_get(pool, "failures")) > failures;
        if (what != POOL_WAIT_GONE && (so < 0 || (failed && (so == 0 || what != POOL_WAIT_READY))))
            status = fail(name, pool, what);
        else if (so > 0)
            status = CLI_OK;
        else
            speak(name, pool, waited);
        json_decref(all);
        if (status >= 0)
            return status;
        (void)poll(NULL, 0, ASK_MS);
    }
}
