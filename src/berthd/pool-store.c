/* What a successor of this berthd has to know of the pools: the secrets of pools and workers, which
 * processes the workers are, and the definitions that came from `berth run` instead of the
 * configuration. One JSON file in the runtime folder, replaced as a whole. */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/replace.h"
#include "berthd/pool.h"
#include "ipc/runtime.h"
#include "launch/proctree.h"

static bool instance_read(const json_t *j, uint8_t ret_instance[APPMSG_INSTANCE])
{
    const char *text = json_string_value(json_object_get(j, "instance"));
    return text && appmsg_instance_parse(str_of(text), ret_instance);
}

/* With its number it is one process for ever. 0: there is none. */
static json_int_t process_start(pid_t pid)
{
    struct proctree_process p;
    return proctree_look(pid, &p) == 0 ? (json_int_t)p.start_time : 0;
}

static json_t *worker_json(const struct worker *w)
{
    char hex[APPMSG_INSTANCE_TEXT];
    return json_pack("{s:i, s:i, s:I, s:s, s:i, s:s, s:b}", "number", (int)w->number, "pid",
                     (int)w->pid, "start", process_start(w->pid), "instance",
                     appmsg_instance_format(w->instance, hex), "state", (int)w->state, "why",
                     w->why, "said_ready", (int)w->said_ready);
}

/* Variables and paths are bytes, JSON is Unicode: each byte becomes the character of its number. */
static json_t *bytes_json(const char *bytes)
{
    char *text = malloc(2 * strlen(bytes) + 1), *at = text;
    if (!text)
        return NULL;
    for (const unsigned char *p = (const unsigned char *)bytes; *p; p++) {
        if (*p >= 0x80)
            *at++ = (char)(0xc0 | *p >> 6);
        *at++ = (char)(*p >= 0x80 ? 0x80 | (*p & 0x3f) : *p);
    }
    *at = 0;
    json_t *j = json_string(text);
    free(text);
    return j;
}

/* The bytes again, malloc()ed; NULL when it is no text. */
static char *bytes_of(const json_t *j)
{
    const char *text = json_string_value(j);
    char *bytes = text ? malloc(strlen(text) + 1) : NULL, *at = bytes;
    for (; bytes && *text; text++) {
        bool two = (*text & 0xe0) == 0xc0;
        *at++ = two ? (char)((*text & 3) << 6 | (text[1] & 0x3f)) : *text;
        text += two;
    }
    if (bytes)
        *at = 0;
    return bytes;
}

static json_t *definition_json(const struct pool *p)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return NULL;
    int r = conf_app_format(p->conf, false, f);
    if (fclose(f) != 0 || r < 0) {
        free(text);
        return NULL;
    }
    json_t *environment = json_array();
    for (char **e = p->environment; e && *e; e++)
        (void)json_array_append_new(environment, bytes_json(*e));
    json_t *j = json_pack("{s:o, s:I, s:o}", "text", bytes_json(text), "uid",
                          (json_int_t)p->app->uid, "environment", environment);
    free(text);
    return j;
}

static json_t *pool_json(const struct pool *p)
{
    char hex[APPMSG_INSTANCE_TEXT];
    json_t *workers = json_array();
    list_for_each(w, &p->workers, struct worker, link)(void)
        json_array_append_new(workers, worker_json(w));
    json_t *j = json_pack("{s:s, s:s, s:b, s:o}", "name", p->conf->name, "instance",
                          appmsg_instance_format(p->app->instance, hex), "stopped",
                          p->state == POOL_STOPPED, "workers", workers);
    if (j && p->leaving)
        (void)json_object_set_new(j, "leaving", json_true());
    if (j && (p->by_hand || p->leaving))
        (void)json_object_set_new(j, "definition", definition_json(p));
    return j;
}

void pool_store_now(struct server *s)
{
    char path[RUNTIME_PATH_MAX];
    json_t *pools = json_array();
    list_for_each(p, &s->pools, struct pool, link)
    {
        bool stays = p->by_hand || p->state == POOL_STOPPED || !list_empty(&p->app->binds);
        if ((stays && !p->leaving) || !list_empty(&p->workers))
            (void)json_array_append_new(pools, pool_json(p));
    }
    char *text = json_dumps(pools, JSON_INDENT(1));
    json_decref(pools);
    int r = text ? runtime_path(RUNTIME_POOLS, path) : -ENOMEM;
    if (r == 0)
        r = replace_file(path, str_of(text), 0600, false);
    free(text);
    if (r < 0)
        log_warn("state of the pools not saved err=%s", strerror(-r));
}

