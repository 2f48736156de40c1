/* Starts a program. What is to run comes in; its process and a descriptor for it go out, or the
 * sentence that says why there is none. All that may block, load or lock is done before the fork.
 */
#include "launch/spawn.h"

#include <linux/sched.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "launch/elf.h"
#include "launch/program.h"
#include "launch/spawn-child.h"

/* An exec takes a millisecond; one from a file system that does not answer is not waited for. */
#define EXEC_WAIT_MS 200
#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct spawn spawn_make(char *const *argv)
{
    return (struct spawn){
        .argv = argv, .umask = 022, .stdout_fd = -EBADF, .stderr_fd = -EBADF, .cgroup_fd = -EBADF};
}

/* What a login would set, for programs that rely on it. */
static void environment_clean(struct environment *e, const struct account *a)
{
    const char *lang = getenv("LANG");
    environment_init(e, NULL);
    environment_set(e, "PATH", PATH_DEFAULT);
    environment_set(e, "LANG", lang && *lang ? lang : "C.UTF-8");
    environment_set(e, "HOME", a->home ? a->home : "/");
    environment_set(e, "SHELL", a->shell ? a->shell : "/bin/sh");
    if (!a->name)
        return;
    environment_set(e, "USER", a->name);
    environment_set(e, "LOGNAME", a->name);
}

static void listen_set(struct environment *e, const struct spawn *s)
{
    char count[16];
    (void)snprintf(count, sizeof count, "%zu", s->listen_count);
    environment_unset(e, "LISTEN_FDNAMES");
    environment_unset(e, "LISTEN_PID");
    environment_unset(e, "LISTEN_FDS");
    if (s->listen_count == 0)
        return;
    environment_set(e, "LISTEN_FDS", count);
    environment_set(e, "LISTEN_PID", SPAWN_PID_ROOM);
    if (s->listen_names)
        environment_set(e, "LISTEN_FDNAMES", s->listen_names);
}

/* Also what berthd itself was given by its service manager must not reach the program. */
static void notify_set(struct environment *e, const struct spawn *s)
{
    char period[24];
    (void)snprintf(period, sizeof period, "%llu", (unsigned long long)s->watchdog_us);
    environment_unset(e, "NOTIFY_SOCKET");
    environment_unset(e, "WATCHDOG_USEC");
    environment_unset(e, "WATCHDOG_PID");
    if (s->notify_path)
        environment_set(e, "NOTIFY_SOCKET", s->notify_path);
    if (s->watchdog_us == 0)
        return;
    environment_set(e, "WATCHDOG_USEC", period);
    environment_set(e, "WATCHDOG_PID", SPAWN_PID_ROOM);
}

static int environment_make(struct spawn_plan *p)
{
    const struct spawn *s = p->s;
    if (s->base)
        environment_init(&p->env, s->base);
    else
        environment_clean(&p->env, &p->account);
    for (char *const *v = s->additions; v && *v; v++)
        environment_put(&p->env, *v);
    if (s->app)
        environment_app(&p->env, s->app);
    listen_set(&p->env, s);
    notify_set(&p->env, s);
    return environment_ok(&p->env) ? 0 : -ENOMEM;
}

/* A fork that gives a pidfd, straight into the cgroup where one is wanted. */
static pid_t fork_pidfd(struct spawn_plan *p, int *ret_pidfd)
{
    int pidfd = -EBADF;
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD};
    if (p->s->cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)p->s->cgroup_fd;
    }
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (pid > 0)
        *ret_pidfd = pidfd;
    return pid < 0 ? -errno : pid;
}

/* Some containers' filters refuse clone3() whatever it is asked for. */
static pid_t fork_plain(struct spawn_plan *p, int *ret_pidfd)
{
    p->joins_cgroup = p->s->cgroup_fd >= 0;
    pid_t pid = fork();
    if (pid <= 0)
        return pid < 0 ? -errno : 0;
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        int err = errno;
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        return -err;
    }
    *ret_pidfd = pidfd;
    return pid;
}

/* No handler of this process may run in the child before it has put them all away. */
static int fork_child(struct spawn_plan *p, struct spawned *ret_spawned)
{
    sigset_t all, before;
    struct spawned made = {.pidfd = -EBADF};
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    made.pid = fork_pidfd(p, &made.pidfd);
    if (made.pid == -ENOSYS || made.pid == -EPERM)
        made.pid = fork_plain(p, &made.pidfd);
    if (made.pid == 0)
        spawn_child(p);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    if (made.pid < 0)
        return made.pid;
    *ret_spawned = made;
    return 0;
}

/* The end of file says that the program runs. A report read after the wait is as good as one
 * before. */
static bool failed(int status_fd, struct spawn_report *ret_report)
{
    struct spawn_report report;
    struct pollfd poller = {.fd = status_fd, .events = POLLIN};
    while (poll(&poller, 1, EXEC_WAIT_MS) < 0 && errno == EINTR)
        ;
    if (recv(status_fd, &report, sizeof report, MSG_DONTWAIT) != sizeof report)
        return false;
    *ret_report = report;
    return true;
}

