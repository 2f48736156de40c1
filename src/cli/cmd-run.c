/* berth run: starts a program whose listening ports are shared. It prepares the environment,
 * introduces the application to berthd, and becomes the program: same process, same terminal, same
 * signals. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/addr.h"
#include "base/log.h"
#include "base/self.h"
#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/program.h"
#include "cli/run.h"
#include "ipc/runtime.h"
#include "launch/program.h"
#include "share/route.h"

/* Of the command line, for people. */
#define COMMAND_MAX 1023

static const char help[] =
    "usage: berth run [OPTION...] -- PROGRAM [ARGUMENT...]\n"
    "\n"
    "Starts PROGRAM, unchanged, and shares the ports that it listens on: other programs started\n"
    "so may listen on the same port, and each is reached by its name.\n"
    "\n"
    "  --as ROUTE      what the program answers to (repeatable): a host name, or a route such as\n"
    "                  http://blog.localhost/api/  tls://*.example:443  ssh://  any://\n"
    "                  Default: the name of this folder, as in http://shop.localhost/\n"
    "  --port PORTS    share only these of its ports, as in 8080,8443; others are left alone\n"
    "  --listen ADDR   reach it at this address, too (repeatable): 0.0.0.0:80, [::1]:80, "
    "unix:/path\n"
    "  --publish NAME  peers may dial it by this name; NAME=PORT: the program that listens there\n"
    "  --allow PEER    who may dial it: a name, a key, or anyone (repeatable)\n"
    "  --name NAME     what `berth ls` calls it\n"
    "  --proxy         the shared port stands behind a load balancer that sends PROXY headers;\n"
    "                  the header is looked through and left for the program to read\n"
    "  --queue         for programs that take sockets from a queue in LISTEN_FDS: see libberth(3)\n"
    "  --help\n"
    "\n"
    "berthd starts the program itself, as a pool of workers, with any of these:\n"
    "  --workers N     so many of it, which share its connections; 1..8: as many as are needed\n"
    "  --set KEY=VALUE any key of berth.conf(5), as in --set idle_timeout=5min (repeatable)\n"
    "  --detach        do not stay to show its output; `berth stop NAME` ends it\n"
    "\n"
    "examples:\n"
    "  berth run --as blog.localhost -- python3 -m http.server 8080\n"
    "  berth run --as api.localhost -- node server.js\n"
    "  cd ~/shop && berth run -- npm run dev\n"
    "  berth run --name shop --as shop.localhost --workers 2 -- python3 server.py\n"
    "  berth run --as ssh://:443 --listen 0.0.0.0:443 -- /usr/sbin/sshd -D -p 2222\n"
    "\n"
    "A program that listens on a name that is taken gets \"Address already in use\", and the "
    "reason\n"
    "on standard error. Exit status: the program's own; 2 when it was not started.\n";

static int ports_read(const char *text, char ports[256])
{
    struct addr a;
    char copy[256], probe[16];
    (void)snprintf(copy, sizeof copy, "%s", text);
    if (strlen(text) >= sizeof copy || !*text)
        return -EINVAL;
    for (char *save, *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        (void)snprintf(probe, sizeof probe, "*:%.8s", p);
        if (addr_parse(probe, &a) < 0 || addr_port(&a) == 0)
            return -EINVAL;
    }
    (void)snprintf(ports, 256, "%s", text);
    return 0;
}

static int route_add(struct run *r, const char *text)
{
    struct route routes[2];
    char reason[ROUTE_REASON_MAX];
    if (r->route_count == APPMSG_ROUTES_MAX)
        return cli_usage("run", "at most %d routes", APPMSG_ROUTES_MAX);
    if (strpbrk(text, " \t\n"))
        return cli_usage("run", "--as '%s': a route has no blanks", text);
    if (route_expand(text, routes, reason) < 0)
        return cli_usage("run", "--as %s: %s", text, reason);
    r->routes[r->route_count++] = text;
    return CLI_OK;
}

static int listen_add(struct run *r, const char *text)
{
    struct addr a;
    if (r->listen_count == APPMSG_LISTENS_MAX)
        return cli_usage("run", "at most %d addresses", APPMSG_LISTENS_MAX);
    if (strchr(text, ' ') || addr_parse(text, &a) < 0)
        return cli_usage("run", "--listen '%s': write 0.0.0.0:80, [::]:80 or unix:/path", text);
    r->listens[r->listen_count++] = text;
    return CLI_OK;
}

/* NAME, or NAME=PORT for a program that listens on several. */
static int publish_add(struct run *r, const char *text)
{
    struct route route;
    char reason[ROUTE_REASON_MAX], *at = r->published[r->published_count];
    if (r->published_count == RUN_PUBLISHED_MAX)
        return cli_usage("run", "at most %d services", RUN_PUBLISHED_MAX);
    size_t n = strcspn(text, "=");
    int len = snprintf(at, sizeof r->published[0], "peer://%.*s%s%s", (int)n, text,
                       text[n] ? ":" : "", text[n] ? text + n + 1 : "");
    if (len < 0 || (size_t)len >= sizeof r->published[0] || n == 0 || text[0] == '*')
        return cli_usage("run", "--publish '%s': write a name, or NAME=PORT", text);
    if (route_parse(at, &route, reason) < 0)
        return cli_usage("run", "--publish %s: %s", text, reason);
    r->published_count++;
    return CLI_OK;
}

