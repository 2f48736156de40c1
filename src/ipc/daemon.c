/* One lock, one fork, one byte. The lock is taken after the fork: it belongs to what stays. */
#include "ipc/daemon.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "base/log.h"
#include "ipc/runtime.h"

#define READY_FD 3

int daemon_lock(const char *file)
{
    char path[RUNTIME_PATH_MAX];
    int r = runtime_path(file, path);
    if (r < 0)
        return r;
    CLEANUP_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
        return -errno;
    return fd_take(&fd);
}

/* For one byte: ready. Without it, for the exit status. */
static _Noreturn void parent_wait(int ready, pid_t pid)
{
    char byte;
    bool up = read(ready, &byte, 1) == 1;
    int status = 0;
    if (!up)
        (void)waitpid(pid, &status, 0);
    _exit(up ? 0 : WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void standard_set(const char *log)
{
    char path[RUNTIME_PATH_MAX];
    int null = open("/dev/null", O_RDWR);
    /* Where the command had one of the three closed, this is it, and it stays. */
    while (null >= 0 && null < READY_FD)
        null = dup(null);
    int fd = -EBADF;
    if (runtime_path(log, path) == 0)
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(null, STDOUT_FILENO);
    (void)dup2(fd >= 0 ? fd : null, STDERR_FILENO);
    (void)fd_close(null);
    (void)fd_close(fd);
}

int daemon_background(const char *program, const char *log)
{
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid > 0) {
        (void)close(ready[1]);
        parent_wait(ready[0], pid);
    }
    (void)close(ready[0]);
    /* Nothing of whoever started us is to be held open: pipes, terminals, locks. */
    if (dup2(ready[1], READY_FD) < 0 || fcntl(READY_FD, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    (void)close_range(READY_FD + 1, ~0U, 0);
    (void)setsid();
    if (chdir("/") < 0)
        return -errno;
    standard_set(log);
    log_init(program, log_level());
    return READY_FD;
}

void daemon_ready_consume(int fd)
{
    if (fd < 0)
        return;
    ssize_t written = write(fd, "R", 1);
    (void)written;
    (void)close(fd);
}
