/* berthd: holds the shared listeners, the names and who owns them, and every queue. It reads no
 * byte from the network. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "berthd/metrics.h"
#include "berthd/names.h"
#include "berthd/pool.h"
#include "berthd/reserve.h"
#include "berthd/server.h"
#include "ipc/daemon.h"
#include "ipc/runtime.h"
#include "sandbox/sandbox.h"

#define LISTENERS_MAX 65536
/* A berthd that a command started ends this long after the last application. */
#define IDLE_MS 10000

struct options {
    bool daemon, automatic, trial;
    size_t threads;
    uint32_t silence_ms, header_wait_ms;
    enum unreserved unreserved;
    bool unreserved_chosen;
    const char *config;
    const char *metrics; /* NULL: the default place */
};

static const char usage[] =
    "Usage: berthd [OPTION]...\n"
    "Opens ports once and hands each connection to the program that owns its name.\n"
    "`berth run` starts it when it is needed; by hand it stays in the foreground.\n"
    "\n"
    "  --daemon             go to the background when ready\n"
    "  --auto               end when no application is left\n"
    "  --threads N          threads that accept (default: one per processor)\n"
    "  --silence MS         a client that says nothing is given to the fallback (default 3000)\n"
    "  --header-wait MS     a client that says too little is refused (default 10000)\n"
    "  --unreserved WHO     who may claim names that nobody reserved: localhost, anyone, root\n"
    "  --config PATH        the configuration: a file, or a folder with berth.conf and apps.d\n"
    "                       (default /etc/berth for root, else ~/.config/berth)\n"
    "  --metrics WHERE      unix:PATH, a loopback ADDRESS:PORT, or off (default: the socket "
    "metrics)\n"
    "  --log LEVEL          error, warn, info or debug (default info)\n"
    "  --help, --version\n"
    "\n"
    "Sockets are in $BERTH_RUNTIME_DIR, /run/berth (root) or $XDG_RUNTIME_DIR/berth.\n";

static int number_option(const char *name, const char *text, uint32_t max, uint32_t *ret)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (!ascii_is_digit(text[0]) || *end || v == 0 || v > max) {
        (void)fprintf(stderr, "berthd: --%s takes a number from 1 to %u, not '%s'\n", name, max,
                      text);
        return -EINVAL;
    }
    *ret = (uint32_t)v;
    return 0;
}

static const struct option long_options[] = {{"daemon", no_argument, NULL, 'd'},
                                             {"auto", no_argument, NULL, 'a'},
                                             {"threads", required_argument, NULL, 't'},
                                             {"silence", required_argument, NULL, 's'},
                                             {"header-wait", required_argument, NULL, 'w'},
                                             {"unreserved", required_argument, NULL, 'u'},
                                             {"config", required_argument, NULL, 'c'},
                                             {"metrics", required_argument, NULL, 'm'},
                                             {"log", required_argument, NULL, 'l'},
                                             {"trial", no_argument, NULL, 'T'},
                                             {"help", no_argument, NULL, 'h'},
                                             {"version", no_argument, NULL, 'v'},
                                             {NULL, 0, NULL, 0}};

/* 0: go on; positive: done, exit with one less. */
static int options_read(int argc, char **argv, struct options *o)
{
    uint32_t threads = 0;
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        int r = 0, level;
        switch (c) {
        case 'd':
            o->daemon = true;
            break;
        case 'a':
            o->automatic = true;
            break;
        case 't':
            r = number_option("threads", optarg, DISPATCH_THREADS, &threads);
            break;
        case 's':
            r = number_option("silence", optarg, 3600000, &o->silence_ms);
            break;
        case 'w':
            r = number_option("header-wait", optarg, 3600000, &o->header_wait_ms);
            break;
        case 'u':
            r = reserve_unreserved_parse(optarg, &o->unreserved);
            o->unreserved_chosen = true;
            if (r < 0)
                (void)fprintf(stderr, "berthd: --unreserved takes localhost, anyone or root\n");
            break;
        case 'c':
            o->config = optarg;
            break;
        case 'm':
            o->metrics = optarg;
            break;
        case 'l':
            level = log_level_parse(optarg);
            r = level;
            if (level < 0)
                (void)fprintf(stderr, "berthd: --log takes error, warn, info or debug\n");
            else
                log_init("berthd", (enum log_level)level);
            break;
        case 'T':
            o->trial = true;
            break;
        case 'h':
            (void)fputs(usage, stdout);
            return 1;
        case 'v':
            (void)puts("berthd " BERTH_VERSION);
            return 1;
        default:
            r = -EINVAL;
        }
        if (r < 0)
            return 3;
    }
    if (threads)
        o->threads = threads;
    if (optind == argc)
        return 0;
    (void)fprintf(stderr, "berthd: unexpected argument '%s'\n", argv[optind]);
    return 3;
}

static void idle_fired(struct timer *t)
{
    struct server *s = container_of(t, struct server, idle);
    if (list_empty(&s->apps) && list_empty(&s->pools) && list_empty(&s->clients))
        loop_stop(&s->loop);
    else
        server_idle_check(s);
}

void server_idle_check(struct server *s)
{
    if (s->quit_when_idle && list_empty(&s->apps) && list_empty(&s->pools))
        loop_timer(&s->loop, &s->idle, IDLE_MS);
}

