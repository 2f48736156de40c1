/* Finds, starts and asks berthd, and berth-peer. */
#include "cli/daemon.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/self.h"
#include "ipc/fdmsg.h"
#include "ipc/runtime.h"

/* How long a berthd that is starting may take until it answers. */
#define START_MS      5000
#define SYSTEM_FOLDER "/run/berth"

/* A berthd outlives its starter: it must not keep locks and pipes open, nor ignore signals, nor
 * claim its own listeners because the shim came with the environment. */
static void own_nothing(void)
{
    static const char *const variables[] = {"LD_PRELOAD",     "LISTEN_FDS",    "LISTEN_PID",
                                            "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC",
                                            "WATCHDOG_PID",   "FDSTORE"};
    static const int signals[] = {SIGTERM, SIGINT, SIGCHLD};
    sigset_t none;
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        (void)unsetenv(variables[i]);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        (void)signal(signals[i], SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)close_range(STDERR_FILENO + 1, ~0U, 0);
}

/* A daemon that is started when it is needed. */
struct kind {
    const char *socket, *program, *installed;
};

static const struct kind berthd = {RUNTIME_CONTROL, "berthd", "../sbin/berthd"};
static const struct kind berth_peer = {RUNTIME_PEER, "berth-peer", BERTH_PEER_INSTALLED};

static int start_daemon(const struct kind *k)
{
    char path[4096];
    if (!self_file(k->program, k->installed, path, sizeof path))
        return -ENOENT;
    pid_t pid = fork();
    if (pid == 0) {
        own_nothing();
        (void)execl(path, k->program, "--daemon", "--auto", (char *)NULL);
        _exit(127);
    }
    int status = 0;
    /* Whoever started us may ignore SIGCHLD: then there is no status, and connecting shows it. */
    if (pid < 0 || (waitpid(pid, &status, 0) < 0 && errno != ECHILD))
        return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ESRCH;
}

/* Two commands may start it at once: the one that came second waits for the first one's. */
static int connect_soon(const struct kind *k)
{
    for (int waited = 0;; waited += 20) {
        int fd = runtime_connect(k->socket);
        if (fd >= 0 || waited >= START_MS)
            return fd;
        (void)poll(NULL, 0, 20);
    }
}

static int connect_or_start(const struct kind *k, bool start)
{
    int fd = runtime_connect(k->socket);
    /* A socket that refuses was left by one that died: others wait for the next one. */
    bool died = fd == -ECONNREFUSED;
    if (!died && !(start && fd == -ENOENT))
        return fd;
    int r = runtime_make();
    if (r == 0)
        r = start_daemon(k);
    return r < 0 ? r : connect_soon(k);
}

int daemon_connect(bool start)
{
    return connect_or_start(&berthd, start);
}

int daemon_peer_connect(bool start)
{
    return connect_or_start(&berth_peer, start);
}

bool daemon_use_system(void)
{
    const char *chosen = getenv("BERTH_RUNTIME_DIR");
    if (geteuid() == 0 || (chosen && *chosen) ||
        access(SYSTEM_FOLDER "/" RUNTIME_CONTROL, F_OK) < 0)
        return false;
    return setenv("BERTH_RUNTIME_DIR", SYSTEM_FOLDER, 1) == 0;
}

bool daemon_use_owner(const char *const *routes, size_t count)
{
    const char *argv[APPMSG_ROUTES_MAX + 2] = {"reserve-covers"};
    char *text = NULL;
    if (!daemon_use_system())
        return false;
    for (size_t i = 0; i < count && i < APPMSG_ROUTES_MAX; i++)
        argv[i + 1] = routes[i];
    CLEANUP_FD int fd = runtime_connect(RUNTIME_CONTROL);
    bool covered = fd >= 0 && daemon_command(fd, argv, -EBADF, NULL, &text) == 0;
    free(text);
    if (!covered)
        (void)unsetenv("BERTH_RUNTIME_DIR");
    return covered;
}

