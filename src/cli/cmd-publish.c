/* berth publish and unpublish: which services of this user peers may dial, and where they are. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"
#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/peerd.h"

static const char help[] =
    "usage: berth publish SERVICE --to ADDRESS [--allow PEER]... [--proxy]\n"
    "       berth publish [--json]\n"
    "       berth unpublish SERVICE\n"
    "\n"
    "Lets other peers dial a service of this machine under this user's key, through NATs and from\n"
    "anywhere: `berth dial KEY/SERVICE`. Without arguments it lists what is published.\n"
    "\n"
    "It stays published until `berth unpublish`, over restarts. Only who is allowed gets in.\n"
    "\n"
    "  --to ADDRESS            where the service is: PORT, ADDRESS:PORT, [ADDRESS]:PORT or "
    "unix:PATH;\n"
    "                          without it: a program under `berth run --publish SERVICE`\n"
    "  --allow PEER            a name or a key that may dial it; several times\n"
    "  --allow anyone          every key may\n"
    "  --proxy                 the service expects a PROXY header (version 2), with who dials\n"
    "  --rendezvous HOST:PORT  where to register; several times: at all of them (else\n"
    "                          $BERTH_RENDEZVOUS)\n"
    "\n"
    "examples:\n"
    "  berth publish web --to 3000 --allow laptop --rendezvous rdv.example.org\n"
    "  berth publish ssh --to 22 --allow anyone\n";

static const char help_unpublish[] =
    "usage: berth unpublish SERVICE\n"
    "\n"
    "Nobody can dial the service any more. Connections that are open stay.\n";

struct publish {
    struct rendezvous where;
    const char *service, *to;
    const char *allow[PEERD_ARGS_MAX];
    size_t allow_count;
    bool anyone, proxy, json;
};

static int option_take(void *ctx, int c)
{
    struct publish *o = ctx;
    switch (c) {
    case 't':
        o->to = optarg;
        return CLI_OK;
    case 'a':
        if (strcmp(optarg, "anyone") == 0)
            o->anyone = true;
        else if (o->allow_count < PEERD_ARGS_MAX - 8)
            o->allow[o->allow_count++] = optarg;
        else
            return cli_usage("publish", "too many peers at once: see berth allow");
        return CLI_OK;
    case 'p':
        o->proxy = true;
        return CLI_OK;
    case 'r':
        return peer_server_add("publish", &o->where, optarg);
    case 'j':
        o->json = true;
        return CLI_OK;
    default:
        return CLI_USAGE;
    }
}

/* A bare port is one of this machine. */
static int address_read(const char *text, char buf[ADDR_TEXT_MAX], uint16_t *ret_port)
{
    struct addr a;
    char whole[ADDR_TEXT_MAX];
    bool bare = strspn(text, "0123456789") == strlen(text);
    int n = snprintf(whole, sizeof whole, "%s%s", bare ? "127.0.0.1:" : "", text);
    if ((size_t)n >= sizeof whole || addr_parse(whole, &a) < 0 ||
        (a.sa.sa_family != AF_UNIX && addr_port(&a) == 0))
        return cli_usage("publish", "--to takes PORT, ADDRESS:PORT or unix:PATH, not '%s'", text);
    (void)addr_format(&a, buf);
    *ret_port = addr_port(&a);
    return CLI_OK;
}

/* A peer may be allowed this service and all of them. */
static bool is_told(const json_t *allowed, size_t n)
{
    const char *key = json_string_value(json_object_get(json_array_get(allowed, n), "key"));
    for (size_t i = 0; i < n; i++)
        if (strcmp(json_string_value(json_object_get(json_array_get(allowed, i), "key")), key) == 0)
            return true;
    return false;
}

static void allowed_print(const json_t *s)
{
    size_t i;
    const json_t *a;
    bool anyone = json_is_true(json_object_get(s, "anyone"));
    const json_t *allowed = json_object_get(s, "allowed");
    (void)printf("%s", anyone ? "anyone" : json_array_size(allowed) ? "" : "nobody");
    json_array_foreach(allowed, i, a)
    {
        const char *name = json_string_value(json_object_get(a, "name"));
        if (!is_told(allowed, i))
            (void)printf("%s%s", i || anyone ? ", " : "",
                         *name ? name : json_string_value(json_object_get(a, "key")));
    }
    (void)putchar('\n');
}

static void list_print(const json_t *j)
{
    size_t i;
    const json_t *s;
    const json_t *services = json_object_get(j, "services");
    if (json_array_size(services) == 0) {
        (void)puts("nothing is published: berth publish SERVICE --to ADDRESS --allow PEER");
        return;
    }
    (void)printf("%s%-16s %-24s %8s %8s  %s%s\n", cli_style(stdout, STYLE_BOLD), "SERVICE", "TO",
                 "DIALLED", "REFUSED", "ALLOWED", cli_style(stdout, STYLE_NONE));
    json_array_foreach(services, i, s)
    {
        const char *to = json_string_value(json_object_get(s, "to"));
        (void)printf("%-16s %-24s %8lld %8lld  ", json_string_value(json_object_get(s, "service")),
                     *to ? to : "(a program)",
                     (long long)json_integer_value(json_object_get(s, "streams")),
                     (long long)json_integer_value(json_object_get(s, "refused")));
        allowed_print(s);
    }
}