static void explain_user(const struct spawn_plan *p, int err, char *reason)
{
    char own[32], text[1024];
    struct passwd entry, *found = NULL;
    (void)snprintf(own, sizeof own, "%u", geteuid());
    (void)getpwuid_r(geteuid(), &entry, text, sizeof text, &found);
    const char *to = p->s->user ? p->s->user : p->s->group;
    const char *kind = p->s->user ? "user" : "a member of group";
    if (err == EPERM)
        (void)snprintf(reason, SPAWN_REASON_MAX, "not permitted to become %s %s: berthd runs as %s",
                       kind, to, found ? found->pw_name : own);
    else
        (void)snprintf(reason, SPAWN_REASON_MAX, "cannot become %s %s: %s", kind, to,
                       strerror(err));
}

/* The kernel's "No such file" may mean the interpreter, and people then look at the wrong file. */
static void explain_exec(const struct spawn_plan *p, int err, char *reason)
{
    char buf[PROGRAM_PATH_MAX];
    struct elf_facts facts = {0};
    const char *command = p->s->argv[0];
    struct program_place place = {.path = environment_find(&p->env, "PATH"),
                                  .directory = p->s->directory ? p->s->directory : "/"};
    const char *path = program_find(command, &place, buf);
    if (err == ENOENT && elf_inspect(path, &facts) == 0 && facts.interpreter[0])
        (void)snprintf(reason, SPAWN_REASON_MAX, "%s: its interpreter %s: %s", command,
                       facts.interpreter, strerror(err));
    else if (err == ENOENT && !strchr(command, '/'))
        (void)snprintf(reason, SPAWN_REASON_MAX, "%s: no such program in PATH (%s)", command,
                       place.path ? place.path : "which is not set");
    else
        (void)snprintf(reason, SPAWN_REASON_MAX, "%s: %s", command, strerror(err));
}

static void explain(const struct spawn_plan *p, const struct spawn_report *r, char *reason)
{
    const struct spawn *s = p->s;
    const char *why = strerror(r->err);
    switch (r->step) {
    case STEP_CGROUP:
        (void)snprintf(reason, SPAWN_REASON_MAX, "cannot start %s in its cgroup: %s", s->argv[0],
                       why);
        break;
    case STEP_FILES_MAX:
        (void)snprintf(reason, SPAWN_REASON_MAX, "cannot set the limit of open files to %llu: %s",
                       (unsigned long long)s->files_max, why);
        break;
    case STEP_TASKS_MAX:
        (void)snprintf(reason, SPAWN_REASON_MAX, "cannot set the limit of processes to %llu: %s",
                       (unsigned long long)s->tasks_max, why);
        break;
    case STEP_GROUP:
    case STEP_USER:
        explain_user(p, r->err, reason);
        break;
    case STEP_DIRECTORY:
        (void)snprintf(reason, SPAWN_REASON_MAX, "cannot change to directory %s: %s",
                       s->directory ? s->directory : "/", why);
        break;
    case STEP_EXEC:
        explain_exec(p, r->err, reason);
        break;
    default:
        (void)snprintf(reason, SPAWN_REASON_MAX, "cannot prepare %s: %s", s->argv[0], why);
    }
}

/* The sentence for what failed before there was a child. */
static int fail(int err, const struct spawn *s, const char *what, char *reason)
{
    (void)snprintf(reason, SPAWN_REASON_MAX, "cannot start %s: %s%s", s->argv[0], what,
                   strerror(-err));
    return err;
}

static int start(struct spawn_plan *p, struct spawned *ret_spawned, char *reason)
{
    int pair[2];
    struct spawned made;
    struct spawn_report report;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return fail(-errno, p->s, "", reason);
    p->peer_fd = pair[0];
    p->status_fd = pair[1];
    int err = fork_child(p, &made);
    (void)fd_close(pair[1]);
    bool gave_up = err == 0 && failed(pair[0], &report);
    (void)fd_close(pair[0]);
    if (err < 0)
        return fail(err, p->s, p->s->cgroup_fd >= 0 ? "new process in its cgroup: " : "", reason);
    if (!gave_up) {
        *ret_spawned = made;
        return 0;
    }
    (void)waitpid(made.pid, NULL, 0);
    (void)fd_close(made.pidfd);
    explain(p, &report, reason);
    return -report.err;
}

int spawn_start(const struct spawn *s, struct spawned *ret_spawned,
                char ret_reason[SPAWN_REASON_MAX])
{
    struct spawn_plan p = {.s = s, .status_fd = -EBADF, .peer_fd = -EBADF};
    if (s->listen_count > SPAWN_FDS_MAX)
        return fail(-E2BIG, s, "its descriptors: ", ret_reason);
    int err = account_find(s->user, s->group, &p.account, ret_reason);
    if (err < 0)
        return err;
    err = environment_make(&p);
    err = err < 0 ? fail(err, s, "", ret_reason) : start(&p, ret_spawned, ret_reason);
    environment_done(&p.env);
    account_done(&p.account);
    return err;
}
