/* berth-peer: this user's side of everything that goes from peer to peer. It holds the identity,
 * one UDP socket, the registration at rendezvous servers, sessions, publications and forwards. The
 * command line starts it when it is needed. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "ipc/daemon.h"
#include "ipc/runtime.h"
#include "keys/place.h"
#include "peerd/dial.h"
#include "peerd/forward.h"
#include "peerd/peerd.h"
#include "peerd/remote.h"
#include "sandbox/peer.h"

#ifndef BERTH_VERSION
#define BERTH_VERSION "0"
#endif

/* One that a command started ends when it had nothing to do for so long. */
#define IDLE_MS  60000
#define SWEEP_MS 2000

struct options {
    bool daemon, automatic, no_mapping, no_guessing;
    uint16_t port;
    const char *key;
    const char *servers[PRESENCE_SERVERS_MAX];
    size_t server_count;
};

static const char usage[] =
    "Usage: berth-peer [OPTION]...\n"
    "Publishes this user's programs under this user's key, and dials others'.\n"
    "`berth publish` and `berth dial` start it when it is needed; by hand it stays in the\n"
    "foreground.\n"
    "\n"
    "  --rendezvous HOST:PORT  a server to register at and to ask; may be given several times\n"
    "  --key FILE              the identity (default: $BERTH_KEY, or ~/.config/berth/key)\n"
    "  --listen PORT           the UDP and TCP port (default: that of the last time, else any)\n"
    "  --no-port-mapping       ask no router for ports\n"
    "  --no-guessing           let nobody guess ports at our address, and guess at nobody's\n"
    "  --daemon                go to the background when ready\n"
    "  --auto                  end when nothing is published, forwarded or connected\n"
    "  --log LEVEL             error, warn, info or debug (default info)\n"
    "  --help, --version\n"
    "\n"
    "Sockets are in $BERTH_RUNTIME_DIR, /run/berth (root) or $XDG_RUNTIME_DIR/berth.\n";

enum {
    OPT_SERVER = 1,
    OPT_KEY,
    OPT_LISTEN,
    OPT_NO_MAPPING,
    OPT_NO_GUESSING,
    OPT_DAEMON,
    OPT_AUTO,
    OPT_LOG,
    OPT_HELP,
    OPT_VERSION
};

static const struct option long_options[] = {{"rendezvous", required_argument, NULL, OPT_SERVER},
                                             {"key", required_argument, NULL, OPT_KEY},
                                             {"listen", required_argument, NULL, OPT_LISTEN},
                                             {"no-port-mapping", no_argument, NULL, OPT_NO_MAPPING},
                                             {"no-guessing", no_argument, NULL, OPT_NO_GUESSING},
                                             {"daemon", no_argument, NULL, OPT_DAEMON},
                                             {"auto", no_argument, NULL, OPT_AUTO},
                                             {"log", required_argument, NULL, OPT_LOG},
                                             {"help", no_argument, NULL, OPT_HELP},
                                             {"version", no_argument, NULL, OPT_VERSION},
                                             {NULL, 0, NULL, 0}};

static int complain(const char *format, const char *what)
{
    (void)fputs("berth-peer: ", stderr);
    (void)fprintf(stderr, format, what);
    (void)fputs("\nTry `berth-peer --help`.\n", stderr);
    return -EINVAL;
}

static int port_read(const char *text, uint16_t *ret)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    if (!ascii_is_digit(text[0]) || *end || v == 0 || v > UINT16_MAX)
        return complain("--listen takes a port, not '%s'", text);
    *ret = (uint16_t)v;
    return 0;
}

static int log_set(const char *word)
{
    int level = log_level_parse(word);
    if (level < 0)
        return complain("--log takes error, warn, info or debug, not '%s'", word);
    log_init("berth-peer", (enum log_level)level);
    return 0;
}

