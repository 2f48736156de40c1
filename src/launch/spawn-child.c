/* What a new process does until it is the program. A plan comes in; the step that failed goes out
 * as a report over the status socket, which the exec closes. It runs on a copy of its parent's
 * memory, so it may write over the environment, but must not allocate. */
#include "launch/spawn-child.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define LISTEN_FDS_START 3
#define EXIT_NOT_STARTED 127

static void say(const struct spawn_plan *p, const char *step, int err)
{
    char line[512];
    const char *why = strerrordesc_np(err);
    int n = snprintf(line, sizeof line, "berthd: %s was not started: %s: %s\n", p->s->argv[0], step,
                     why ? why : "unknown error");
    size_t size = n < 0 ? 0 : (size_t)n;
    (void)!write(STDERR_FILENO, line, size < sizeof line ? size : sizeof line - 1);
}

/* Nobody may be listening any more: then it is for whoever reads the program's output. */
static _Noreturn void give_up(const struct spawn_plan *p, enum spawn_step step)
{
    static const char *const steps[] = {"cgroup", "descriptors", "files_max",  "tasks_max", "group",
                                        "user",   "directory",   "privileges", "program"};
    struct spawn_report report = {step, errno};
    if (send(p->status_fd, &report, sizeof report, MSG_NOSIGNAL) != sizeof report)
        say(p, steps[step], report.err);
    _exit(EXIT_NOT_STARTED);
}

static void signals_reset(void)
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int i = 1; i < NSIG; i++)
        (void)sigaction(i, &plain, NULL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Moves a descriptor to a number that none is to have in the end. */
static int lift(const struct spawn_plan *p, int fd, int floor)
{
    int lifted = fcntl(fd, F_DUPFD_CLOEXEC, floor);
    if (lifted < 0)
        give_up(p, STEP_STDIO);
    return lifted;
}

static void settle(const struct spawn_plan *p, int fd, int at)
{
    if (dup2(fd, at) < 0)
        give_up(p, STEP_STDIO);
}

/* First all of them out of the way, then each to its place: any may stand where another is to go.
 * Everything else closes with the exec. */
static void descriptors_place(struct spawn_plan *p)
{
    const struct spawn *s = p->s;
    int listens[SPAWN_FDS_MAX], outputs[2] = {s->stdout_fd, s->stderr_fd};
    int floor = LISTEN_FDS_START + (int)s->listen_count;
    p->status_fd = lift(p, p->status_fd, floor);
    for (size_t i = 0; i < s->listen_count; i++)
        listens[i] = lift(p, s->listen_fds[i], floor);
    for (int i = 0; i < 2; i++)
        outputs[i] = outputs[i] < 0 ? -EBADF : lift(p, outputs[i], floor);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    null = null < 0 ? null : lift(p, null, floor);
    for (int i = 0; i < 2; i++)
        settle(p, outputs[i] < 0 ? null : outputs[i], STDOUT_FILENO + i);
    settle(p, null, STDIN_FILENO);
    for (size_t i = 0; i < s->listen_count; i++)
        settle(p, listens[i], LISTEN_FDS_START + (int)i);
    /* Kernels before 5.11 do not know the flag: there CLOEXEC from birth must do. */
    (void)close_range((unsigned)floor, ~0U, CLOSE_RANGE_CLOEXEC);
}

static void cgroup_join(const struct spawn_plan *p)
{
    if (!p->joins_cgroup)
        return;
    int fd = openat(p->s->cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1)
        give_up(p, STEP_CGROUP);
    (void)close(fd);
}

static void limit(const struct spawn_plan *p, int resource, uint64_t value, enum spawn_step step)
{
    struct rlimit r = {value, value};
    if (value > 0 && setrlimit((__rlimit_resource_t)resource, &r) < 0)
        give_up(p, step);
}

static void user_become(const struct spawn_plan *p)
{
    const struct account *a = &p->account;
    if (a->is_own)
        return;
    if (setgroups((size_t)a->group_count, a->groups) < 0 || setresgid(a->gid, a->gid, a->gid) < 0)
        give_up(p, STEP_GROUP);
    if (setresuid(a->uid, a->uid, a->uid) < 0)
        give_up(p, STEP_USER);
}

static void pid_write(const struct spawn_plan *p, const char *name)
{
    char *at = environment_find(&p->env, name);
    char digits[] = SPAWN_PID_ROOM;
    size_t n = 0;
    for (pid_t pid = getpid(); pid > 0; pid /= 10)
        digits[n++] = (char)('0' + pid % 10);
    if (!at)
        return;
    while (n > 0)
        *at++ = digits[--n];
    *at = 0;
}

void spawn_child(const struct spawn_plan *plan)
{
    struct spawn_plan p = *plan;
    const struct spawn *s = p.s;
    /* Ours would keep the other end open, and a report that nobody reads would seem to arrive. */
    (void)close(p.peer_fd);
    (void)setsid();
    signals_reset();
    cgroup_join(&p);
    descriptors_place(&p);
    (void)umask(s->umask);
    limit(&p, RLIMIT_NOFILE, s->files_max, STEP_FILES_MAX);
    limit(&p, RLIMIT_NPROC, s->tasks_max, STEP_TASKS_MAX);
    user_become(&p);
    if (chdir(s->directory ? s->directory : "/") < 0)
        give_up(&p, STEP_DIRECTORY);
    if (s->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        give_up(&p, STEP_PRIVILEGES);
    if (s->listen_count > 0)
        pid_write(&p, "LISTEN_PID");
    if (s->watchdog_us > 0)
        pid_write(&p, "WATCHDOG_PID");
    environ = p.env.vars;
    (void)execvp(s->argv[0], s->argv);
    give_up(&p, STEP_EXEC);
}
