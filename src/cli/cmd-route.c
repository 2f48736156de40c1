/* berth route: names whose connections are passed on to an address, instead of to a program. Each
 * is an application of berthd's, defined as in the configuration by `to =`. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/target.h"
#include "cli/cli.h"
#include "cli/daemon.h"
#include "conf/conf.h"
#include "wire/appmsg.h"

static const char help[] =
    "usage: berth route add ROUTE... --to ADDRESS [--proxy v1|v2] [--name NAME] [--listen "
    "ADDR...]\n"
    "       berth route ls [--json]\n"
    "       berth route delete NAME|ROUTE\n"
    "\n"
    "Passes the connections of a route on to an address: a container, another host, a program "
    "that\n"
    "was not started by berth. Bytes are moved by the kernel; the end of a stream, a reset and a "
    "slow\n"
    "reader are passed on as they are.\n"
    "\n"
    "  --to ADDRESS    10.0.0.5:3000, [2001:db8::7]:3000, db.example:5432 or unix:/path\n"
    "  --proxy v1|v2   write a PROXY header in front: the address sees who the client is\n"
    "  --name NAME     what `berth ls` calls it\n"
    "  --listen ADDR   where its connections arrive (repeatable). Default: the routes' ports, on "
    "the\n"
    "                  loopback addresses when every host ends in .localhost, else on all\n"
    "  --set KEY=VALUE any other key of berth.conf(5), as in --set connections=100 (repeatable)\n"
    "  --json          for programs\n"
    "  --help\n"
    "\n"
    "examples:\n"
    "  berth route add http://wiki.localhost:8080/ --to 172.17.0.2:80\n"
    "  berth route add tls://db.example:5432 --to db.internal:5432 --proxy v2 --name db\n"
    "  berth route add peer://web --to 127.0.0.1:3000\n"
    "  berth route delete db\n";

#define SETTINGS_MAX 32

struct route_add {
    const char *routes[APPMSG_ROUTES_MAX];
    size_t route_count;
    const char *listens[APPMSG_LISTENS_MAX];
    size_t listen_count;
    const char *settings[SETTINGS_MAX];
    size_t setting_count;
    const char *to, *proxy, *name;
    char name_buf[65];
    bool json;
};

enum { O_TO = 1, O_PROXY, O_NAME, O_LISTEN, O_SET, O_JSON };
static const struct option options[] = {
    {"to", required_argument, NULL, O_TO},     {"proxy", required_argument, NULL, O_PROXY},
    {"name", required_argument, NULL, O_NAME}, {"listen", required_argument, NULL, O_LISTEN},
    {"set", required_argument, NULL, O_SET},   {"json", no_argument, NULL, O_JSON},
    {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};

static int to_read(struct route_add *r, const char *text)
{
    struct target_place place;
    if (target_place_parse(text, &place) < 0)
        return cli_usage("route",
                         "--to '%s': write 10.0.0.5:3000, [::1]:3000, db.example:5432 or "
                         "unix:/path",
                         text);
    r->to = text;
    return CLI_OK;
}

static int listen_read(struct route_add *r, const char *text)
{
    struct addr a;
    if (r->listen_count == APPMSG_LISTENS_MAX)
        return cli_usage("route", "at most %d addresses", APPMSG_LISTENS_MAX);
    if (strchr(text, ' ') || addr_parse(text, &a) < 0)
        return cli_usage("route", "--listen '%s': write 0.0.0.0:80, [::]:80 or unix:/path", text);
    r->listens[r->listen_count++] = text;
    return CLI_OK;
}

static int setting_read(struct route_add *r, const char *text)
{
    if (r->setting_count == SETTINGS_MAX || !strchr(text, '=') || strchr(text, '\n'))
        return cli_usage("route", "--set '%s': write KEY=VALUE, as in idle_timeout=5min", text);
    r->settings[r->setting_count++] = text;
    return CLI_OK;
}

static int option_read(void *ctx, int option)
{
    struct route_add *r = ctx;
    switch (option) {
    case O_TO:
        return to_read(r, optarg);
    case O_PROXY:
        if (strcmp(optarg, "v1") != 0 && strcmp(optarg, "v2") != 0)
            return cli_usage("route", "--proxy %s: it is v1 or v2", optarg);
        r->proxy = optarg;
        return CLI_OK;
    case O_NAME:
        if (!*optarg || strlen(optarg) > CONF_NAME_MAX)
            return cli_usage("route", "--name has 1 to %d characters", CONF_NAME_MAX);
        r->name = optarg;
        return CLI_OK;
    case O_LISTEN:
        return listen_read(r, optarg);
    case O_SET:
        return setting_read(r, optarg);
    case O_JSON:
        r->json = true;
        return CLI_OK;
    default:
        return CLI_USAGE;
    }
}

static int arguments_read(struct route_add *r, int argc, char **argv)
{
    const struct cli_options taken = {"route", help, "", options};
    int status = cli_options(&taken, argc, argv, option_read, r);
    if (status != CLI_OK)
        return status;
    for (int i = optind; i < argc; i++) {
        if (r->route_count == APPMSG_ROUTES_MAX)
            return cli_usage("route", "at most %d routes", APPMSG_ROUTES_MAX);
        r->routes[r->route_count++] = argv[i];
    }
    return CLI_OK;
}

/* What all its routes together say about where it listens. */
struct outlook {
    bool local;    /* all hosts are below localhost */
    bool portless; /* one names no port */
    uint16_t ports[2 * APPMSG_ROUTES_MAX];
    size_t port_count;
};