static int server_init(struct server *s, const struct options *o)
{
    s->uid = geteuid();
    s->silence_ms = o->silence_ms;
    s->header_wait_ms = o->header_wait_ms;
    s->threads = o->threads;
    s->config_path = config_place(o->config, o->automatic);
    s->quit_when_idle = o->automatic;
    s->started_ms = clock_now_ms();
    s->started_unix_ms = (uint64_t)time(NULL) * 1000;
    s->left[0] = s->left[1] = s->channel = s->successor_fd = s->board_fd = s->control.fd = -EBADF;
    s->channel_watch.fd = s->control.watch.fd = s->notify_fd = s->notify_watch.fd = -EBADF;
    s->idle.fire = idle_fired;
    applogs_init(&s->applogs, &s->loop);
    metrics_init(s, o->metrics);
    list_init(&s->apps);
    list_init(&s->pools);
    list_init(&s->binds);
    list_init(&s->listeners);
    s->peers = (struct shared_listener){.refs = 1, .listening = true};
    list_init(&s->clients);
    list_init(&s->retiring);
    numbers_init(&s->app_numbers, UINT32_MAX);
    numbers_init(&s->bind_numbers, BINDS_MAX);
    numbers_init(&s->claim_numbers, BOARD_CLAIMS_MAX);
    numbers_init(&s->listener_numbers, LISTENERS_MAX);
    if (index_init(&s->claims) < 0 || index_init(&s->claim_hosts) < 0 ||
        index_init(&s->listeners_by_addr) < 0 || index_init(&s->pool_names) < 0)
        return -ENOMEM;
    if (getrandom(&s->nonce, sizeof s->nonce, 0) != sizeof s->nonce)
        return -EIO;
    s->names = names_new();
    int r = seal_start(s);
    if (r == 0)
        r = reserve_start(s);
    if (r < 0)
        return r;
    reserve_set_unreserved(s, o->unreserved);
    s->reserve->chosen = o->unreserved_chosen;
    return loop_init(&s->loop);
}

struct signals {
    struct watch watch;
    struct server *server;
};

/* Dispatch is noticed by its channel; of it only the zombie goes here. */
static void children_reap(struct server *s)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        worker_reap(s, pid, status);
    (void)dispatch_commit(s);
}

static void reload(struct server *s)
{
    char *text = NULL;
    if (config_reload(s, false, &text) < 0)
        log_error("configuration not changed: it has mistakes\n%s", text ? text : "");
    free(text);
}

static void signal_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct signals *sig = container_of(w, struct signals, watch);
    struct signalfd_siginfo info;
    if (read(w->fd, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGCHLD) {
        children_reap(sig->server);
        return;
    }
    if (info.ssi_signo == SIGHUP) {
        reload(sig->server);
        return;
    }
    log_info("stopping signal=%u", info.ssi_signo);
    loop_stop(&sig->server->loop);
}

static int signals_watch(struct signals *sig)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    sig->watch.ready = signal_ready;
    return fd < 0 ? -errno : loop_watch(&sig->server->loop, &sig->watch, fd, EPOLLIN);
}

/* From nothing, from a berthd that died, or from the one that this process was before. */
static int start(struct server *s, struct handover *came)
{
    dispatch_init(s);
    systemd_init(s);
    if (came)
        return upgrade_finish(s, came);
    int r = dispatch_start(s);
    return r < 0 ? r : control_start(s);
}

struct begin {
    struct handover *came; /* owned; NULL: this is no upgrade */
    int ready;             /* where to say so; -EBADF: nowhere */
};

static int serve(struct server *s, const struct begin *begin)
{
    struct signals signals = {.server = s};
    if (config_start(s) < 0)
        return 1;
    int r = signals_watch(&signals);
    if (r == 0)
        r = start(s, begin->came);
    if (r == 0)
        r = pool_notify_start(s);
    if (r == 0)
        config_open(s);
    if (r < 0) {
        log_error("cannot start err=%s", strerror(-r));
        return 1;
    }
    daemon_ready_consume(begin->ready);
    log_info("ready threads=%zu", s->threads);
    systemd_ready(s);
    ownlog_start(s);
    server_idle_check(s);
    loop_run(&s->loop);
    systemd_tell(s, "STOPPING=1");
    dispatch_stop(s);
    control_stop(s);
    applogs_done(&s->applogs);
    metrics_http_stop(&s->metrics);
    return s->exit_status;
}

int main(int argc, char **argv)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct options o = {.threads = cores < 1                  ? 1
                                   : cores > DISPATCH_THREADS ? DISPATCH_THREADS
                                                              : (size_t)cores};
    log_init("berthd", LOG_INFO);
    int r = options_read(argc, argv, &o);
    if (r > 0)
        return r - 1;
    if (o.trial)
        return upgrade_trial();
    r = runtime_make();
    if (r < 0) {
        log_error("runtime folder unusable err=%s (BERTH_RUNTIME_DIR names another)", strerror(-r));
        return 1;
    }
    struct handover *came = upgrade_came();
    int ready = o.daemon && !came ? daemon_background("berthd", RUNTIME_LOG) : -EBADF;
    int lock = came ? upgrade_lock(came) : daemon_lock(RUNTIME_LOCK);
    if (lock == -EWOULDBLOCK && o.daemon)
        return 0; /* Two commands at once: the other one's berthd serves both. */
    if (lock < 0) {
        log_error("another berthd runs for this folder err=%s", strerror(-lock));
        return 1;
    }
    (void)descriptors_raise();
    int caps = sandbox_berthd();
    if (caps < 0)
        log_warn("capabilities not dropped err=%s", strerror(-caps));
    struct server *s = calloc(1, sizeof *s);
    if (!s || server_init(s, &o) < 0) {
        log_error("no memory");
        return 1;
    }
    s->argv = argv;
    s->lock_fd = lock;
    return serve(s, &(struct begin){came, ready});
}
