/* berth ls: which programs share which ports, under which names, and how they are attached. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/daemon.h"

static const char help[] =
    "usage: berth ls [--json]\n"
    "\n"
    "Lists the routes that are served, with their programs, processes, how each program is "
    "attached\n"
    "(preload: by `berth run`; native: by libberth or LISTEN_FDS; upstream: passed on to an "
    "address)\n"
    "and the connections so far. "
    "Pools come first:\n"
    "their state, workers (running/most), open connections, and connections that wait for a "
    "worker.\n"
    "\n"
    "  * behind a route: several programs share this host; later requests on a kept-alive "
    "connection\n"
    "    stay with the program that got its first one\n";

static void pids_print(const json_t *pids)
{
    size_t i;
    json_t *pid;
    if (json_array_size(pids) == 0)
        (void)printf("-");
    json_array_foreach(pids, i, pid)
    {
        if (i == 4) {
            (void)printf(",+%zu", json_array_size(pids) - i);
            return;
        }
        (void)printf("%s%lld", i ? "," : "", (long long)json_integer_value(pid));
    }
}

static const char *bind_state(const json_t *bind)
{
    if (json_is_true(json_object_get(bind, "orphaned")))
        return "orphaned";
    return json_is_true(json_object_get(bind, "listening")) ? "" : "not listening yet";
}

static void bind_print(const json_t *app, const json_t *bind, bool *shared)
{
    size_t i;
    json_t *route;
    json_array_foreach(json_object_get(bind, "routes"), i, route)
    {
        bool star = json_is_true(json_object_get(route, "shared_host"));
        *shared |= star;
        (void)printf("%-16s %-34s%s %-22s %-8s %8lld  ",
                     json_string_value(json_object_get(app, "name")),
                     json_string_value(json_object_get(route, "route")), star ? "*" : " ",
                     json_string_value(json_object_get(route, "address")),
                     json_string_value(json_object_get(bind, "rung")),
                     (long long)json_integer_value(json_object_get(route, "connections")));
        pids_print(json_object_get(bind, "pids"));
        (void)printf("  %s\n", bind_state(bind));
    }
    if (json_array_size(json_object_get(bind, "routes")) == 0)
        (void)printf("%-16s (%s)\n", json_string_value(json_object_get(app, "name")),
                     bind_state(bind));
}

/* A number as text; "-" when berthd does not say. */
static const char *count_text(const json_t *v, char buf[24])
{
    (void)snprintf(buf, 24, "%lld", (long long)json_integer_value(v));
    return json_is_integer(v) ? buf : "-";
}

/* Running and wanted at most: "2/4". */
static const char *workers_text(const json_t *pool, char buf[48])
{
    char most[24];
    (void)snprintf(buf, 48, "%zu/%s", json_array_size(json_object_get(pool, "workers")),
                   count_text(json_object_get(pool, "max"), most));
    return buf;
}

static long long workers_open(const json_t *pool)
{
    size_t i;
    json_t *worker;
    long long open = 0;
    json_array_foreach(json_object_get(pool, "workers"), i, worker) open +=
        (long long)json_integer_value(json_object_get(worker, "open"));
    return open;
}

static void pool_print(const json_t *app, const json_t *pool)
{
    char workers[48], waiting[24];
    const char *state = json_string_value(json_object_get(pool, "state"));
    const char *reason = json_string_value(json_object_get(pool, "reason"));
    const char *to = json_string_value(json_object_get(app, "to"));
    (void)printf("%-16s %-10s %8s %8lld %8s  %s%s%s%s\n",
                 json_string_value(json_object_get(app, "name")), state ? state : "-",
                 workers_text(pool, workers), workers_open(pool),
                 count_text(json_object_get(pool, "parked"), waiting), to ? "to " : "",
                 to ? to : "", to && reason && *reason ? ": " : "", reason ? reason : "");
}

/* Pools first; the applications of `berth run` have neither workers nor a state. */
static void pools_print(const json_t *apps)
{
    size_t i, count = 0;
    json_t *app;
    json_array_foreach(apps, i, app)
    {
        const json_t *pool = json_object_get(app, "pool");
        if (!pool)
            continue;
        if (count++ == 0)
            (void)printf("%s%-16s %-10s %8s %8s %8s%s\n", cli_style(stdout, STYLE_BOLD), "POOL",
                         "STATE", "WORKERS", "OPEN", "WAITING", cli_style(stdout, STYLE_NONE));
        pool_print(app, pool);
    }
    if (count > 0)
        (void)putchar('\n');
}

static void table_print(const json_t *list)
{
    size_t i, k;
    json_t *app, *bind;
    bool shared = false;
    json_t *apps = json_object_get(list, "apps");
    if (json_array_size(apps) == 0) {
        (void)printf("nothing is shared yet: berth run -- PROGRAM\n");
        return;
    }
    pools_print(apps);
    (void)printf("%s%-16s %-35s %-22s %-8s %8s  %s%s\n", cli_style(stdout, STYLE_BOLD), "NAME",
                 "ROUTE", "ADDRESS", "ATTACHED", "CONNS", "PIDS", cli_style(stdout, STYLE_NONE));
    json_array_foreach(apps, i, app)
    {
        json_t *binds = json_object_get(app, "binds");
        json_array_foreach(binds, k, bind) bind_print(app, bind, &shared);
        if (json_array_size(binds) == 0 && !json_object_get(app, "pool"))
            (void)printf("%-16s (started, listens on nothing yet: %s)\n",
                         json_string_value(json_object_get(app, "name")),
                         json_string_value(json_object_get(app, "command")));
    }
    if (shared)
        (void)printf("* several programs share this host: later requests on a kept-alive "
                     "connection stay with the first one's program\n");
}

int cmd_ls(int argc, char **argv)
{
    bool as_json;
    char *text = NULL;
    int status = cli_json_flag(argc, argv, help, &as_json);
    if (status == CLI_OK)
        status = cli_ask((const char *[]){"list", NULL}, -EBADF, NULL, &text);
    if (status != CLI_OK)
        return status;
    json_t *list = json_loads(text, 0, NULL);
    if (!list)
        status = cli_fail("ls", "berthd's answer makes no sense: is it of another version?");
    else if (as_json)
        (void)puts(text);
    else
        table_print(list);
    json_decref(list);
    free(text);
    return status;
}
