/* Builds the environment of a program that is about to be started. Names and values come in, a list
 * for execve() goes out; the struct owns the list and every text in it. */
#include "launch/environment.h"

#include <stdio.h>
#include <stdlib.h>

static bool is_var(const char *var, const char *name, size_t n)
{
    return strncmp(var, name, n) == 0 && var[n] == '=';
}

static char **find(const struct environment *e, const char *name, size_t n)
{
    for (size_t i = 0; i < e->count; i++)
        if (is_var(e->vars[i], name, n))
            return &e->vars[i];
    return NULL;
}

static bool grow(struct environment *e)
{
    if (e->count + 1 < e->room)
        return true;
    size_t room = e->room ? 2 * e->room : 32;
    char **vars = realloc(e->vars, room * sizeof *vars);
    if (!vars)
        return false;
    e->vars = vars;
    e->room = room;
    return true;
}

/* Takes over a text made by malloc(); NULL stands for no memory. */
static void consume(struct environment *e, char *var)
{
    size_t n = var ? strcspn(var, "=") : 0;
    char **old = var ? find(e, var, n) : NULL;
    if (old) {
        free(*old);
        *old = var;
    } else if (var && grow(e)) {
        e->vars[e->count++] = var;
        e->vars[e->count] = NULL;
    } else {
        free(var);
        e->failed = true;
    }
}

void environment_init(struct environment *e, char *const *base)
{
    *e = (struct environment){0};
    for (; base && *base; base++)
        environment_put(e, *base);
}

void environment_done(struct environment *e)
{
    for (size_t i = 0; i < e->count; i++)
        free(e->vars[i]);
    free(e->vars);
    *e = (struct environment){0};
}

bool environment_ok(const struct environment *e)
{
    return !e->failed;
}

void environment_set(struct environment *e, const char *name, const char *value)
{
    char *var = NULL;
    consume(e, asprintf(&var, "%s=%s", name, value) < 0 ? NULL : var);
}

void environment_put(struct environment *e, const char *var)
{
    if (strchr(var, '='))
        consume(e, strdup(var));
}

void environment_unset(struct environment *e, const char *name)
{
    char **at = find(e, name, strlen(name));
    if (!at)
        return;
    free(*at);
    *at = e->vars[--e->count];
    e->vars[e->count] = NULL;
}

char *environment_find(const struct environment *e, const char *name)
{
    size_t n = strlen(name);
    char **at = find(e, name, n);
    return at ? *at + n + 1 : NULL;
}

char *environment_join(const char *const *items, size_t count)
{
    size_t size = 1, used = 0;
    for (size_t i = 0; i < count; i++)
        size += strlen(items[i]) + 1;
    char *text = malloc(size);
    if (!text)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(items[i]);
        if (i > 0)
            text[used++] = ' ';
        memcpy(text + used, items[i], n);
        used += n;
    }
    text[used] = 0;
    return text;
}

static void set_list(struct environment *e, const char *name, const char *const *items,
                     size_t count)
{
    char *text = environment_join(items, count);
    if (text)
        environment_set(e, name, text);
    else
        e->failed = true;
    free(text);
}

static void set_or_unset(struct environment *e, const char *name, const char *value)
{
    if (value && *value)
        environment_set(e, name, value);
    else
        environment_unset(e, name);
}

/* Whatever its length: a list that was cut would end in half a path. */
static void preload(struct environment *e, const char *library)
{
    const char *other = environment_find(e, "LD_PRELOAD");
    char *list = NULL;
    if (!library)
        environment_unset(e, "LD_PRELOAD");
    else if (!other || !*other)
        environment_set(e, "LD_PRELOAD", library);
    else if (asprintf(&list, "%s:%s", library, other) < 0)
        e->failed = true;
    else
        environment_set(e, "LD_PRELOAD", list);
    free(list);
}

void environment_app(struct environment *e, const struct environment_app *app)
{
    char hex[APPMSG_INSTANCE_TEXT];
    environment_set(e, "BERTH_CONTROL", app->control);
    environment_set(e, "BERTH_APP", app->name);
    environment_set(e, "BERTH_INSTANCE", appmsg_instance_format(app->instance, hex));
    environment_set(e, "BERTH_COMMAND", app->command);
    environment_set(e, "BERTH_FLAGS", app->proxy ? "proxy" : "");
    set_list(e, "BERTH_ROUTES", app->routes, app->route_count);
    set_list(e, "BERTH_LISTEN", app->listens, app->listen_count);
    set_or_unset(e, "BERTH_PORTS", app->ports);
    preload(e, app->preload);
}