/* 0: go on; 1: done; negative: usage. */
static int option_take(struct options *o, int c, const char *value)
{
    switch (c) {
    case OPT_SERVER:
        if (o->server_count == PRESENCE_SERVERS_MAX)
            return complain("%s is one server too many", value);
        o->servers[o->server_count++] = value;
        return 0;
    case OPT_KEY:
        o->key = value;
        return 0;
    case OPT_LISTEN:
        return port_read(value, &o->port);
    case OPT_NO_GUESSING:
        o->no_guessing = true;
        return 0;
    case OPT_NO_MAPPING:
        o->no_mapping = true;
        return 0;
    case OPT_DAEMON:
        o->daemon = true;
        return 0;
    case OPT_AUTO:
        o->automatic = true;
        return 0;
    case OPT_LOG:
        return log_set(value);
    case OPT_HELP:
        (void)fputs(usage, stdout);
        return 1;
    case OPT_VERSION:
        (void)puts("berth-peer " BERTH_VERSION);
        return 1;
    default:
        return -EINVAL;
    }
}

static int options_read(int argc, char **argv, struct options *o)
{
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        int r = option_take(o, c, optarg);
        if (r != 0)
            return r;
    }
    return optind < argc ? complain("unexpected argument '%s'", argv[optind]) : 0;
}

static bool is_idle(struct peerd *p)
{
    return p->state.publication_count == 0 && list_empty(&p->forwards) && list_empty(&p->dials) &&
           !endpoint_next(p->net.endpoint, NULL) && !control_busy(&p->control);
}

static void idle_fired(struct timer *t)
{
    struct peerd *p = container_of(t, struct peerd, idle);
    if (is_idle(p))
        loop_stop(&p->loop);
}

void peerd_idle_check(struct peerd *p)
{
    if (p->quit_when_idle && p->net.endpoint && !p->idle.at_ms && is_idle(p))
        loop_timer(&p->loop, &p->idle, IDLE_MS);
}

static void minute_fired(struct timer *t)
{
    struct peerd *p = container_of(t, struct peerd, minute);
    keeping_look(&p->net.keeping);
    remotes_sweep(p);
    peerd_idle_check(p);
    loop_timer(&p->loop, &p->minute, SWEEP_MS);
}

int peerd_changed(struct peerd *p)
{
    net_publish(&p->net);
    source_update(&p->source);
    return state_save(&p->state);
}

static int identity_read(struct peerd *p)
{
    char path[4096], trouble[512];
    if (key_place(NULL, path, sizeof path) < 0) {
        log_error("neither $HOME nor $BERTH_KEY says where the key is");
        return -ENOENT;
    }
    int r = identity_load(path, &p->id, trouble, sizeof trouble);
    if (r == -ENOENT)
        log_error("there is no key: `berth key new` makes one path=%s", path);
    else if (r < 0)
        log_error("%s", trouble);
    return r;
}

static int state_read(struct peerd *p, const struct options *o)
{
    char path[4096];
    int r = key_place("peers", p->known_path, sizeof p->known_path);
    if (r == 0)
        r = key_place("published", path, sizeof path);
    if (r == 0)
        r = state_load(&p->state, path);
    if (r == -EBADMSG)
        log_error("the file makes no sense path=%s", path);
    if (r == 0 && o->port)
        p->state.port = o->port;
    return r;
}

static int peerd_init(struct peerd *p, const struct options *o)
{
    list_init(&p->remotes);
    list_init(&p->dials);
    list_init(&p->forwards);
    list_init(&p->incoming);
    p->minute.fire = minute_fired;
    p->idle.fire = idle_fired;
    p->quit_when_idle = o->automatic;
    p->started_ms = clock_now_ms();
    budget_init(&p->net.budget, descriptors_raise()); /* each stream is one, too */
    int r = loop_init(&p->loop);
    if (r == 0)
        r = identity_read(p);
    if (r == 0)
        r = state_read(p, o);
    return r < 0 ? r : source_init(&p->source, p);
}

struct signals {
    struct watch watch;
    struct peerd *peerd;
};

static void signal_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct signals *sig = container_of(w, struct signals, watch);
    struct signalfd_siginfo info;
    if (read(w->fd, &info, sizeof info) != sizeof info)
        return;
    log_info("stopping signal=%u", info.ssi_signo);
    loop_stop(&sig->peerd->loop);
}

static int signals_watch(struct signals *sig)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    sig->watch.ready = signal_ready;
    return fd < 0 ? -errno : loop_watch(&sig->peerd->loop, &sig->watch, fd, EPOLLIN);
}

