/* berth dial: a connection to a peer's service on standard input and output, as ssh's ProxyCommand
 * wants it. berth-peer makes the connection; here its end of a socket pair is pumped, or the very
 * socket is given away. */
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/peerd.h"
#include "ipc/fdmsg.h"
#include "ipc/pair.h"

#define PUMP_BYTES 65536

static const char help[] =
    "usage: berth dial [OPTION]... PEER/SERVICE\n"
    "\n"
    "Connects standard input and output with a service that a peer has published. PEER is a name "
    "or\n"
    "a key. A name's key is pinned when it is first seen.\n"
    "\n"
    "When standard input and output are one socket, that socket is given away and the command "
    "ends.\n"
    "\n"
    "  --timeout SECONDS       give up after so long (default 20)\n"
    "  --fdpass                send a connected socket over standard output and end: for ssh's\n"
    "                          ProxyUseFdpass\n"
    "  --rendezvous HOST:PORT  where to ask for the peer; several times (else $BERTH_RENDEZVOUS)\n"
    "  -v                      say how it went\n"
    "\n"
    "examples:\n"
    "  ssh -o ProxyCommand='berth dial home/ssh' user@home\n"
    "  echo PING | berth dial home/redis\n"
    "\n"
    "Exit status: 0 connected and ended; 1 not connected, or cut off; 2 usage.\n";

struct dial {
    struct rendezvous where;
    const char *target, *timeout;
    bool fdpass, verbose;
};

/* One direction; `open` until the end was passed on. */
struct flow {
    int from, to;
    bool open, was_reset;
    size_t at, held;
    char bytes[PUMP_BYTES];
};

static bool same_socket(void)
{
    struct stat in, out;
    int type = 0;
    socklen_t len = sizeof type;
    return fstat(STDIN_FILENO, &in) == 0 && fstat(STDOUT_FILENO, &out) == 0 &&
           S_ISSOCK(in.st_mode) && in.st_dev == out.st_dev && in.st_ino == out.st_ino &&
           getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

/* The end of one side is passed on: a socket is half-closed, a pipe closed. */
static void end_pass(struct flow *f)
{
    f->open = false;
    if (shutdown(f->to, SHUT_WR) < 0 && f->to == STDOUT_FILENO)
        (void)close(f->to);
}

/* 0, or why the whole connection is at its end. */
static int flow_read(struct flow *f)
{
    ssize_t n = read(f->from, f->bytes, sizeof f->bytes);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return -errno;
    f->at = 0;
    f->held = n > 0 ? (size_t)n : 0;
    if (n == 0)
        end_pass(f);
    return 0;
}

/* A socket never holds us up: both directions are pumped here. */
static int flow_write(struct flow *f)
{
    ssize_t n = send(f->to, f->bytes + f->at, f->held, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == ENOTSOCK)
        n = write(f->to, f->bytes + f->at, f->held);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    f->at += (size_t)n;
    f->held -= (size_t)n;
    return 0;
}

static void flow_want(const struct flow *f, struct pollfd p[2])
{
    p[0] = (struct pollfd){f->open && !f->held ? f->from : -1, POLLIN, 0};
    p[1] = (struct pollfd){f->open && f->held ? f->to : -1, POLLOUT, 0};
}

static int flow_run(struct flow *f, const struct pollfd p[2])
{
    if (p[0].revents)
        return flow_read(f);
    return p[1].revents ? flow_write(f) : 0;
}

/* What is written to a peer that has gone is nobody's; what it has sent still comes out. */
static int pump_step(struct flow *up, struct flow *down)
{
    struct pollfd p[5];
    flow_want(up, p);
    flow_want(down, p + 2);
    p[4] = (struct pollfd){down->from, 0, 0};
    if (poll(p, 5, -1) < 0)
        return errno == EINTR ? 0 : -errno;
    int r = flow_run(up, p);
    if (r < 0) {
        up->open = false;
        up->was_reset = r == -ECONNRESET;
    }
    r = flow_run(down, p + 2);
    if (r == 0 && p[4].revents & (POLLHUP | POLLERR) && !down->open)
        up->open = false;
    return r;
}

/* Up and down. NULL without memory. */
static struct flow *flows_new(int sock)
{
    struct flow *flows = calloc(2, sizeof *flows);
    if (!flows)
        return NULL;
    flows[0].from = STDIN_FILENO;
    flows[0].to = flows[1].from = sock;
    flows[1].to = STDOUT_FILENO;
    flows[0].open = flows[1].open = true;
    return flows;
}

/* Until there is an answer at this descriptor. What is said first is on its way already when the
 * peer takes the connection, as it is where a socket was given away. */
static int pump_ahead(struct flow *up, int answer)
{
    struct pollfd p[3] = {[2] = {answer, POLLIN, 0}};
    while (!p[2].revents) {
        flow_want(up, p);
        if (poll(p, 3, -1) < 0 && errno != EINTR)
            return -errno;
        int r = flow_run(up, p);
        if (r < 0) {
            up->open = false; /* the answer says why */
            up->was_reset = r == -ECONNRESET;
        }
    }
    return 0;
}

static int pump(struct flow *flows)
{
    int r = 0;
    while (r == 0 && (flows[0].open || flows[1].open))
        r = pump_step(&flows[0], &flows[1]);
    /* Whoever meets a reset first has it to himself: reading then sees an end. */
    if (r == 0 && flows[0].was_reset)
        r = -ECONNRESET;
    return r;
}

static void connected_print(const char *target, const char *text)
{
    json_t *j = text ? json_loads(text, 0, NULL) : NULL;
    (void)fprintf(stderr, "connected to %s after %lld ms\n", target,
                  (long long)json_integer_value(json_object_get(j, "ms")));
    json_decref(j);
}

/* NULL: the socket is given away, and nothing is pumped. */
static int ask(const struct dial *o, int send_fd, struct flow *up)
{
    struct peerd_ask a;
    CLEANUP_FD int fd = -EBADF;
    char ms[32], *text = NULL;
    int status = peerd_connect("dial", true, &fd);
    if (status != CLI_OK)
        return status;
    peerd_begin(&a, "dial");
    peerd_arg(&a, "target", o->target);
    (void)snprintf(ms, sizeof ms, "%.0f", o->timeout ? strtod(o->timeout, NULL) * 1000 : 0);
    peerd_arg(&a, "timeout_ms", ms);
    peerd_servers(&a, &o->where);
    int r = peerd_ask_only(&a, fd, send_fd);
    if (r == 0 && up)
        r = pump_ahead(up, fd);
    if (r == 0)
        r = peerd_answer(&a, fd, &text);
    if (r < 0)
        status = cli_fail("dial", "%s: %s", o->target, a.reason ? a.reason : strerror(-r));
    else if (o->verbose)
        connected_print(o->target, text);
    free(text);
    peerd_end(&a);
    return status;
}

/* TCP, because a reset of a Unix socket is seen as its end: what is cut off would pass for whole.
 * Without a loopback interface there is no other. */
static int pair_open(int ret_pair[2])
{
    static const uint8_t loopback[4] = {127, 0, 0, 1};
    const struct addr any = addr_make(AF_INET, loopback, 0);
    struct pair p;
    if (pair_make(&any, &any, &p) < 0)
        return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_pair) < 0 ? -errno : 0;
    ret_pair[0] = p.ours;
    ret_pair[1] = p.theirs;
    return 0;
}

