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

/* NULL when there is no such pool any more. */
static json_t *pool_read(const char *name, json_t **ret_all)
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
        if (pool && strcmp(word(app, "name"), name) == 0 &&
            strcmp(word(pool, "state"), "leaving") != 0)
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
        (void)fprintf(stderr, "%s: %zu ready, %zu starting, %d s\n", name, c.ready, c.starting,
                      waited / 1000);
}

int pool_wait(const char *name, enum pool_wait what)
{
    json_int_t failures = -1;
    for (int waited = 0;; waited += ASK_MS) {
        json_t *all, *pool = pool_read(name, &all);
        if (!pool) {
            json_decref(all);
            return what == POOL_WAIT_GONE ? CLI_OK : cli_fail(NULL, "%s is gone", name);
        }
        json_int_t now = json_integer_value(json_object_get(pool, "failures"));
        int so = judge(pool, what);
        if (failures < 0)
            failures = what == POOL_WAIT_READY ? 0 : now;
        if (so <= 0 && what != POOL_WAIT_GONE && (so < 0 || now > failures)) {
            const char *reason = word(pool, "reason");
            int status = cli_fail(NULL, "%s does not start: %s; `berth logs %s` shows its output",
                                  name, *reason ? reason : word(pool, "state"), name);
            json_decref(all);
            return status;
        }
        speak(name, pool, waited);
        json_decref(all);
        if (so > 0)
            return CLI_OK;
        (void)poll(NULL, 0, ASK_MS);
    }
}
