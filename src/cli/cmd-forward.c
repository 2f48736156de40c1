/* berth forward: local addresses whose connections go to a peer's services. The listening sockets
 * are made here and given to berth-peer; this command keeps copies, so that they outlive it. */
#include <arpa/inet.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "base/addr.h"
#include "base/siphash.h"
#include "cli/cli.h"
#include "cli/daemon.h"
#include "cli/found.h"
#include "cli/peerd.h"

#define AGAIN_MS 500

static const char help[] =
    "usage: berth forward [OPTION]... [ADDRESS:]PORT PEER/SERVICE\n"
    "       berth forward [OPTION]... --all PEER\n"
    "       berth forward --end [ADDRESS:]PORT\n"
    "       berth forward [--json]\n"
    "\n"
    "Connections to a local port go to a service that a peer has published, until it is "
    "interrupted. Without arguments it lists what is forwarded.\n"
    "\n"
    "  --all                   every service of the peer, each on an address of its own in\n"
    "                          127.0.0.0/8 at its usual port\n"
    "  --detach                leave it with berth-peer and end; --end ends it\n"
    "  --rendezvous HOST:PORT  where to ask for the peer; several times (else $BERTH_RENDEZVOUS)\n"
    "  --json                  the list for programs\n"
    "\n"
    "The address is 127.0.0.1 unless another one is given.\n"
    "\n"
    "examples:\n"
    "  berth forward 8080 home/web      then: curl http://localhost:8080/\n"
    "  berth forward --all home\n";

struct options {
    struct rendezvous where;
    bool all, detach, end, json;
};

struct forward {
    struct addr addr;
    int fd;      /* listens; owned */
    int control; /* to berth-peer, while it is in the foreground; owned */
    char target[KEY_TEXT_MAX + RECORD_NAME_MAX + 2];
};

static int address_read(const char *text, struct addr *ret_addr)
{
    char whole[ADDR_TEXT_MAX];
    bool bare = strspn(text, "0123456789") == strlen(text);
    int n = snprintf(whole, sizeof whole, "%s%s", bare ? "127.0.0.1:" : "", text);
    if ((size_t)n >= sizeof whole || addr_parse(whole, ret_addr) < 0 ||
        ret_addr->sa.sa_family == AF_UNIX)
        return cli_usage("forward", "a PORT or ADDRESS:PORT is wanted, not '%s'", text);
    return CLI_OK;
}

static int listen_at(struct forward *f)
{
    const int one = 1;
    CLEANUP_FD int fd = socket(f->addr.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof f->addr.v6;
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, &f->addr.sa, f->addr.len) < 0 || listen(fd, 512) < 0 ||
        getsockname(fd, &f->addr.sa, &len) < 0)
        return -errno;
    f->fd = fd_take(&fd);
    return 0;
}

static int give(const struct options *o, struct forward *f)
{
    struct peerd_ask a;
    CLEANUP_FD int fd = -EBADF;
    char *text = NULL;
    int status = peerd_connect("forward", true, &fd);
    if (status != CLI_OK)
        return status;
    peerd_begin(&a, "forward");
    peerd_arg(&a, "target", f->target);
    peerd_arg(&a, "detached", o->detach ? "1" : "0");
    peerd_servers(&a, &o->where);
    int r = a.count > PEERD_ARGS_MAX ? -E2BIG : daemon_send(fd, a.argv, f->fd);
    if (r == 0)
        r = daemon_ready(fd, &text);
    if (r < 0)
        status = cli_fail("forward", "%s: %s", f->target, text ? text : strerror(-r));
    else if (!o->detach)
        f->control = fd_take(&fd);
    free(text);
    peerd_end(&a);
    return status;
}

