/* berth reserve: names that belong to users. */
#include <errno.h>
#include <jansson.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/daemon.h"
#include "share/route.h"

static const char help[] =
    "usage: berth reserve ROUTE --user USER [--delegate] [--status N]\n"
    "       berth reserve --delete ROUTE\n"
    "       berth reserve --list [--json]\n"
    "\n"
    "Makes a name a user's own: only his programs may have it, and what lies below it. As long as\n"
    "none of them serves it, it answers for itself, and goes to nobody else.\n"
    "\n"
    "  --user USER   whose it is: a name or a number\n"
    "  --delegate    he may reserve what lies below it for others\n"
    "  --status N    the HTTP status while nobody serves it: 400 to 599 (default 503)\n"
    "  --delete      takes the reservation away; programs that have the name keep it\n"
    "  --list        shows all (default without a route)\n"
    "  --json        for programs\n"
    "  --help\n"
    "\n"
    "examples:\n"
    "  berth reserve http://shop.example/ --user shop --delegate\n"
    "  berth reserve tls://db.example:5432 --user postgres\n"
    "  berth reserve 'http://*.lab.example:80/' --user 1001 --status 404\n";

struct reserve {
    const char *route, *user, *status;
    bool delegate, drop, list, json;
};

static int user_number(const char *text, char number[16])
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    struct passwd *pw = getpwnam(text);
    if (pw)
        v = pw->pw_uid;
    else if (!ascii_is_digit(text[0]) || *end || v >= UINT32_MAX)
        return cli_usage("reserve", "--user %s: there is no such user", text);
    (void)snprintf(number, 16, "%lu", v);
    return CLI_OK;
}

enum { O_USER = 1, O_DELEGATE, O_STATUS, O_DELETE, O_LIST, O_JSON };
static const struct option options[] = {{"user", required_argument, NULL, O_USER},
                                        {"delegate", no_argument, NULL, O_DELEGATE},
                                        {"status", required_argument, NULL, O_STATUS},
                                        {"delete", no_argument, NULL, O_DELETE},
                                        {"list", no_argument, NULL, O_LIST},
                                        {"json", no_argument, NULL, O_JSON},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

static int option_read(void *ctx, int option)
{
    struct reserve *r = ctx;
    switch (option) {
    case O_USER:
        r->user = optarg;
        return CLI_OK;
    case O_DELEGATE:
        r->delegate = true;
        return CLI_OK;
    case O_STATUS:
        r->status = optarg;
        return CLI_OK;
    case O_DELETE:
        r->drop = true;
        return CLI_OK;
    case O_LIST:
        r->list = true;
        return CLI_OK;
    case O_JSON:
        r->json = true;
        return CLI_OK;
    default:
        return CLI_USAGE;
    }
}

static int status_check(const char *text)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (ascii_is_digit(text[0]) && !*end && v >= 400 && v <= 599)
        return CLI_OK;
    return cli_usage("reserve", "--status %s: write a number from 400 to 599", text);
}

/* What goes together. */
static int arguments_check(struct reserve *r)
{
    struct route routes[2];
    char reason[ROUTE_REASON_MAX];
    if (!r->route && !r->drop && !r->user)
        r->list = true;
    if (r->list)
        return r->route || r->user || r->drop ? cli_usage("reserve", "--list takes no route")
                                              : CLI_OK;
    if (r->json)
        return cli_usage("reserve", "--json goes with --list");
    if (!r->route)
        return cli_usage("reserve", "which route? As in http://shop.example/");
    if (route_expand(r->route, routes, reason) < 0)
        return cli_usage("reserve", "%s: %s", r->route, reason);
    if (r->drop)
        return r->user || r->status || r->delegate
                   ? cli_usage("reserve", "--delete takes the route only")
                   : CLI_OK;
    if (!r->user)
        return cli_usage("reserve", "whose is it to be? --user USER");
    return status_check(r->status);
}

static int arguments_read(struct reserve *r, int argc, char **argv)
{
    const struct cli_options taken = {"reserve", help, "", options};
    int status = cli_options(&taken, argc, argv, option_read, r);
    if (status != CLI_OK)
        return status;
    if (argc - optind > 1)
        return cli_usage("reserve", "one route at a time");
    r->route = argv[optind];
    if (!r->status && !r->list && !r->drop)
        r->status = "503";
    return arguments_check(r);
}

static const char *text_of(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "?";
}

static void list_print(const json_t *answer)
{
    size_t i;
    json_t *r, *all = json_object_get(answer, "reservations");
    if (json_array_size(all) == 0)
        (void)printf("no name is reserved\n");
    else
        (void)printf("%s%-40s %-16s %-8s %6s  %s%s\n", cli_style(stdout, STYLE_BOLD), "ROUTE",
                     "USER", "DELEGATE", "STATUS", "NOW", cli_style(stdout, STYLE_NONE));
    json_array_foreach(all, i, r)
    {
        bool served = json_is_true(json_object_get(r, "served"));
        (void)printf("%-40s %-16s %-8s %6lld  %s%s\n", text_of(r, "route"), text_of(r, "user"),
                     json_is_true(json_object_get(r, "delegate")) ? "yes" : "no",
                     (long long)json_integer_value(json_object_get(r, "status")),
                     served ? "served" : "answers for itself",
                     strcmp(text_of(r, "source"), "configuration") == 0 ? " (configuration)" : "");
    }
    (void)printf("names that nobody reserved: %s\n", text_of(answer, "unreserved"));
}

static int answer_print(const struct reserve *r, char *text)
{
    if (!r->list || r->json) {
        if (text)
            (void)printf("%s%s", text, r->list ? "\n" : "");
        return CLI_OK;
    }
    json_t *j = json_loads(text ? text : "", 0, NULL);
    if (!j)
        return cli_fail("reserve", "berthd's answer makes no sense: is it of another version?");
    list_print(j);
    json_decref(j);
    return CLI_OK;
}

int cmd_reserve(int argc, char **argv)
{
    struct reserve r = {0};
    char uid[16] = "", *text = NULL;
    int status = arguments_read(&r, argc, argv);
    if (status == CLI_OK && r.user)
        status = user_number(r.user, uid);
    if (status != CLI_OK)
        return status;
    daemon_use_system();
    CLEANUP_FD int fd = daemon_connect(true);
    if (fd < 0)
        return cli_fail("reserve", "berthd cannot be reached: %s", strerror(-fd));
    const char *add[] = {"reserve", r.route, uid, r.delegate ? "yes" : "no", r.status, NULL};
    const char *drop[] = {"reserve-delete", r.route, NULL};
    const char *list[] = {"reserve-list", NULL};
    int err = daemon_command(fd, r.list ? list : r.drop ? drop : add, -EBADF, NULL, &text);
    status = err < 0 ? cli_fail("reserve", "%s", text && *text ? text : strerror(-err))
                     : answer_print(&r, text);
    free(text);
    return status;
}