static void save(struct timer *t)
{
    pool_store_now(container_of(t, struct server, store));
}

void pool_store_save(struct server *s)
{
    s->store.fire = save;
    if (s->store.at_ms == 0)
        loop_timer(&s->loop, &s->store, 1);
}

static void worker_load(struct pool *p, const json_t *j)
{
    pid_t pid = (pid_t)json_integer_value(json_object_get(j, "pid"));
    json_int_t start = json_integer_value(json_object_get(j, "start"));
    uint8_t instance[APPMSG_INSTANCE];
    if (pid <= 0 || start == 0 || process_start(pid) != start || !instance_read(j, instance))
        return;
    struct worker *w = worker_new(p, (uint32_t)json_integer_value(json_object_get(j, "number")));
    if (!w)
        return;
    memcpy(w->instance, instance, sizeof w->instance);
    if (worker_watch(w, pid, pidfd_of(pid)) < 0) {
        worker_free(w);
        return;
    }
    const char *why = json_string_value(json_object_get(j, "why"));
    (void)snprintf(w->why, sizeof w->why, "%s", why ? why : "");
    w->said_ready = json_is_true(json_object_get(j, "said_ready"));
    worker_resume(w, (enum worker_state)json_integer_value(json_object_get(j, "state")));
    if (w->number >= p->next_number)
        p->next_number = w->number + 1;
}

static char **environment_load(const json_t *j)
{
    size_t n = json_array_size(j);
    char **all = calloc(n + 1, sizeof *all);
    for (size_t i = 0, used = 0; all && i < n; i++) {
        all[used] = bytes_of(json_array_get(j, i));
        used += all[used] != NULL;
    }
    return all;
}

/* A pool that was defined by `berth run`. */
static struct pool *pool_load(struct server *s, const json_t *j, const char *name,
                              const uint8_t *instance)
{
    const json_t *d = json_object_get(j, "definition");
    char *text = bytes_of(json_object_get(d, "text"));
    struct conf_errors errors = {0};
    struct conf *conf = NULL;
    int r = text ? conf_read_text(str_of(text), name, &conf, &errors) : -ENOENT;
    conf_errors_done(&errors);
    free(text);
    if (r < 0 || conf->app_count != 1) {
        conf_free(conf);
        return NULL;
    }
    struct definition *definition = definition_new_consume(conf);
    struct pool *p =
        definition ? pool_new(s, definition, &definition->conf->apps[0], instance) : NULL;
    definition_unref(definition);
    if (!p)
        return NULL;
    p->by_hand = true;
    p->app->uid = (uid_t)json_integer_value(json_object_get(d, "uid"));
    p->environment = environment_load(json_object_get(d, "environment"));
    return p;
}

static json_t *store_read(void)
{
    char path[RUNTIME_PATH_MAX];
    if (runtime_path(RUNTIME_POOLS, path) < 0)
        return NULL;
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return NULL;
    json_error_t error;
    json_t *all = json_loadfd(fd, 0, &error);
    if (!all)
        log_warn("state of the pools not understood line=%d error=%s", error.line, error.text);
    return all;
}

void pool_store_load(struct server *s)
{
    json_t *all = store_read();
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *j = json_array_get(all, i), *workers = json_object_get(j, "workers");
        const char *name = json_string_value(json_object_get(j, "name"));
        uint8_t instance[APPMSG_INSTANCE];
        if (!name || !instance_read(j, instance))
            continue;
        /* One of `berth run` is another pool than one that the configuration has by now. */
        struct pool *configured = pool_find(s, name);
        bool by_hand = json_object_get(j, "definition") != NULL;
        struct pool *p = by_hand ? pool_load(s, j, name, instance) : configured;
        if (!p)
            continue;
        p->leaving = by_hand && (configured || json_is_true(json_object_get(j, "leaving")));
        memcpy(p->app->instance, instance, sizeof instance);
        p->was_stopped = json_is_true(json_object_get(j, "stopped"));
        for (size_t k = 0; k < json_array_size(workers); k++)
            worker_load(p, json_array_get(workers, k));
    }
    json_decref(all);
}
