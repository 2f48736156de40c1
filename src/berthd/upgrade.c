/* `berth upgrade`: another berthd in the place of this one. The binary that is installed now is
 * started for a trial; when that says that it would take over, this process becomes it by execve():
 * the process number, the children, the lock, the listening sockets and every client of the control
 * socket stay. The new berthd starts a new dispatch, and only when that serves, the old one
 * retires. If anything fails on the way, what ran before goes on. */
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/log.h"
#include "berthd/handover.h"
#include "berthd/recover.h"

#define VARIABLE "BERTH_HANDOVER"
#define TRIAL_MS 10000
#define SAID_MAX 2048
#define ARGS_MAX 64
#define TEXT_MAX 2048

struct upgrade {
    struct server *server;
    struct client *asker; /* NULL: gone */
    char path[4096];
    pid_t trial;
    int out; /* owned: what it says */
    struct watch watch;
    struct timer limit;
    char said[SAID_MAX];
    size_t said_len;
};

/* The file that was started, under its name: what is installed there now is the new one. */
static int own_path(char *buf, size_t size)
{
    static const char gone[] = " (deleted)";
    ssize_t n = readlink("/proc/self/exe", buf, size - 1);
    if (n <= 0)
        return -errno;
    buf[n] = 0;
    size_t tail = strlen(gone);
    if ((size_t)n > tail && strcmp(buf + n - tail, gone) == 0)
        buf[(size_t)n - tail] = 0;
    return access(buf, X_OK) == 0 ? 0 : -errno;
}

static void upgrade_free(struct upgrade *u)
{
    loop_unwatch(&u->server->loop, &u->watch);
    loop_untimer(&u->limit);
    (void)fd_close(u->out);
    u->server->upgrade = NULL;
    free(u);
}

static void give_up(struct upgrade *u, int err, const char *reason)
{
    log_warn("not upgraded reason=%s", reason);
    control_answer_consume(u->asker, err, strdup(reason));
    upgrade_free(u);
}

void upgrade_forget(struct server *s, const struct client *asker)
{
    if (s->upgrade && s->upgrade->asker == asker)
        s->upgrade->asker = NULL;
}

/* Returns only when it failed. An empty path: the program that is open as `image`. */
static int become(struct server *s, int image, const char *path, int handover)
{
    char number[16];
    (void)snprintf(number, sizeof number, "%d", handover);
    if (setenv(VARIABLE, number, 1) == 0)
        (void)execveat(image, path, s->argv, environ, *path ? 0 : AT_EMPTY_PATH);
    int r = -errno;
    (void)unsetenv(VARIABLE);
    handover_keep_in();
    return r;
}

static void go_over(struct upgrade *u)
{
    struct server *s = u->server;
    char path[sizeof u->path];
    (void)snprintf(path, sizeof path, "%s", u->path);
    (void)dispatch_settle(s);
    systemd_reloading(s);
    CLEANUP_FD int image = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    struct handover old = {.channel = s->channel,
                           .image = image,
                           .dispatch_pid = s->dispatch_pid,
                           .keeper_pid = s->keeper_pid};
    CLEANUP_FD int handover = handover_write(s, &old);
    int r = handover;
    if (r >= 0) {
        log_info("upgrading path=%s", path);
        r = become(s, AT_FDCWD, path, handover);
    }
    systemd_ready(s);
    give_up(u, r, strerror(-r));
}

/* "berthd 1.2.3 handover 1" as a line of its own. */
static bool trial_passed(struct upgrade *u, char *reason, size_t size)
{
    char version[HANDOVER_VERSION_MAX];
    int handover;
    char *rest;
    for (char *line = strtok_r(u->said, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (sscanf(line, "berthd %63s handover %d", version, &handover) != 2) {
            (void)snprintf(reason, size, "%.800s: %.1000s", u->path, line);
            continue;
        }
        if (handover == HANDOVER_VERSION)
            return true;
        (void)snprintf(reason, size,
                       "version %s cannot take over from " BERTH_VERSION
                       " in place: `berth stop`, then start it",
                       version);
        return false;
    }
    if (*reason == 0)
        (void)snprintf(reason, size, "%.1000s does not start", u->path);
    return false;
}

static void trial_over(struct upgrade *u)
{
    char reason[TEXT_MAX] = "";
    (void)kill(u->trial, SIGKILL);
    if (trial_passed(u, reason, sizeof reason))
        go_over(u);
    else
        give_up(u, -ENOEXEC, reason);
}

static void trial_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct upgrade *u = container_of(w, struct upgrade, watch);
    ssize_t n = read(u->out, u->said + u->said_len, sizeof u->said - 1 - u->said_len);
    if (n > 0)
        u->said_len += (size_t)n;
    if (n <= 0 || u->said_len == sizeof u->said - 1)
        trial_over(u);
}

static void trial_late(struct timer *t)
{
    struct upgrade *u = container_of(t, struct upgrade, limit);
    (void)kill(u->trial, SIGKILL);
    give_up(u, -ETIMEDOUT, "the new berthd does not end its trial");
}

