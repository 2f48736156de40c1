/* berth-upstream: a worker that berthd starts for an application with `to =`. Its queues come as
 * LISTEN_FDS, what it connects to as arguments. It ends on SIGTERM, which berthd sends when its
 * connections have ended or must; and when its queues have ended for good. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "sandbox/sandbox.h"
#include "sandbox/upstream.h"
#include "upstreamd/upstream.h"

/* Queues, the loop, standard error, names, spare pipes. */
#define FDS_RESERVED (QUEUES_MAX + 2 * PIPES_SPARE + 32)

static const char help[] =
    "berth-upstream is started by berthd, not by hand: see `berth route --help`\n";

enum { O_TO = 1, O_PROXY, O_PROXIED, O_TIMEOUT, O_VERSION };
static const struct option options[] = {
    {"to", required_argument, NULL, O_TO},     {"proxy", required_argument, NULL, O_PROXY},
    {"proxied", no_argument, NULL, O_PROXIED}, {"timeout", required_argument, NULL, O_TIMEOUT},
    {"version", no_argument, NULL, O_VERSION}, {NULL, 0, NULL, 0}};

static int option_read(struct upstream *u, int option)
{
    switch (option) {
    case O_TO:
        return target_parse(&u->target, optarg);
    case O_PROXY:
        u->proxy = strcmp(optarg, "v1") == 0 ? 1 : 2;
        return 0;
    case O_PROXIED:
        u->proxied = true;
        return 0;
    case O_TIMEOUT:
        u->timeout_ms = (uint32_t)strtoul(optarg, NULL, 10);
        return 0;
    case O_VERSION:
        (void)puts("berth-upstream " BERTH_VERSION);
        exit(0);
    default:
        return -EINVAL;
    }
}

static int arguments_read(struct upstream *u, int argc, char **argv)
{
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (option_read(u, c) < 0)
            return -EINVAL;
    return u->target.text[0] && optind == argc ? 0 : -EINVAL;
}

/* All that the hard limit allows: a quarter of it for pipes, the rest for pairs of sockets. */
static void limits_set(struct upstream *u)
{
    size_t all = descriptors_raise();
    all = all > 1 << 20 ? 1 << 20 : all;
    all = all > 2 * FDS_RESERVED ? all - FDS_RESERVED : all / 2;
    pipes_init(&u->common.pipes, all / 8);
    u->link_max = (all - all / 4) / 2;
}

static void named(struct target *t)
{
    links_named(container_of(t, struct upstream, target));
}

struct ending {
    struct watch watch;
    struct upstream *upstream;
};

static void signalled(struct watch *w, uint32_t events)
{
    (void)events;
    struct ending *e = container_of(w, struct ending, watch);
    struct signalfd_siginfo info;
    (void)!read(w->fd, &info, sizeof info);
    log_info("ended by a signal links=%zu", e->upstream->link_count);
    loop_stop(&e->upstream->loop);
}

static int signals_watch(struct ending *e)
{
    sigset_t set;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    e->watch.ready = signalled;
    return fd < 0 ? -errno : loop_watch(&e->upstream->loop, &e->watch, fd, EPOLLIN);
}

/* A Unix target is looked up by its path for every connection, with the rights that berthd gave. */
static void sandbox_enter(const struct upstream *u)
{
    bool is_path = u->target.count > 0 && u->target.addrs[0].sa.sa_family == AF_UNIX;
    int r = is_path ? 0 : sandbox_drop_user_only();
    if (r < 0)
        log_warn("sandbox incomplete step=user err=%s", strerror(-r));
    r = sandbox_upstream();
    if (r < 0 && r != -ENOTSUP)
        log_warn("sandbox incomplete step=seccomp err=%s", strerror(-r));
}

static int start(struct upstream *u, struct ending *e)
{
    int r = loop_init(&u->loop);
    if (r == 0)
        r = take_start(u);
    if (r < 0)
        return r;
    limits_set(u);
    r = target_start(&u->target, &u->loop, named);
    return r < 0 ? r : signals_watch(e);
}

int main(int argc, char **argv)
{
    struct upstream *u = calloc(1, sizeof *u);
    struct ending ending = {.upstream = u, .watch.fd = -EBADF};
    log_init("berth-upstream", LOG_INFO);
    if (!u)
        return 1;
    u->timeout_ms = 10000;
    links_init(u);
    if (arguments_read(u, argc, argv) < 0) {
        (void)fputs(help, stderr);
        return 2;
    }
    int r = start(u, &ending);
    if (r < 0) {
        log_error("cannot start: %s",
                  r == -ENOENT ? "there is no queue in LISTEN_FDS" : strerror(-r));
        return 1;
    }
    sandbox_enter(u);
    loop_run(&u->loop);
    pipes_done(&u->common.pipes);
    free(u);
    return 0;
}