static bool host_is_local(const struct route *r)
{
    const char *dot = strrchr(r->host, '.');
    return strcmp(dot ? dot + 1 : r->host, "localhost") == 0;
}

static void outlook_see(struct outlook *o, const struct route *r)
{
    if (r->scheme == SCHEME_PEER)
        return;
    o->local &= host_is_local(r);
    o->portless |= r->port == 0;
    for (size_t i = 0; i < o->port_count; i++)
        if (o->ports[i] == r->port)
            return;
    if (r->port)
        o->ports[o->port_count++] = r->port;
}

static void name_choose(struct route_add *r, const struct route *first)
{
    if (r->name)
        return;
    size_t n = strcspn(first->host, ".");
    const char *scheme = route_scheme_name(first->scheme);
    if (first->kind == HOST_NAME && n > 0 && n <= CONF_NAME_MAX)
        (void)snprintf(r->name_buf, sizeof r->name_buf, "%.*s", (int)n, first->host);
    else
        (void)snprintf(r->name_buf, sizeof r->name_buf, "%s-%u", scheme, first->port);
    r->name = r->name_buf;
}

static int routes_read(struct route_add *r, struct outlook *o)
{
    struct route routes[2];
    char reason[ROUTE_REASON_MAX];
    *o = (struct outlook){.local = true};
    for (size_t i = 0; i < r->route_count; i++) {
        if (strpbrk(r->routes[i], " \t\n"))
            return cli_usage("route", "'%s': a route has no blanks", r->routes[i]);
        int n = route_expand(r->routes[i], routes, reason);
        if (n < 0)
            return cli_usage("route", "%s: %s", r->routes[i], reason);
        for (int k = 0; k < n; k++)
            outlook_see(o, &routes[k]);
        if (i == 0)
            name_choose(r, &routes[0]);
    }
    if (o->portless && r->listen_count == 0)
        return cli_usage("route", "where do its connections arrive? Name the port in each route, "
                                  "as in http://wiki.localhost:8080/, or say --listen");
    return CLI_OK;
}

static void listens_write(const struct route_add *r, const struct outlook *o, FILE *f)
{
    for (size_t i = 0; i < r->listen_count; i++)
        (void)fprintf(f, "listen = %s\n", r->listens[i]);
    for (size_t i = 0; r->listen_count == 0 && i < o->port_count; i++)
        (void)fprintf(f, "listen = %s:%u\nlisten = [%s]:%u\n", o->local ? "127.0.0.1" : "0.0.0.0",
                      o->ports[i], o->local ? "::1" : "::", o->ports[i]);
}

/* The definition, as berthd takes it: the [app] section and a NUL. */
static int definition_fd(const struct route_add *r, const struct outlook *o)
{
    CLEANUP_FD int fd = memfd_create("berth-route", MFD_CLOEXEC);
    int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    FILE *f = copy < 0 ? NULL : fdopen(copy, "w");
    if (!f) {
        (void)fd_close(copy);
        return -ENOMEM;
    }
    (void)fprintf(f, "[app %s]\n", r->name);
    for (size_t i = 0; i < r->route_count; i++)
        (void)fprintf(f, "route = %s\n", r->routes[i]);
    listens_write(r, o, f);
    (void)fprintf(f, "to = ");
    conf_word_format(r->to, f);
    (void)fputc('\n', f);
    if (r->proxy)
        (void)fprintf(f, "send_proxy = %s\n", r->proxy);
    for (size_t i = 0; i < r->setting_count; i++)
        (void)fprintf(f, "%s\n", r->settings[i]);
    (void)fputc(0, f);
    return fclose(f) == 0 ? fd_take(&fd) : -EIO;
}

static int route_add(struct route_add *r)
{
    struct outlook o;
    if (r->route_count == 0)
        return cli_usage("route", "which route? As in http://wiki.localhost:8080/");
    if (!r->to)
        return cli_usage("route", "where to? As in --to 172.17.0.2:80");
    int status = routes_read(r, &o);
    if (status != CLI_OK)
        return status;
    (void)daemon_use_owner(r->routes, r->route_count);
    CLEANUP_FD int fd = daemon_connect(true);
    if (fd < 0)
        return cli_fail("route", "berthd cannot be started: %s; its log is beside its socket",
                        strerror(-fd));
    CLEANUP_FD int definition = definition_fd(r, &o);
    if (definition < 0)
        return cli_fail("route", "no memory");
    char *text = NULL;
    int err = daemon_command(fd, (const char *[]){"run", NULL}, definition, NULL, &text);
    if (err < 0)
        (void)cli_fail("route", "%s", text ? text : strerror(-err));
    free(text);
    return err < 0 ? CLI_USAGE : CLI_OK;
}