static void exec_trial(const struct upgrade *u, int out)
{
    char *argv[ARGS_MAX + 2];
    size_t n = 0;
    while (n < ARGS_MAX && u->server->argv[n]) {
        argv[n] = u->server->argv[n];
        n++;
    }
    argv[n++] = (char[]){"--trial"};
    argv[n] = NULL;
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(out, STDOUT_FILENO) >= 0 && dup2(out, STDERR_FILENO) >= 0)
        (void)execv(u->path, argv);
    (void)dprintf(STDERR_FILENO, "%s\n", strerror(errno));
    _exit(127);
}

static int trial_start(struct upgrade *u)
{
    int out[2];
    if (pipe2(out, O_CLOEXEC) < 0)
        return -errno;
    u->trial = fork();
    if (u->trial == 0)
        exec_trial(u, out[1]);
    (void)fd_close(out[1]);
    u->out = out[0];
    if (u->trial < 0)
        return -EAGAIN;
    loop_timer(&u->server->loop, &u->limit, TRIAL_MS);
    return loop_watch(&u->server->loop, &u->watch, u->out, EPOLLIN);
}

int upgrade_start(struct server *s, struct client *asker, char *reason, size_t size)
{
    if (s->upgrade) {
        (void)snprintf(reason, size, "an upgrade is under way");
        return -EBUSY;
    }
    struct upgrade *u = calloc(1, sizeof *u);
    if (!u)
        return -ENOMEM;
    *u = (struct upgrade){.server = s, .asker = asker, .out = -EBADF};
    u->watch = (struct watch){.fd = -EBADF, .ready = trial_ready};
    u->limit.fire = trial_late;
    s->upgrade = u;
    int r = own_path(u->path, sizeof u->path);
    if (r < 0)
        (void)snprintf(reason, size, "%.900s: %s", u->path, strerror(-r));
    else
        r = trial_start(u);
    if (r == 0)
        return 1;
    upgrade_free(u);
    return r;
}

int upgrade_trial(void)
{
    char reason[REASON_MAX] = "no pipe";
    if (!dispatch_runs(reason)) {
        (void)puts(reason);
        return 1;
    }
    (void)printf("berthd " BERTH_VERSION " handover %d\n", HANDOVER_VERSION);
    return 0;
}

struct handover *upgrade_came(void)
{
    const char *number = getenv(VARIABLE);
    if (!number)
        return NULL;
    int fd = atoi(number);
    (void)unsetenv(VARIABLE);
    handover_keep_in();
    /* A program that is started by its descriptor is not called by its name. */
    (void)prctl(PR_SET_NAME, "berthd");
    struct handover *h = calloc(1, sizeof *h);
    if (h && handover_open_consume(fd, h) == 0)
        return h;
    free(h);
    return NULL;
}

int upgrade_lock(struct handover *h)
{
    return fd_take(&h->lock);
}

static char *answer(const struct server *s, const struct handover *h)
{
    json_t *j = json_pack("{s:i, s:{s:s, s:i}, s:{s:s, s:i}}", "pid", (int)getpid(), "from",
                          "version", h->version, "dispatch_pid", (int)h->dispatch_pid, "to",
                          "version", BERTH_VERSION, "dispatch_pid", (int)s->dispatch_pid);
    char *text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(j);
    return text;
}

/* The new one cannot serve: the old one, whose program we still have open, goes on where it was. */
static int go_back(struct server *s, struct handover *h, const char *reason)
{
    s->channel = fd_close(s->channel);
    if (s->dispatch_pid > 0)
        (void)kill(s->dispatch_pid, SIGKILL);
    log_error("cannot take over reason=%s", reason);
    (void)snprintf(h->reason, sizeof h->reason, "%s", reason);
    int fd = handover_write(s, h);
    return fd < 0 ? fd : become(s, h->image, "", fd);
}

/* We are the old one again. */
static void went_back(struct server *s, struct handover *h, struct client *asker)
{
    log_warn("not upgraded reason=%s", h->reason);
    dispatch_keep_consume(s, fd_take(&h->channel), h->dispatch_pid);
    control_answer_consume(asker, -ENOEXEC, strdup(h->reason));
}

int upgrade_finish(struct server *s, struct handover *h)
{
    struct client *asker = NULL;
    s->successor_fd = fd_take(&h->successor);
    s->control_is_given = h->control_is_given;
    int r = control_adopt_consume(s, fd_take(&h->control));
    if (r == 0)
        r = handover_apply(s, h, &asker);
    recover_finish(s);
    if (r == 0 && *h->reason) {
        went_back(s, h, asker);
    } else if (r < 0 || (r = dispatch_replace(s)) < 0) {
        return go_back(s, h, "the new berth-dispatch does not serve");
    } else {
        log_info("upgraded from=%s to=" BERTH_VERSION, h->version);
        retire_consume(s, fd_take(&h->channel), h->dispatch_pid, h->keeper_pid);
        control_answer_consume(asker, 0, answer(s, h));
    }
    (void)fd_close(h->image);
    (void)fd_close(h->fd);
    free(h);
    return 0;
}
