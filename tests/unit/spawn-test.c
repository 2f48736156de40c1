/* Starts real programs, mostly shells that say what they find. */
#include "launch/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "launch/spawn-child.h"
#include "test.h"

#define LIMIT_MS   10000
#define WORDS(...) ((char **)(const char *[]){__VA_ARGS__, NULL})

struct shell {
    struct spawn spawn;
    char *argv[4];
    int output; /* the reading end of the program's standard output */
    char text[4096];
};

static void shell_init(struct shell *s, const char *script)
{
    int fds[2];
    CHECK_INT(pipe2(fds, O_CLOEXEC), 0);
    *s = (struct shell){.argv = {(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c",
                                 (char *)(uintptr_t)script},
                        .output = fds[0]};
    s->spawn = spawn_make(s->argv);
    s->spawn.stdout_fd = fds[1];
}

/* Runs to its end; the output without its last newline. */
static const char *shell_run(struct shell *s)
{
    char reason[SPAWN_REASON_MAX] = "";
    struct spawned made = {.pidfd = -EBADF};
    int err = spawn_start(&s->spawn, &made, reason);
    CHECK_TEXT(reason, "");
    CHECK_INT(err, 0);
    (void)close(s->spawn.stdout_fd);
    size_t n = 0;
    struct pollfd p = {.fd = s->output, .events = POLLIN};
    while (n < sizeof s->text - 1 && poll(&p, 1, LIMIT_MS) == 1) {
        ssize_t got = read(s->output, s->text + n, sizeof s->text - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    s->text[n] = 0;
    if (n > 0 && s->text[n - 1] == '\n')
        s->text[n - 1] = 0;
    (void)close(s->output);
    if (err == 0) {
        CHECK_INT(waitpid(made.pid, NULL, 0), made.pid);
        (void)close(made.pidfd);
    }
    return s->text;
}

/* The sentence of a start that must fail, with its error. */
static const char *refusal(const struct spawn *s, int want)
{
    static char reason[SPAWN_REASON_MAX];
    struct spawned made = {.pid = -1, .pidfd = -EBADF};
    (void)snprintf(reason, sizeof reason, "none");
    CHECK_INT(spawn_start(s, &made, reason), want);
    CHECK_INT(made.pid, -1);
    CHECK_INT(waitpid(-1, NULL, WNOHANG), -1);
    return reason;
}

static bool is_root(void)
{
    if (geteuid() == 0)
        return true;
    (void)printf("# skipped: not root\n");
    return false;
}

TEST("a program runs in the root folder with a clean environment of its user")
{
    struct shell s;
    struct passwd *own = getpwuid(geteuid());
    shell_init(&s, "pwd; umask; echo $HOME; set | grep -c ^LEAK; echo ${PATH%%:*}");
    CHECK_INT(setenv("LEAK", "1", 1), 0);
    char want[256];
    (void)snprintf(want, sizeof want, "/\n0022\n%s\n0\n/usr/local/sbin", own ? own->pw_dir : "/");
    CHECK_TEXT(shell_run(&s), want);
    CHECK_INT(unsetenv("LEAK"), 0);
}

TEST("additions win over a given environment, and berthd's own notify socket does not pass")
{
    struct shell s;
    shell_init(&s, "echo $A $B $C [$NOTIFY_SOCKET] [$LISTEN_FDS]");
    s.spawn.base = WORDS("A=1", "B=1", "NOTIFY_SOCKET=/x", "LISTEN_FDS=1");
    s.spawn.additions = WORDS("B=2", "C=2");
    CHECK_TEXT(shell_run(&s), "1 2 2 [] []");
}

TEST("an application's variables, the notify socket and the watchdog are there")
{
    struct shell s;
    static const char *const routes[] = {"a.localhost"};
    struct environment_app app = {
        .control = "/c", .name = "blog", .command = "x", .routes = routes, .route_count = 1};
    shell_init(&s, "echo $BERTH_APP $BERTH_ROUTES $NOTIFY_SOCKET $WATCHDOG_USEC;"
                   "[ $WATCHDOG_PID = $$ ] && echo pid");
    s.spawn.app = &app;
    s.spawn.notify_path = "/run/notify";
    s.spawn.watchdog_us = 30000000;
    CHECK_TEXT(shell_run(&s), "blog a.localhost /run/notify 30000000\npid");
}

TEST("descriptors to keep are at 3 and on, whatever numbers they had, and no others are open")
{
    struct shell s;
    int a[2], b[2], leak = dup(STDIN_FILENO);
    CHECK_INT(pipe2(a, O_CLOEXEC) | pipe2(b, O_CLOEXEC), 0);
    CHECK_INT(write(a[1], "first\n", 6) + write(b[1], "second\n", 7), 13);
    /* Crosswise: each stands where the other is to go, if the numbers are small. */
    int listens[] = {b[0], a[0]};
    shell_init(&s, "read x <&3; read y <&4; echo $x $y $LISTEN_FDS $LISTEN_FDNAMES;"
                   "[ $LISTEN_PID = $$ ] && echo pid; ls /proc/$$/fd; true");
    s.spawn.listen_fds = listens;
    s.spawn.listen_count = 2;
    s.spawn.listen_names = "two:one";
    CHECK_TEXT(shell_run(&s), "second first 2 two:one\npid\n0\n1\n2\n3\n4");
    for (int i = 0; i < 2; i++)
        (void)(close(a[i]) + close(b[i]));
    (void)close(leak);
}

TEST("standard input and outputs that nobody wants are /dev/null")
{
    struct shell s;
    shell_init(&s, "readlink /proc/$$/fd/0 /proc/$$/fd/2");
    CHECK_TEXT(shell_run(&s), "/dev/null\n/dev/null");
}

TEST("a program has a session and group of its own, and no signal is blocked or ignored")
{
    struct shell s;
    sigset_t blocked, before;
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &blocked, &before);
    (void)signal(SIGPIPE, SIG_IGN);
    shell_init(&s,
               "set -- $(cut -d' ' -f 1,5,6 /proc/$$/stat); [ $1 = $2 ] && [ $1 = $3 ] && echo own;"
               "grep -E 'Sig(Blk|Ign)' /proc/$$/status | tr -d '\\t\\n' |"
               /* 32 and 33 are libc's own, which sigaction() does not touch. */
               "sed 's/Ign:0000000[01][08]0000000$/Ign:0000000000000000/'");
    CHECK_TEXT(shell_run(&s), "own\nSigBlk:0000000000000000SigIgn:0000000000000000");
    sigset_t after;
    (void)sigprocmask(SIG_SETMASK, &before, &after);
    CHECK(sigismember(&after, SIGTERM) == 1);
    CHECK(sigismember(&after, SIGCHLD) == 0);
    (void)signal(SIGPIPE, SIG_DFL);
}

TEST("directory, umask, limits and no-new-privileges are as asked for")
{
    struct shell s;
    shell_init(&s,
               "pwd; umask; ulimit -n; ulimit -Hn; grep NoNewPrivs /proc/$$/status | tr -d '\\t'");
    s.spawn.directory = "/usr";
    s.spawn.umask = 077;
    s.spawn.files_max = 200;
    s.spawn.no_new_privileges = true;
    CHECK_TEXT(shell_run(&s), "/usr\n0077\n200\n200\nNoNewPrivs:1");
}

TEST("a program runs as another user, with that user's groups and home")
{
    struct passwd *nobody = getpwnam("nobody");
    if (!is_root() || !nobody)
        return;
    struct shell s;
    char want[256];
    (void)snprintf(want, sizeof want, "%u %u %u\n%s nobody", nobody->pw_uid, nobody->pw_gid,
                   nobody->pw_gid, nobody->pw_dir);
    shell_init(&s, "echo $(id -u) $(id -g) $(id -G); echo $HOME $USER");
    s.spawn.user = "nobody";
    CHECK_TEXT(shell_run(&s), want);
}

TEST("users and groups may be numbers that nobody knows")
{
    if (!is_root())
        return;
    struct shell s;
    shell_init(&s, "id -u; id -g; id -G; echo $HOME [$USER]");
    s.spawn.user = "4242";
    s.spawn.group = "4343";
    CHECK_TEXT(shell_run(&s), "4242\n4343\n4343\n/ []");
}

TEST("what is in the way of a start is said in a sentence")
{
    char **missing = WORDS("/nonexistent/nod"), **nowhere = WORDS("nod-nonexistent");
    char **folder = WORDS("/etc");
    struct spawn s = spawn_make(missing);
    CHECK_TEXT(refusal(&s, -ENOENT), "/nonexistent/nod: No such file or directory");
    s = spawn_make(nowhere);
    s.additions = WORDS("PATH=/bin");
    CHECK_TEXT(refusal(&s, -ENOENT), "nod-nonexistent: no such program in PATH (/bin)");
    s = spawn_make(folder);
    CHECK_TEXT(refusal(&s, -EACCES), "/etc: Permission denied");
    s.directory = "/nonexistent/x";
    CHECK_TEXT(refusal(&s, -ENOENT),
               "cannot change to directory /nonexistent/x: No such file or directory");
    s.user = "shopp";
    CHECK_TEXT(refusal(&s, -ENOENT), "user 'shopp' does not exist");
    s.user = NULL;
    s.group = "shopps";
    CHECK_TEXT(refusal(&s, -ENOENT), "group 'shopps' does not exist");
    s.group = NULL;
    s.user = "4242";
    CHECK_TEXT(refusal(&s, -EINVAL), "user 4242 is not in the user database: name a group, too");
}

TEST("a script whose interpreter is missing names the interpreter")
{
    char path[] = "/tmp/berth-spawn-XXXXXX", want[256];
    char *argv[] = {path, NULL};
    int fd = mkostemp(path, O_CLOEXEC);
    CHECK_INT(write(fd, "#!/nonexistent/python\n", 22), 22);
    CHECK_INT(fchmod(fd, 0755), 0);
    (void)close(fd);
    struct spawn s = spawn_make(argv);
    (void)snprintf(want, sizeof want,
                   "%s: its interpreter /nonexistent/python: No such file or directory", path);
    CHECK_TEXT(refusal(&s, -ENOENT), want);
    (void)unlink(path);
}

TEST("a user who is not root cannot start programs as others, and is told so")
{
    if (!is_root())
        return;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        char **argv = WORDS("/bin/true");
        struct spawn s = spawn_make(argv);
        s.user = "daemon";
        struct spawned made;
        char reason[SPAWN_REASON_MAX];
        int err = setresuid(65534, 65534, 65534) < 0 ? 0 : spawn_start(&s, &made, reason);
        _exit(err != -EPERM ? 1
                            : strcmp(reason, "not permitted to become user daemon: berthd runs as "
                                             "nobody") != 0);
    }
    int status = -1;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}

TEST("a limit that may not be raised is named")
{
    if (!is_root())
        return;
    pid_t pid = fork();
    if (pid == 0) {
        char **argv = WORDS("/bin/true");
        struct spawn s = spawn_make(argv);
        struct rlimit r;
        struct spawned made;
        char reason[SPAWN_REASON_MAX];
        (void)getrlimit(RLIMIT_NOFILE, &r);
        s.files_max = r.rlim_max + 1;
        int err = setresuid(65534, 65534, 65534) < 0 ? 0 : spawn_start(&s, &made, reason);
        _exit(err != -EPERM || strncmp(reason, "cannot set the limit of open files to ", 38) != 0);
    }
    int status = -1;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}

TEST("what goes wrong when nobody waits for it any more is said on standard error")
{
    int pair[2], output[2], nobody = open("/dev/null", O_RDONLY | O_CLOEXEC);
    char text[256];
    char **argv = WORDS("/nonexistent/nod");
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    CHECK_INT(pipe2(output, O_CLOEXEC), 0);
    struct spawn s = spawn_make(argv);
    struct spawn_plan plan = {
        .s = &s, .account.is_own = true, .status_fd = pair[1], .peer_fd = nobody};
    (void)close(pair[0]);
    s.stderr_fd = output[1];
    pid_t pid = fork();
    if (pid == 0)
        spawn_child(&plan);
    (void)(close(plan.peer_fd) + close(pair[1]) + close(output[1]));
    int status = 0;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(WEXITSTATUS(status), 127);
    ssize_t n = read(output[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    (void)close(output[0]);
    CHECK_TEXT(text, "berthd: /nonexistent/nod was not started: program: No such file or "
                     "directory\n");
}

TEST("the pidfd becomes readable when the program ends")
{
    char **argv = WORDS("/bin/true"), reason[SPAWN_REASON_MAX];
    struct spawn s = spawn_make(argv);
    struct spawned made;
    CHECK_INT(spawn_start(&s, &made, reason), 0);
    struct pollfd p = {.fd = made.pidfd, .events = POLLIN};
    CHECK_INT(poll(&p, 1, LIMIT_MS), 1);
    CHECK(fcntl(made.pidfd, F_GETFD) & FD_CLOEXEC);
    CHECK_INT(waitpid(made.pid, NULL, 0), made.pid);
    (void)close(made.pidfd);
}

TEST("a failed start leaves no descriptor behind")
{
    char **argv = WORDS("/nonexistent/nod");
    struct spawn s = spawn_make(argv);
    int before = dup(STDIN_FILENO);
    (void)close(before);
    for (int i = 0; i < 20; i++)
        (void)refusal(&s, -ENOENT);
    int after = dup(STDIN_FILENO);
    CHECK_INT(after, before);
    (void)close(after);
}