static int pass(int sock)
{
    return fdmsg_send(STDOUT_FILENO, "", 1, &sock, 1, 0);
}

static int run(const struct dial *o)
{
    int pair[2];
    if (!o->fdpass && same_socket())
        return ask(o, STDIN_FILENO, NULL);
    int r = pair_open(pair);
    if (r < 0)
        return cli_fail("dial", "no socket: %s", strerror(-r));
    CLEANUP_FD int ours = pair[0];
    struct flow *flows = o->fdpass ? NULL : flows_new(ours);
    int status = ask(o, pair[1], flows);
    (void)close(pair[1]);
    if (status == CLI_OK)
        r = flows ? pump(flows) : o->fdpass ? pass(ours) : -ENOMEM;
    free(flows);
    if (status != CLI_OK || r == -EPIPE || r == 0)
        return status;
    return cli_fail("dial", "%s: %s", o->target,
                    r == -ECONNRESET ? "the connection was reset" : strerror(-r));
}

static int option_take(void *ctx, int c)
{
    struct dial *o = ctx;
    char *end;
    switch (c) {
    case 't':
        o->timeout = optarg;
        if (strtod(optarg, &end) > 0 && !*end)
            return CLI_OK;
        return cli_usage("dial", "--timeout takes seconds, not '%s'", optarg);
    case 'f':
        o->fdpass = true;
        return CLI_OK;
    case 'v':
        o->verbose = true;
        return CLI_OK;
    case 'r':
        return peer_server_add("dial", &o->where, optarg);
    default:
        return CLI_USAGE;
    }
}

int cmd_dial(int argc, char **argv)
{
    static const struct option options[] = {{"timeout", required_argument, NULL, 't'},
                                            {"fdpass", no_argument, NULL, 'f'},
                                            {"rendezvous", required_argument, NULL, 'r'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct dial o = {.target = NULL};
    const struct cli_options taken = {"dial", help, "v", options};
    int status = cli_options(&taken, argc, argv, option_take, &o);
    if (status != CLI_OK)
        return status;
    if (optind + 1 != argc || !strchr(argv[optind], '/'))
        return cli_usage("dial", "whom, and what there? one PEER/SERVICE");
    o.target = argv[optind];
    (void)signal(SIGPIPE, SIG_IGN);
    return run(&o);
}
