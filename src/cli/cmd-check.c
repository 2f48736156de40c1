/* berth check: is the configuration good, and what would happen to a request? Needs no berthd and
 * changes nothing. */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/conf-json.h"
#include "conf/explain.h"

/* A longer list is for `berth config`. */
#define APPS_SHOWN 40

static const char help[] =
    "usage: berth check [--config PATH] [--json] [REQUEST...]\n"
    "\n"
    "Reads the configuration as berthd would, and prints every error in it. With requests: which\n"
    "application would get them, and why.\n"
    "\n"
    "  --config PATH  a file, or a folder with berth.conf and apps.d/*.conf in it; without it\n"
    "                 /etc/berth for root, ~/.config/berth for others\n"
    "  --json         for programs\n"
    "\n"
    "A request is [METHOD] URL [at ADDRESS] [from ADDRESS]:\n"
    "\n"
    "  berth check 'GET http://a.example/api/x' 'http://a.example:8080/ from 10.0.0.7'\n"
    "  berth check https://b.example/ ssh://:443\n"
    "\n"
    "Exit status: 0 good, 1 errors, 2 the command line or a request was not understood\n";

struct options {
    const char *path;
    bool json, help;
};

static int options_read(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    *o = (struct options){0};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        if (c == 'c')
            o->path = optarg;
        else if (c == 'j')
            o->json = true;
        else if (c == 'h')
            o->help = true;
        else if (c == ':')
            return cli_usage("check", "%s wants a path", argv[optind - 1]);
        else
            return cli_usage("check", "there is no option %s", argv[optind - 1]);
    }
    return CLI_OK;
}

static void errors_print(const struct conf_errors *e)
{
    for (size_t i = 0; i < e->count; i++)
        conf_error_print(&e->items[i], stdout);
    size_t all = e->count + e->dropped;
    if (e->dropped)
        (void)printf("... and %zu more\n", e->dropped);
    (void)printf("%zu error%s\n", all, all == 1 ? "" : "s");
}

static void app_print(const struct conf_app *a)
{
    char address[ADDR_TEXT_MAX];
    (void)printf("  %-16s", a->name);
    for (size_t i = 0; i < a->routes.count && i < 4; i++)
        (void)printf(" %s", a->routes.items[i]);
    if (a->routes.count > 4)
        (void)printf(" and %zu more", a->routes.count - 4);
    (void)printf(a->listen.count ? " at" : ", where it listens");
    for (size_t i = 0; i < a->listen.count && i < 4; i++)
        (void)printf(" %s", addr_format(&a->listen.items[i], address));
    if (a->listen.count > 4)
        (void)printf(" and %zu more", a->listen.count - 4);
    (void)printf("\n");
}

static const char *plural(size_t n)
{
    return n == 1 ? "" : "s";
}

static void summary_print(const struct conf *c, const struct conf_router *r)
{
    size_t routes = 0, listeners = conf_router_listeners(r)->count;
    for (size_t i = 0; i < c->app_count; i++)
        routes += c->apps[i].routes.count;
    (void)printf("good: %zu file%s, %zu application%s, %zu route%s, %zu listener%s, %zu reserved\n",
                 c->files.count, plural(c->files.count), c->app_count, plural(c->app_count), routes,
                 plural(routes), listeners, plural(listeners), c->reserve_count);
    for (size_t i = 0; i < c->app_count && i < APPS_SHOWN; i++)
        app_print(&c->apps[i]);
    if (c->app_count > APPS_SHOWN)
        (void)printf("  ... and %zu more\n", c->app_count - APPS_SHOWN);
}

/* Answers to requests */

struct check {
    const struct conf *conf;
    const struct conf_router *router;
    json_t *answers; /* NULL: for people */
};

static const char *start_words(const struct conf_app *a)
{
    if (a->start == CONF_START_MANUAL)
        return ", once `berth start` has started it";
    return a->start == CONF_START_DEMAND ? ", which it starts when none runs" : "";
}

static void fate_print(const struct conf_answer *a)
{
    char address[ADDR_TEXT_MAX];
    switch (a->fate) {
    case CONF_FATE_DELIVERED:
        (void)printf("app %s, %s%s%s%s\n    route %s", a->app->name,
                     a->app->to ? "passed on to " : "handed off", a->app->to ? a->app->to : "",
                     start_words(a->app), a->early ? " (by address alone: no byte is read)" : "",
                     a->route);
        if (a->assumed)
            (void)printf(", if it listens on port %u: it has no listen = in its definition",
                         addr_port(&a->local));
        (void)printf("\n");
        return;
    case CONF_FATE_RESERVED:
        (void)printf("refused, Reserved (HTTP %u): %s belongs to user %s, and nobody serves it\n",
                     a->reserve->status, a->reserve->route, a->reserve->user);
        return;
    case CONF_FATE_REFUSED:
        (void)printf("refused, %s\n", a->reason);
        return;
    case CONF_FATE_NOT_OURS:
        if (a->local.sa.sa_family == AF_UNSPEC)
            (void)printf("nobody: no application listens on that port\n");
        else
            (void)printf("nobody: no application listens at %s\n", addr_format(&a->local, address));
    }
}