/* All applications that berthd has, or NULL after a complaint. */
static json_t *apps_get(int *ret_status)
{
    char *text = NULL;
    *ret_status = cli_ask((const char *[]){"list", NULL}, -EBADF, NULL, &text);
    json_t *list = *ret_status == CLI_OK ? json_loads(text, 0, NULL) : NULL;
    free(text);
    if (!list && *ret_status == CLI_OK)
        *ret_status =
            cli_fail("route", "berthd's answer makes no sense: is it of another version?");
    return list;
}

typedef bool route_fn(void *ctx, const json_t *app, const json_t *route);

/* Every route of every application with an address, until fn returns false. */
static void routes_each(const json_t *list, route_fn *fn, void *ctx)
{
    size_t i, k, m;
    json_t *app, *bind, *route;
    json_array_foreach(json_object_get(list, "apps"), i, app)
    {
        if (!json_object_get(app, "to"))
            continue;
        json_array_foreach(json_object_get(app, "binds"), k, bind) json_array_foreach(
            json_object_get(bind, "routes"), m, route) if (!fn(ctx, app, route)) return;
    }
}

static bool route_print(void *ctx, const json_t *app, const json_t *route)
{
    (void)ctx;
    (void)printf("%-16s %-34s %-22s %-24s %8lld\n", json_string_value(json_object_get(app, "name")),
                 json_string_value(json_object_get(route, "route")),
                 json_string_value(json_object_get(route, "address")),
                 json_string_value(json_object_get(app, "to")),
                 (long long)json_integer_value(json_object_get(route, "connections")));
    return true;
}

static bool route_collect(void *ctx, const json_t *app, const json_t *route)
{
    (void)json_array_append_new(
        ctx, json_pack("{s:O, s:O, s:O, s:O, s:O}", "name", json_object_get(app, "name"), "route",
                       json_object_get(route, "route"), "address",
                       json_object_get(route, "address"), "to", json_object_get(app, "to"),
                       "connections", json_object_get(route, "connections")));
    return true;
}

static int route_ls(const struct route_add *r)
{
    int status;
    json_t *list = apps_get(&status);
    if (!list)
        return status;
    if (r->json) {
        json_t *all = json_array();
        routes_each(list, route_collect, all);
        (void)json_dumpf(all, stdout, JSON_INDENT(2));
        (void)putchar('\n');
        json_decref(all);
    } else {
        (void)printf("%s%-16s %-34s %-22s %-24s %8s%s\n", cli_style(stdout, STYLE_BOLD), "NAME",
                     "ROUTE", "ADDRESS", "TO", "CONNS", cli_style(stdout, STYLE_NONE));
        routes_each(list, route_print, NULL);
    }
    json_decref(list);
    return CLI_OK;
}

/* What is to be deleted, as it was written, and the application that has it. */
struct wanted {
    const char *text;
    char canonical[2][ROUTE_TEXT_MAX];
    size_t count;
    char name[CONF_NAME_MAX + 1];
};

static bool route_seek(void *ctx, const json_t *app, const json_t *route)
{
    struct wanted *w = ctx;
    const char *name = json_string_value(json_object_get(app, "name"));
    const char *text = json_string_value(json_object_get(route, "route"));
    bool found = strcmp(name, w->text) == 0;
    for (size_t i = 0; i < w->count; i++)
        found |= strcmp(text, w->canonical[i]) == 0;
    if (found)
        (void)snprintf(w->name, sizeof w->name, "%s", name);
    return !found;
}

static int route_delete(const struct route_add *r)
{
    struct wanted w = {.text = r->route_count == 1 ? r->routes[0] : ""};
    struct route routes[2];
    char reason[ROUTE_REASON_MAX], *text = NULL;
    if (r->route_count != 1)
        return cli_usage("route", "which one? A name or a route of `berth route ls`");
    int n = route_expand(w.text, routes, reason), status;
    for (int i = 0; i < n; i++)
        (void)route_format(&routes[i], w.canonical[w.count++]);
    json_t *list = apps_get(&status);
    if (!list)
        return status;
    routes_each(list, route_seek, &w);
    json_decref(list);
    if (!w.name[0])
        return cli_fail("route", "nothing is passed on as '%s': see `berth route ls`", w.text);
    status = cli_ask((const char *[]){"halt", w.name, NULL}, -EBADF, NULL, &text);
    free(text);
    return status;
}

int cmd_route(int argc, char **argv)
{
    static struct route_add r;
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "--help") == 0) {
        (void)fputs(help, stdout);
        return CLI_OK;
    }
    bool add = strcmp(what, "add") == 0, ls = strcmp(what, "ls") == 0;
    if (!add && !ls && strcmp(what, "delete") != 0)
        return cli_usage("route", "add, ls or delete?");
    int status = arguments_read(&r, argc - 1, argv + 1);
    if (status != CLI_OK)
        return status;
    if (add)
        return route_add(&r);
    return ls ? route_ls(&r) : route_delete(&r);
}