static int setting_add(struct run *r, const char *text)
{
    if (r->setting_count == RUN_SETTINGS_MAX)
        return cli_usage("run", "at most %d settings", RUN_SETTINGS_MAX);
    if (!strchr(text, '=') || strchr(text, '\n'))
        return cli_usage("run", "--set '%s': write KEY=VALUE, as in idle_timeout=5min", text);
    r->settings[r->setting_count++] = text;
    return CLI_OK;
}

enum {
    O_AS = 1,
    O_PUBLISH,
    O_ALLOW,
    O_PORT,
    O_LISTEN,
    O_NAME,
    O_PROXY,
    O_QUEUE,
    O_WORKERS,
    O_SET,
    O_DETACH,
};
static const struct option options[] = {{"as", required_argument, NULL, O_AS},
                                        {"port", required_argument, NULL, O_PORT},
                                        {"listen", required_argument, NULL, O_LISTEN},
                                        {"publish", required_argument, NULL, O_PUBLISH},
                                        {"allow", required_argument, NULL, O_ALLOW},
                                        {"name", required_argument, NULL, O_NAME},
                                        {"proxy", no_argument, NULL, O_PROXY},
                                        {"queue", no_argument, NULL, O_QUEUE},
                                        {"workers", required_argument, NULL, O_WORKERS},
                                        {"set", required_argument, NULL, O_SET},
                                        {"detach", no_argument, NULL, O_DETACH},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

static int option_read(void *ctx, int option)
{
    struct run *r = ctx;
    switch (option) {
    case O_AS:
        return route_add(r, optarg);
    case O_PORT:
        if (ports_read(optarg, r->ports) < 0)
            return cli_usage("run", "--port '%s': write ports as in 8080 or 8080,8443", optarg);
        return CLI_OK;
    case O_LISTEN:
        return listen_add(r, optarg);
    case O_ALLOW:
        if (r->allowed_count == RUN_ALLOWED_MAX)
            return cli_usage("run", "at most %d peers: see berth allow", RUN_ALLOWED_MAX);
        r->allowed[r->allowed_count++] = optarg;
        return CLI_OK;
    case O_PUBLISH:
        return publish_add(r, optarg);
    case O_NAME:
        if (!*optarg || strlen(optarg) > 64)
            return cli_usage("run", "--name has 1 to 64 characters");
        r->name = optarg;
        return CLI_OK;
    case O_PROXY:
        r->proxy = true;
        return CLI_OK;
    case O_QUEUE:
        r->queue = true;
        return CLI_OK;
    case O_WORKERS:
        r->workers = optarg;
        return CLI_OK;
    case O_SET:
        return setting_add(r, optarg);
    case O_DETACH:
        r->detach = true;
        return CLI_OK;
    default:
        return CLI_USAGE;
    }
}

/* The folder's name as a host name: letters, digits and dashes. */
static int folder_name(struct run *r)
{
    char folder[4096], label[64];
    size_t n = 0;
    const char *base = getcwd(folder, sizeof folder) ? strrchr(folder, '/') : NULL;
    for (const char *p = base ? base + 1 : ""; *p && n < sizeof label - 1; p++) {
        char c = ascii_lower(*p);
        bool plain = ascii_is_digit(c) || ascii_is_alpha(c);
        if (plain)
            label[n++] = c;
        else if (n > 0 && label[n - 1] != '-')
            label[n++] = '-';
    }
    while (n > 0 && label[n - 1] == '-')
        n--;
    label[n] = 0;
    if (n == 0)
        return cli_usage("run", "this folder's name makes no host name: use --as NAME");
    (void)snprintf(r->folder_route, sizeof r->folder_route, "%s.localhost", label);
    return route_add(r, r->folder_route);
}

/* What `berth ls` calls it: the first route's first label, or the program. */
static void name_choose(struct run *r)
{
    struct route routes[2];
    char reason[ROUTE_REASON_MAX];
    if (r->name)
        return;
    const char *from = r->command[0];
    size_t n;
    if (route_expand(r->routes[0], routes, reason) > 0 && routes[0].host[0]) {
        from = routes[0].host;
        n = strcspn(from, ".");
    } else {
        const char *slash = strrchr(from, '/');
        from = slash ? slash + 1 : from;
        n = strlen(from);
    }
    (void)snprintf(r->name_buf, sizeof r->name_buf, "%.*s", n > 64 ? 64 : (int)n, from);
    r->name = r->name_buf;
}

static int arguments_read(struct run *r, int argc, char **argv)
{
    const struct cli_options taken = {"run", help, "+", options};
    int status = cli_options(&taken, argc, argv, option_read, r);
    if (status != CLI_OK)
        return status;
    r->command = argv + optind;
    if (optind == argc)
        return cli_usage("run", "which program? As in: berth run -- python3 -m http.server 8080");
    if (r->allowed_count > 0 && r->published_count == 0)
        return cli_usage("run", "--allow goes with --publish");
    status = r->route_count == 0 ? folder_name(r) : CLI_OK;
    for (size_t i = 0; i < r->published_count && status == CLI_OK; i++)
        status = route_add(r, r->published[i]);
    if (status == CLI_OK)
        name_choose(r);
    return status;
}

static size_t command_count(const struct run *r)
{
    size_t n = 0;
    while (r->command[n])
        n++;
    return n;
}

/* What the library and libberth need to claim for the application, now or again. */
static int environment_make(const struct run *r, const char *command, const char *preload,
                            struct environment *env)
{
    char control[RUNTIME_PATH_MAX];
    struct environment_app app = {.control = control,
                                  .name = r->name,
                                  .command = command,
                                  .ports = r->ports,
                                  .preload = r->queue ? NULL : preload,
                                  .routes = r->routes,
                                  .route_count = r->route_count,
                                  .listens = r->listens,
                                  .listen_count = r->listen_count,
                                  .proxy = r->proxy};
    memcpy(app.instance, r->instance, sizeof app.instance);
    if (runtime_path(RUNTIME_CONTROL, control) < 0)
        return cli_fail("run", "the runtime folder's path is too long");
    environment_app(env, &app);
    return CLI_OK;
}

static int obstacle_check(const struct run *r)
{
    char reason[PROGRAM_REASON_MAX];
    struct program_place place = {.path = getenv("PATH")};
    if (r->queue || program_check(r->command[0], &place, reason) == 0)
        return CLI_OK;
    (void)fprintf(stderr,
                  "berth run: %s.\n"
                  "It was not started. Without berth it runs as before.\n",
                  reason);
    return CLI_USAGE;
}

/* Returns only when there is no becoming. */
static int become(const struct run *r, const struct environment *env)
{
    if (!environment_ok(env))
        return cli_fail("run", "no memory");
    (void)execvpe(r->command[0], r->command, env->vars);
    int err = errno;
    (void)cli_fail("run", "%s: %s", r->command[0], strerror(err));
    return err == ENOENT ? 127 : 126;
}

/* Introduces the application, so that it is known from now on and by this process. */
static int introduce(const struct run *r, const char *command, int *ret_fd)
{
    CLEANUP_FD int fd = daemon_connect(true);
    if (fd < 0)
        return cli_fail("run", "berthd cannot be started: %s; its log is beside its socket",
                        strerror(-fd));
    struct appmsg m = {.type = APPMSG_APP,
                       .flags = r->proxy ? APPMSG_PROXY : 0,
                       .name = str_of(r->name),
                       .command = str_of(command)};
    memcpy(m.instance, r->instance, sizeof m.instance);
    for (size_t i = 0; i < r->route_count; i++)
        m.routes[m.route_count++] = str_of(r->routes[i]);
    for (size_t i = 0; i < r->listen_count; i++)
        m.listens[m.listen_count++] = str_of(r->listens[i]);
    char *text;
    int err = daemon_ask(fd, &m, &text);
    if (err < 0)
        (void)cli_fail("run", "berthd refused: %s", text ? text : strerror(-err));
    free(text);
    *ret_fd = fd_take(&fd);
    return err < 0 ? CLI_USAGE : CLI_OK;
}

int cmd_run(int argc, char **argv)
{
    static struct run r;
    struct environment env;
    char preload[4096];
    int status = arguments_read(&r, argc, argv);
    if (status != CLI_OK)
        return status;
    status = run_publish(&r);
    if (status != CLI_OK)
        return status;
    if (r.workers || r.setting_count > 0 || r.detach)
        return r.queue ? cli_usage("run", "--queue and --workers do not go together")
                       : run_pool(&r);
    if (!self_file("libberth-preload.so", BERTH_PRELOAD_INSTALLED, preload, sizeof preload))
        return cli_fail("run", "libberth-preload.so is not where it was installed");
    if (getrandom(r.instance, sizeof r.instance, 0) != sizeof r.instance)
        return cli_fail("run", "no random numbers");
    char *command = environment_join((const char *const *)r.command, command_count(&r));
    if (!command)
        return cli_fail("run", "no memory");
    command[strnlen(command, COMMAND_MAX)] = 0;
    environment_init(&env, environ);
    /* For this process only: what the program starts may choose anew. */
    (void)daemon_use_owner(r.routes, r.route_count);
    int fd = -EBADF;
    status = obstacle_check(&r);
    if (status == CLI_OK)
        status = introduce(&r, command, &fd);
    if (status == CLI_OK)
        status = environment_make(&r, command, preload, &env);
    if (status == CLI_OK && r.queue)
        status = program_queue_consume(fd, r.routes[0], &env);
    if (status == CLI_OK)
        status = become(&r, &env);
    environment_done(&env);
    free(command);
    return status;
}