static void near_print(const struct check *k, const char *request)
{
    struct conf_near near[CONF_NEAR_MAX];
    char address[ADDR_TEXT_MAX];
    size_t n = conf_near(k->conf, request, near);
    for (size_t i = 0; i < n; i++) {
        const struct conf_addrs *l = &near[i].app->listen;
        (void)printf("    there is %s (app %s%s%s)\n", near[i].route, near[i].app->name,
                     l->count ? " at " : "", l->count ? addr_format(&l->items[0], address) : "");
    }
}

static void answers_print(const struct check *k, const char *request,
                          const struct conf_answer *answers, int count)
{
    char address[ADDR_TEXT_MAX];
    bool nobody = false;
    for (int i = 0; i < count; i++) {
        const struct conf_answer *a = &answers[i];
        (void)printf("%s", request);
        if (count > 1)
            (void)printf(" (at %s)", addr_format(&a->local, address));
        (void)printf(" \u2192 ");
        fate_print(a);
        nobody |= a->fate == CONF_FATE_NOT_OURS ||
                  (a->fate == CONF_FATE_REFUSED && strcmp(a->reason, "NoRoute") == 0);
    }
    if (nobody)
        near_print(k, request);
}

static json_t *answer_json(const char *request, const struct conf_answer *a)
{
    static const char *const fates[] = {"delivered", "reserved", "refused", "nobody"};
    char address[ADDR_TEXT_MAX];
    json_t *j = json_pack("{s:s, s:s, s:b, s:b}", "request", request, "fate", fates[a->fate],
                          "early", a->early, "assumed", a->assumed);
    if (a->app)
        (void)json_object_set_new(j, "app", json_string(a->app->name));
    if (a->reserve)
        (void)json_object_set_new(j, "user", json_string(a->reserve->user));
    if (a->reason && a->fate != CONF_FATE_DELIVERED)
        (void)json_object_set_new(j, "reason", json_string(a->reason));
    if (a->route[0])
        (void)json_object_set_new(j, "route", json_string(a->route));
    if (a->local.sa.sa_family != AF_UNSPEC)
        (void)json_object_set_new(j, "at", json_string(addr_format(&a->local, address)));
    return j;
}

static int request_answer(const struct check *k, const char *request)
{
    struct conf_answer answers[CONF_ANSWERS_MAX];
    char reason[256];
    int n = conf_explain(k->router, request, answers, reason, sizeof reason);
    if (n == -ENOMEM)
        return cli_fail("check", "memory is short");
    if (n < 0)
        return cli_usage("check", "\"%s\": %s", request, reason);
    for (int i = 0; k->answers && i < n; i++)
        (void)json_array_append_new(k->answers, answer_json(request, &answers[i]));
    if (!k->answers)
        answers_print(k, request, answers, n);
    return CLI_OK;
}

static int good_print(const struct options *o, const struct conf *c, char **requests)
{
    struct conf_router *r;
    if (conf_router_new(c, &r) < 0)
        return cli_fail("check", "memory is short");
    struct check k = {c, r, o->json ? json_array() : NULL};
    int status = CLI_OK;
    if (!o->json && !*requests)
        summary_print(c, r);
    for (; *requests && status == CLI_OK; requests++)
        status = request_answer(&k, *requests);
    if (o->json && status == CLI_OK)
        status = conf_json_print("check", json_pack("{s:[], s:o, s:o}", "errors", "config",
                                                    conf_json(c), "answers", k.answers));
    else
        json_decref(k.answers);
    conf_router_free(r);
    return status;
}

static int bad_print(const struct options *o, const struct conf_errors *e)
{
    if (!o->json) {
        errors_print(e);
        return CLI_TROUBLE;
    }
    (void)conf_json_print("check", json_pack("{s:o, s:I}", "errors", conf_json_errors(e), "dropped",
                                             (json_int_t)e->dropped));
    return CLI_TROUBLE;
}

int cmd_check(int argc, char **argv)
{
    struct options o;
    struct conf *c = NULL;
    struct conf_errors errors = {0};
    int status = options_read(argc, argv, &o);
    if (status != CLI_OK)
        return status;
    if (o.help) {
        (void)fputs(help, stdout);
        return CLI_OK;
    }
    int r = conf_read(o.path, &c, &errors);
    if (r == 0)
        r = conf_check_users(c, &errors);
    if (r == -ENOMEM)
        status = cli_fail("check", "memory is short");
    else
        status = r < 0 ? bad_print(&o, &errors) : good_print(&o, c, argv + optind);
    conf_errors_done(&errors);
    conf_free(c);
    return status;
}