static int start(struct peerd *p, const struct options *o)
{
    int r = net_start(&p->net, p);
    for (size_t i = 0; r >= 0 && i < o->server_count; i++) {
        r = net_server_add(&p->net, o->servers[i]);
        if (r < 0)
            log_error("not a HOST:PORT server=%s", o->servers[i]);
    }
    if (r >= 0)
        r = control_start(&p->control, p);
    if (r < 0)
        return r;
    if (state_save(&p->state) < 0)
        log_warn("state not written path=%s", p->state.path);
    nearby_start(&p->nearby, p);
    source_update(&p->source);
    loop_timer(&p->loop, &p->minute, SWEEP_MS);
    return 0;
}

static void stop(struct peerd *p)
{
    list_for_each(f, &p->forwards, struct forward, link) forward_free(f);
    control_stop(&p->control);
    source_done(&p->source);
    net_stop(&p->net);
    dials_forget_lookups(p);
    list_for_each(r, &p->remotes, struct remote, link) remote_free(r);
    nearby_stop(&p->nearby);
    state_done(&p->state);
    identity_wipe(&p->id);
    loop_done(&p->loop);
}

static void folder_of(const char *path, char *buf, size_t size)
{
    (void)snprintf(buf, size, "%s", path);
    char *slash = strrchr(buf, '/');
    if (slash && slash != buf)
        *slash = 0;
}

/* Everything is open that takes more; what it lacks on this kernel is said, and not fatal. */
static void sandbox_enter_peer(const struct peerd *p)
{
    char keys[4096], runtime[RUNTIME_PATH_MAX], socket[RUNTIME_PATH_MAX];
    const char *const folders[] = {keys, runtime};
    folder_of(p->state.path, keys, sizeof keys);
    int r = runtime_path(RUNTIME_PEER, socket);
    if (r == 0) {
        folder_of(socket, runtime, sizeof runtime);
        r = sandbox_peer_files(folders, 2);
    }
    if (r < 0)
        log_warn("sandbox incomplete step=landlock err=%s", strerror(-r));
    r = sandbox_peer_calls();
    if (r < 0 && r != -ENOTSUP)
        log_warn("sandbox incomplete step=seccomp err=%s", strerror(-r));
}

static int serve(struct peerd *p, const struct options *o, int ready)
{
    struct signals signals = {.peerd = p};
    p->net.peerd = p;
    p->net.no_guessing = o->no_guessing;
    mapping_init(&p->net.mapping, &p->net, !o->no_mapping);
    int r = signals_watch(&signals);
    if (r == 0)
        r = start(p, o);
    if (r < 0) {
        log_error("cannot start err=%s", strerror(-r));
        return 1;
    }
    sandbox_enter_peer(p);
    daemon_ready_consume(ready);
    log_info("ready port=%u published=%zu", p->net.udp.port, p->state.publication_count);
    peerd_idle_check(p);
    loop_run(&p->loop);
    stop(p);
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = {.daemon = false};
    log_init("berth-peer", LOG_INFO);
    int r = options_read(argc, argv, &o);
    if (r != 0)
        return r > 0 ? 0 : 2;
    if (keys_init() < 0 || (o.key && setenv("BERTH_KEY", o.key, 1) < 0)) {
        log_error("cannot start: no source of randomness");
        return 1;
    }
    (void)umask(077);
    r = runtime_make();
    if (r < 0) {
        log_error("runtime folder unusable err=%s (BERTH_RUNTIME_DIR names another)", strerror(-r));
        return 1;
    }
    int ready = o.daemon ? daemon_background("berth-peer", RUNTIME_PEER_LOG) : -EBADF;
    int lock = daemon_lock(RUNTIME_PEER_LOCK);
    if (lock == -EWOULDBLOCK && o.daemon)
        return 0; /* Two commands at once: the other one's serves both. */
    if (lock < 0) {
        log_error("another berth-peer runs for this folder err=%s", strerror(-lock));
        return 1;
    }
    struct peerd *p = calloc(1, sizeof *p);
    if (!p || peerd_init(p, &o) < 0) {
        log_error("cannot start");
        return 1;
    }
    return serve(p, &o, ready);
}
