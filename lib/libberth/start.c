/* A berthd for this user: found, started in the background, connected to. Nothing of the program
 * goes over to it: not its descriptors, not its signal mask, not what is preloaded into it. */
#include <dlfcn.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "internal.h"

/* How long a berthd that is starting may take until it answers. */
#define START_MS 5000
#define LOOK_MS  20
#define FIRST_FD 3 /* descriptors that berthd does not get */

static bool is_program(const char *path)
{
    return access(path, X_OK) == 0;
}

/* $BERTH_DAEMON, or beside this library, or where it was installed. */
static bool daemon_find(char path[PATH_MAX])
{
    const char *own = secure_getenv("BERTH_DAEMON");
    Dl_info here;
    if (own && *own) {
        (void)snprintf(path, PATH_MAX, "%s", own);
        return is_program(path);
    }
    const char *slash = dladdr((void *)berth_new, &here) ? strrchr(here.dli_fname, '/') : NULL;
    if (slash) {
        (void)snprintf(path, PATH_MAX, "%.*s/berthd", (int)(slash - here.dli_fname),
                       here.dli_fname);
        if (is_program(path))
            return true;
    }
    (void)snprintf(path, PATH_MAX, "%s", BERTH_DAEMON_INSTALLED);
    return is_program(path);
}

static bool is_ours(const char *variable)
{
    static const char *const ours[] = {
        "LD_PRELOAD=",    "LISTEN_FDS=",    "LISTEN_PID=",   "LISTEN_FDNAMES=",
        "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=", "FDSTORE="};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strncmp(variable, ours[i], strlen(ours[i])) == 0)
            return true;
    return false;
}

/* The environment without what is meant for this process alone; to be free()d. */
static char **environment_copy(void)
{
    size_t count = 0, kept = 0;
    while (environ && environ[count])
        count++;
    char **copy = calloc(count + 1, sizeof *copy);
    for (size_t i = 0; copy && i < count; i++)
        if (!is_ours(environ[i]))
            copy[kept++] = environ[i];
    return copy;
}

static int spawn(const char *path, char *const *env, pid_t *ret_pid)
{
    char name[] = "berthd", background[] = "--daemon", automatic[] = "--auto";
    char *const argv[] = {name, background, automatic, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    if (posix_spawn_file_actions_init(&files) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        (void)posix_spawn_file_actions_destroy(&files);
        return -ENOMEM;
    }
    int r = posix_spawn_file_actions_addclosefrom_np(&files, FIRST_FD);
    r = r ? r : posix_spawnattr_setsigmask(&attributes, &none);
    r = r ? r : posix_spawnattr_setsigdefault(&attributes, &all);
    r = r ? r
          : posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    r = r ? r : posix_spawn(ret_pid, path, &files, &attributes, argv, env);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&files);
    return -r;
}

/* It goes to the background when it is ready, and what we started ends then. A program that ignores
 * SIGCHLD or waits for all children takes its status from us: connecting shows the rest. */
static int start(void)
{
    char path[PATH_MAX];
    pid_t pid;
    int status = 0;
    if (!daemon_find(path))
        return -ENOENT;
    char **env = environment_copy();
    int r = env ? spawn(path, env, &pid) : -ENOMEM;
    free(env);
    if (r < 0)
        return r;
    while ((r = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
        ;
    if (r < 0)
        return 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ESRCH;
}

/* Two programs may start berthd at once: the one that came second waits for the first one's. */
static int connect_soon(void)
{
    for (int waited = 0;; waited += LOOK_MS) {
        int fd = claim_connect();
        if ((fd != -ENOENT && fd != -ECONNREFUSED) || waited >= START_MS)
            return fd;
        (void)poll(NULL, 0, LOOK_MS);
    }
}

int start_connect(struct berth *b)
{
    int r = start();
    if (r == -ENOENT)
        return reason_set(b, r, "berthd is not running, and not where it was installed (%s)",
                          BERTH_DAEMON_INSTALLED);
    if (r < 0)
        return reason_set(b, r, "berthd cannot be started: %s", strerror(-r));
    int fd = connect_soon();
    return fd < 0 ? reason_set(b, fd, "berthd was started and does not answer: %s", strerror(-fd))
                  : fd;
}