static void servers_print(const json_t *j)
{
    size_t i;
    const json_t *s;
    json_array_foreach(json_object_get(j, "servers"), i, s)
    {
        const char *seen = json_string_value(json_object_get(s, "seen"));
        const char *reason = json_string_value(json_object_get(s, "reason"));
        const char *trouble = json_string_value(json_object_get(s, "trouble"));
        (void)printf("%s at %s%s%s%s%s%s%s\n", json_string_value(json_object_get(s, "state")),
                     json_string_value(json_object_get(s, "server")), seen ? ", seen as " : "",
                     seen ? seen : "", reason ? ": " : "", reason ? reason : "",
                     trouble ? ": " : "", trouble ? trouble : "");
    }
    if (json_array_size(json_object_get(j, "servers")) == 0)
        (void)puts("at no server yet: --rendezvous HOST:PORT");
}

static int list(bool as_json)
{
    struct peerd_ask a;
    char *text = NULL;
    peerd_begin(&a, "published");
    /* What was published before the machine was started anew is asked for, too. */
    int status = peerd_run("publish", &a, true, &text);
    json_t *j = text ? json_loads(text, 0, NULL) : NULL;
    if (status == CLI_OK && !j)
        status = cli_fail("publish", "berth-peer's answer makes no sense");
    if (j && as_json) {
        (void)json_dumpf(j, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    } else if (j) {
        list_print(j);
        servers_print(j);
    }
    json_decref(j);
    free(text);
    peerd_end(&a);
    return status;
}

/* What came of it, in a sentence, and what is missing. */
static void told(const struct publish *o, const char *text)
{
    json_t *j = text ? json_loads(text, 0, NULL) : NULL;
    if (o->to)
        (void)printf("published %s, which is at %s\n", o->service, o->to);
    else
        (void)printf("published %s, for a program under `berth run --publish %s`\n", o->service,
                     o->service);
    if (!peerd_is_allowed(j, o->service))
        (void)fprintf(stderr, "nobody may dial it yet: berth allow PEER %s\n", o->service);
    if (!peerd_is_known(j)) {
        (void)fprintf(stderr, "no rendezvous server knows of it yet:\n");
        servers_print(j);
    }
    json_decref(j);
}

static int publish(struct publish *o)
{
    struct peerd_ask a;
    char address[ADDR_TEXT_MAX] = "", port[8], *text = NULL;
    uint16_t number = 0;
    int status = CLI_OK;
    peerd_begin(&a, "publish");
    peerd_arg(&a, "service", o->service);
    if (o->to)
        status = address_read(o->to, address, &number);
    (void)snprintf(port, sizeof port, "%u", number);
    peerd_arg(&a, "to", address);
    peerd_arg(&a, "port", port);
    peerd_arg(&a, "proxy", o->proxy ? "1" : "0");
    peerd_arg(&a, "anyone", o->anyone ? "1" : "0");
    peerd_servers(&a, &o->where);
    for (size_t i = 0; status == CLI_OK && i < o->allow_count; i++)
        status = peerd_allow_arg("publish", &a, o->allow[i], &o->where);
    if (status == CLI_OK)
        status = peerd_run("publish", &a, true, &text);
    if (status == CLI_OK)
        told(o, text);
    free(text);
    peerd_end(&a);
    return status;
}

/* berthd routes what peers dial. */
static int berthd_wake(void)
{
    CLEANUP_FD int fd = daemon_connect(true);
    return fd < 0 ? cli_fail("publish", "berthd cannot be started: %s", strerror(-fd)) : CLI_OK;
}

int cmd_publish(int argc, char **argv)
{
    static const struct option options[] = {{"to", required_argument, NULL, 't'},
                                            {"allow", required_argument, NULL, 'a'},
                                            {"proxy", no_argument, NULL, 'p'},
                                            {"rendezvous", required_argument, NULL, 'r'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct publish o = {.service = NULL};
    const struct cli_options taken = {"publish", help, "", options};
    int status = cli_options(&taken, argc, argv, option_take, &o);
    if (status != CLI_OK)
        return status;
    if (optind == argc)
        return list(o.json);
    if (optind + 1 < argc)
        return cli_usage("publish", "unexpected argument '%s'", argv[optind + 1]);
    o.service = argv[optind];
    if (!record_name_valid(str_of(o.service)))
        return cli_usage("publish", "'%s' is no service's name: %s", o.service,
                         rdv_reason_sentence(RDV_BAD_NAME));
    status = peer_start("publish");
    if (status == CLI_OK)
        status = berthd_wake();
    return status == CLI_OK ? publish(&o) : status;
}

int cmd_unpublish(int argc, char **argv)
{
    struct peerd_ask a;
    char *text = NULL;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        (void)fputs(help_unpublish, stdout);
        return CLI_OK;
    }
    if (argc != 2 || !record_name_valid(str_of(argv[1])))
        return cli_usage("unpublish", "which SERVICE?");
    peerd_begin(&a, "unpublish");
    peerd_arg(&a, "service", argv[1]);
    int status = peerd_run("unpublish", &a, true, &text);
    if (status == CLI_OK)
        peerd_told("unpublish", text);
    free(text);
    peerd_end(&a);
    return status;
}