static int signals_open(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

/* A berth-peer that died is started anew, and gets the sockets again: who connects meanwhile waits
 * in them. */
static void mend(const struct options *o, struct forward *f, const struct pollfd *p)
{
    if (!p->revents)
        return;
    f->control = fd_close(f->control);
    if (give(o, f) != CLI_OK)
        (void)poll(NULL, 0, AGAIN_MS);
}

static int stay(const struct options *o, struct forward *f, size_t count)
{
    struct pollfd p[RECORD_SERVICES_MAX + 1];
    CLEANUP_FD int signals = signals_open();
    p[0] = (struct pollfd){signals, POLLIN, 0};
    for (;;) {
        for (size_t i = 0; i < count; i++)
            p[i + 1] = (struct pollfd){f[i].control, POLLIN, 0};
        bool missing = false;
        for (size_t i = 0; i < count; i++)
            missing |= f[i].control < 0;
        if (poll(p, count + 1, missing ? AGAIN_MS : -1) < 0 && errno != EINTR)
            return cli_fail("forward", "%s", strerror(errno));
        if (p[0].revents)
            return CLI_OK;
        for (size_t i = 0; i < count; i++) {
            p[i + 1].revents |= f[i].control < 0;
            mend(o, &f[i], &p[i + 1]);
        }
    }
}

static void said(const struct forward *f)
{
    char text[ADDR_TEXT_MAX];
    (void)printf("%s -> %s\n", addr_format(&f->addr, text), f->target);
    (void)fflush(stdout);
}

static int forward_one(const struct options *o, const char *where, const char *target)
{
    struct forward f = {.fd = -EBADF, .control = -EBADF};
    struct target t;
    int status = address_read(where, &f.addr);
    if (status == CLI_OK)
        status = found_target("forward", target, &t);
    if (status != CLI_OK)
        return status;
    if (!*t.service)
        return cli_usage("forward", "which service? %s/SERVICE, or --all", target);
    (void)snprintf(f.target, sizeof f.target, "%s", target);
    int r = listen_at(&f);
    if (r < 0)
        return cli_fail("forward", "cannot listen at %s: %s", where, strerror(-r));
    status = give(o, &f);
    if (status == CLI_OK)
        said(&f);
    if (status == CLI_OK && !o->detach)
        status = stay(o, &f, 1);
    (void)fd_close(f.fd);
    (void)fd_close(f.control);
    return status;
}

/* The same address for the same service of the same peer, every time. */
static struct addr address_for(const struct key *key, struct str service, uint16_t port)
{
    uint8_t h[SIPHASH_TAG];
    siphash128(key->b, service.p, service.n, h);
    const uint8_t ip[4] = {127, 128 | (h[0] & 127), h[1], (uint8_t)(1 + h[2] % 254)};
    return addr_make(AF_INET, ip, port);
}

/* A low port may be root's alone, and one may be taken: then any port there. */
static int listen_near(struct forward *f)
{
    int r = listen_at(f);
    if (r == -EACCES || r == -EADDRINUSE) {
        addr_set_port(&f->addr, 0);
        r = listen_at(f);
    }
    return r;
}

static int service_forward(const struct options *o, const struct found *found, const char *peer,
                           size_t i, struct forward *ret_forward)
{
    const struct record_service *s = &found->record.services[i];
    struct forward f = {
        .fd = -EBADF, .control = -EBADF, .addr = address_for(&found->key, s->name, s->port)};
    char text[ADDR_TEXT_MAX];
    (void)snprintf(f.target, sizeof f.target, "%s/" STR_FMT, peer, STR_ARG(s->name));
    int r = listen_near(&f);
    if (r < 0)
        return cli_fail("forward", "cannot listen for %s: %s", f.target, strerror(-r));
    int status = give(o, &f);
    if (status != CLI_OK) {
        (void)fd_close(f.fd);
        return status;
    }
    (void)printf("%-24s " STR_FMT ".%s\n", addr_format(&f.addr, text), STR_ARG(s->name), peer);
    *ret_forward = f;
    return CLI_OK;
}

static int forward_all(struct options *o, const char *peer)
{
    struct forward f[RECORD_SERVICES_MAX];
    struct found found;
    struct target t;
    size_t count = 0;
    int status = peer_start("forward");
    if (status == CLI_OK)
        status = found_target("forward", peer, &t);
    if (status == CLI_OK)
        status = peerd_or_servers("forward", &o->where);
    if (status == CLI_OK)
        status = found_ask("forward", &t, &o->where, &found);
    if (status == CLI_OK && (!found.registered || found.record.service_count == 0))
        status = cli_fail("forward", "%s publishes nothing now", peer);
    for (; status == CLI_OK && count < found.record.service_count; count++)
        status = service_forward(o, &found, peer, count, &f[count]);
    (void)fflush(stdout);
    if (status == CLI_OK && !o->detach)
        status = stay(o, f, count);
    for (size_t i = 0; i < count; i++) {
        (void)fd_close(f[i].fd);
        (void)fd_close(f[i].control);
    }
    return status;
}

static int forward_end(const char *where)
{
    struct peerd_ask a;
    struct addr addr;
    char text[ADDR_TEXT_MAX], *answer = NULL;
    int status = address_read(where, &addr);
    if (status != CLI_OK)
        return status;
    peerd_begin(&a, "unforward");
    peerd_arg(&a, "address", addr_format(&addr, text));
    status = peerd_run("forward", &a, false, &answer);
    free(answer);
    peerd_end(&a);
    return status;
}

static void list_print(const json_t *forwards)
{
    size_t i;
    const json_t *f;
    if (json_array_size(forwards) == 0) {
        (void)puts("nothing is forwarded: berth forward PORT PEER/SERVICE");
        return;
    }
    (void)printf("%s%-24s %-32s %9s %9s%s\n", cli_style(stdout, STYLE_BOLD), "ADDRESS", "TO",
                 "ACCEPTED", "FAILED", cli_style(stdout, STYLE_NONE));
    json_array_foreach(forwards, i, f)(void)
        printf("%-24s %-32s %9lld %9lld%s\n", json_string_value(json_object_get(f, "address")),
               json_string_value(json_object_get(f, "target")),
               (long long)json_integer_value(json_object_get(f, "accepted")),
               (long long)json_integer_value(json_object_get(f, "failed")),
               json_is_true(json_object_get(f, "detached")) ? "  detached" : "");
}

/* Of a berth-peer that runs; without one nothing is forwarded. */
static int forward_list(bool as_json)
{
    const char *argv[] = {"status", NULL};
    char *text = NULL;
    CLEANUP_FD int fd = daemon_peer_connect(false);
    json_t *j = fd >= 0 && daemon_command(fd, argv, -EBADF, NULL, &text) == 0
                    ? json_loads(text, 0, NULL)
                    : NULL;
    json_t *list = json_object_get(j, "forwards");
    list = list ? json_incref(list) : json_array();
    if (as_json) {
        (void)json_dumpf(list, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    } else {
        list_print(list);
    }
    json_decref(list);
    json_decref(j);
    free(text);
    return CLI_OK;
}

static int option_take(void *ctx, int c)
{
    struct options *o = ctx;
    o->all |= c == 'a';
    o->detach |= c == 'd';
    o->end |= c == 'e';
    o->json |= c == 'j';
    return c == 'r' ? peer_server_add("forward", &o->where, optarg) : CLI_OK;
}

int cmd_forward(int argc, char **argv)
{
    static const struct option options[] = {{"all", no_argument, NULL, 'a'},
                                            {"detach", no_argument, NULL, 'd'},
                                            {"end", no_argument, NULL, 'e'},
                                            {"rendezvous", required_argument, NULL, 'r'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct options o = {.all = false};
    const struct cli_options taken = {"forward", help, "", options};
    int status = cli_options(&taken, argc, argv, option_take, &o);
    if (status != CLI_OK)
        return status;
    int left = argc - optind;
    if (o.end)
        return left == 1 ? forward_end(argv[optind]) : cli_usage("forward", "--end [ADDRESS:]PORT");
    if (o.all)
        return left == 1 ? forward_all(&o, argv[optind]) : cli_usage("forward", "--all PEER");
    if (left == 0 && !o.detach)
        return forward_list(o.json);
    if (left != 2 || o.json)
        return cli_usage("forward", "from where to what? [ADDRESS:]PORT PEER/SERVICE");
    return forward_one(&o, argv[optind], argv[optind + 1]);
}
