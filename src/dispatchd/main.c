/* berth-dispatch: started by berthd with a channel (fd 3) and a listening socket for berthd's
 * successor (fd 4). Messages from the channel change what is served; the threads serve. When berthd
 * dies, serving goes on and the next berthd is let in. */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "dispatchd/state.h"
#include "ipc/fdmsg.h"
#include "sandbox/sandbox.h"

#define CHANNEL_FD        3
#define SUCCESSOR_FD      4
#define SUCCESSOR_BACKLOG 512
/* Both ends of the queue of what a killed dispatch leaves. */
#define LEFT_READ_FD  5
#define LEFT_WRITE_FD 6

/* Descriptors that are not connections: channel, listeners, queues. */
#define FDS_RESERVED 128

/* How often one that retires looks whether it is done. */
#define RETIRE_MS 20

struct args {
    struct state_config config;
    uid_t uid; /* whose berthd may take over */
};

static uint32_t number(const char *word)
{
    return word ? (uint32_t)strtoul(word, NULL, 10) : 0;
}

/* berthd is the only caller: "THREADS SILENCE_MS HEADER_WAIT_MS LOG_LEVEL". */
static void args_read(char **argv, struct args *ret_args)
{
    uint32_t threads = number(argv[1]);
    ret_args->config.threads = threads < 1                  ? 1
                               : threads > DISPATCH_THREADS ? DISPATCH_THREADS
                                                            : threads;
    ret_args->config.limits.silence_ms = number(argv[2]);
    ret_args->config.limits.header_wait_ms = number(argv[3]);
    log_init("berth-dispatch", number(argv[4]));
    ret_args->uid = geteuid();
}

/* Everything that the hard limit allows, for all threads together. */
static void limits_set(struct state_config *config)
{
    size_t all = descriptors_raise();
    size_t room = all > 2 * FDS_RESERVED ? all - FDS_RESERVED : all / 2;
    config->limits.connections = room > 1 << 20 ? 1 << 20 : room < 4 ? 4 : (uint32_t)room;
}

/* One message; negative when this berthd is gone or talks nonsense. */
static int channel_read(struct state *s, int channel)
{
    uint8_t buf[DISPATCHMSG_MAX];
    int fds[FDMSG_FDS_MAX];
    size_t fd_count = 0;
    ssize_t n = fdmsg_recv(channel, buf, sizeof buf, fds, FDMSG_FDS_MAX, &fd_count, 0);
    if (n <= 0)
        return n == 0 ? -EPIPE : (int)n;
    struct dispatchmsg m;
    int r = dispatchmsg_decode(&m, buf, (size_t)n);
    if (r < 0) {
        while (fd_count > 0)
            (void)fd_close(fds[--fd_count]);
        return r;
    }
    return state_handle_consume(s, channel, &m, fds, fd_count);
}

static int successor_accept(uid_t uid)
{
    int fd = accept4(SUCCESSOR_FD, NULL, NULL, SOCK_CLOEXEC);
    struct ucred cred = {0};
    socklen_t len = sizeof cred;
    if (fd >= 0 && (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
                    (cred.uid != uid && cred.uid != 0))) {
        log_warn("successor refused reason=WrongUser uid=%u", cred.uid);
        return fd_close(fd);
    }
    return fd;
}

static void serve(struct state *s, uid_t uid)
{
    int channel = CHANNEL_FD;
    for (;;) {
        struct pollfd p[] = {{.fd = channel, .events = POLLIN},
                             {.fd = SUCCESSOR_FD, .events = POLLIN}};
        bool retiring = state_is_retiring(s);
        int n = poll(p, retiring ? 1 : 2, retiring ? RETIRE_MS : -1);
        if (retiring && state_retire(s, channel))
            return;
        if (n < 0)
            continue;
        if (channel >= 0 && p[0].revents) {
            int r = channel_read(s, channel);
            if (r < 0) {
                log_warn("berthd is gone err=%d: serving goes on", -r);
                channel = fd_close(channel);
            }
        } else if (p[1].revents) {
            int next = successor_accept(uid);
            if (channel < 0 && next >= 0) {
                log_info("berthd is back");
                channel = fd_take(&next);
            }
            /* Nobody takes the place of a berthd that lives. */
            (void)fd_close(next);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        (void)puts("berth-dispatch " BERTH_VERSION);
        return 0;
    }
    if (argc != 5) {
        (void)fputs("berth-dispatch is started by berthd, not by hand: see `berth --help`\n",
                    stderr);
        return 2;
    }
    struct args args = {0};
    args_read(argv, &args);
    (void)signal(SIGPIPE, SIG_IGN);
    /* A Ctrl-C for the program that started berthd is not for us. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    limits_set(&args.config);
    /* Whoever connects to it learns from the kernel who listens: from now on this process, no more
     * the berthd that made it. */
    (void)listen(SUCCESSOR_FD, SUCCESSOR_BACKLOG);
    int r = sandbox_drop_user();
    if (r < 0)
        log_warn("sandbox incomplete step=user err=%s", strerror(-r));
    r = sandbox_landlock();
    if (r < 0)
        log_debug("sandbox without a layer step=landlock err=%s", strerror(-r));
    args.config.left[0] = LEFT_READ_FD;
    args.config.left[1] = LEFT_WRITE_FD;
    args.config.keeper = keeper_start(LEFT_WRITE_FD, &args.config.slots);
    if (args.config.keeper < 0)
        log_warn("no keeper err=%s", strerror(-args.config.keeper));
    /* Woken by every connection, dispatch must not push aside the clients and programs that are at
     * work: when they rest it finds many connections at once, which cost a third each. */
    struct sched_param batch = {0};
    (void)sched_setscheduler(0, SCHED_BATCH, &batch);
    struct state *s = state_new(&args.config);
    if (!s) {
        log_error("cannot start: no threads or memory");
        return 1;
    }
    r = sandbox_dispatch();
    if (r < 0 && r != -ENOTSUP)
        log_warn("sandbox incomplete step=seccomp err=%s", strerror(-r));
    serve(s, args.uid);
}