static int text_add(char **text, size_t *len, struct str piece)
{
    char *more = realloc(*text, *len + piece.n + 1);
    if (!more)
        return -ENOMEM;
    memcpy(more + *len, piece.p, piece.n);
    *len += piece.n;
    more[*len] = 0;
    *text = more;
    return 0;
}

/* Until OK or ERROR. */
static int answer_read(int fd, int *ret_fd, char **ret_text)
{
    size_t len = 0;
    for (;;) {
        uint8_t buf[APPMSG_MAX];
        struct appmsg reply;
        size_t fd_count = 0;
        int came = -EBADF;
        ssize_t got = fdmsg_recv(fd, buf, sizeof buf, &came, 1, &fd_count, 0);
        if (got <= 0)
            return got == 0 ? -EPIPE : (int)got;
        CLEANUP_FD int owned = fd_count ? came : -EBADF;
        if (appmsg_decode(&reply, buf, (size_t)got) < 0)
            return -EPROTO;
        if (reply.type == APPMSG_OK) {
            if (ret_fd)
                *ret_fd = fd_take(&owned);
            return 0;
        }
        int r = text_add(ret_text, &len, reply.text);
        if (reply.type == APPMSG_ERROR)
            return reply.err > 0 ? -reply.err : -EPROTO;
        if (r < 0)
            return r;
    }
}

int daemon_ask(int fd, const struct appmsg *m, char **ret_text)
{
    uint8_t buf[APPMSG_MAX];
    *ret_text = NULL;
    int n = appmsg_encode(m, buf, sizeof buf);
    int r = n < 0 ? n : fdmsg_send(fd, buf, (size_t)n, NULL, 0, 0);
    return r < 0 ? r : answer_read(fd, NULL, ret_text);
}

/* The verb and its arguments as one message. */
static int command_encode(const char *const argv[], uint8_t buf[APPMSG_MAX])
{
    char args[APPMSG_MAX];
    size_t used = 0;
    for (size_t i = 1; argv[i]; i++) {
        size_t n = strlen(argv[i]) + 1;
        if (n > sizeof args - used)
            return -E2BIG;
        memcpy(args + used, argv[i], n);
        used += n;
    }
    struct appmsg m = {.type = APPMSG_COMMAND, .name = str_of(argv[0]), .text = {args, used}};
    return appmsg_encode(&m, buf, APPMSG_MAX);
}

int daemon_send(int fd, const char *const argv[], int send_fd)
{
    uint8_t buf[APPMSG_MAX];
    int n = command_encode(argv, buf);
    return n < 0 ? n : fdmsg_send(fd, buf, (size_t)n, &send_fd, send_fd >= 0, 0);
}

int daemon_command(int fd, const char *const argv[], int send_fd, int *ret_fd, char **ret_text)
{
    *ret_text = NULL;
    int r = daemon_send(fd, argv, send_fd);
    return r < 0 ? r : answer_read(fd, ret_fd, ret_text);
}

int daemon_answer(int fd, char **ret_text)
{
    *ret_text = NULL;
    return answer_read(fd, NULL, ret_text);
}

int daemon_ready(int fd, char **ret_text)
{
    uint8_t buf[APPMSG_MAX];
    struct appmsg reply;
    size_t count = 0, len = 0;
    int came = -EBADF;
    *ret_text = NULL;
    ssize_t got = fdmsg_recv(fd, buf, sizeof buf, &came, 1, &count, 0);
    if (count)
        (void)fd_close(came);
    if (got <= 0 || appmsg_decode(&reply, buf, (size_t)got) < 0)
        return got < 0 ? (int)got : -EPIPE;
    int r = text_add(ret_text, &len, reply.text);
    if (reply.type == APPMSG_ERROR)
        return reply.err > 0 ? -reply.err : -EPROTO;
    return r;
}
