#include "base/log.h"
#include "ipc/daemon.h"
#include "ipc/runtime.h"
#include "runtime-folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A command that becomes a daemon, which gets ready or ends with the status; what the command ends
 * with. */
static int status_of(bool gets_ready, int status)
{
    int result = 0;
    pid_t pid = fork();
    if (pid == 0) {
        int ready = daemon_background("unit", "log");
        log_info("here descriptor=%d", ready);
        if (gets_ready)
            daemon_ready_consume(ready);
        _exit(status);
    }
    CHECK_INT(waitpid(pid, &result, 0), pid);
    return WIFEXITED(result) ? WEXITSTATUS(result) : -1;
}

TEST("a lock is had by one at a time")
{
    char folder[FOLDER_MAX];
    folder_new(folder);
    int first = daemon_lock("lock");
    CHECK(first >= 0);
    CHECK_INT(daemon_lock("lock"), -EWOULDBLOCK);
    first = fd_close(first);
    CLEANUP_FD int second = daemon_lock("lock");
    CHECK(second >= 0);
    folder_done(folder, "lock");
    CHECK_INT(daemon_lock("lock"), -ENOENT);
}

TEST("a command ends well when its daemon is ready, and else as the daemon ends")
{
    char folder[FOLDER_MAX];
    folder_new(folder);
    CHECK_INT(status_of(true, 7), 0);
    CHECK_INT(status_of(false, 7), 7);
    CHECK_INT(status_of(false, 0), 0);
    folder_done(folder, "log");
}

/* A command that was started with these of 0, 1 and 2 closed. */
static int status_without(unsigned closed)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        for (int fd = 0; fd <= STDERR_FILENO; fd++)
            if (closed & 1u << fd)
                (void)close(fd);
        int ready = daemon_background("unit", "log");
        struct stat null, at[STDERR_FILENO + 1];
        bool good = ready > STDERR_FILENO && stat("/dev/null", &null) == 0;
        for (int fd = 0; good && fd <= STDERR_FILENO; fd++)
            good = fstat(fd, &at[fd]) == 0;
        good = good && at[0].st_rdev == null.st_rdev && at[1].st_rdev == null.st_rdev;
        good = good && S_ISREG(at[2].st_mode) && open("/", O_RDONLY | O_CLOEXEC) == ready + 1;
        _exit(good ? 0 : 1); /* not ready: the command ends with this */
    }
    CHECK_INT(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST("a daemon has its three descriptors, whichever of them the command had not")
{
    char folder[FOLDER_MAX];
    folder_new(folder);
    for (unsigned closed = 0; closed < 8; closed++)
        CHECK_INT(status_without(closed), 0);
    folder_done(folder, "log");
}

TEST("a daemon holds nothing of who started it, and says in its log what it has to say")
{
    char folder[FOLDER_MAX], path[RUNTIME_PATH_MAX], text[256] = "";
    int held[2];
    folder_new(folder);
    CHECK_INT(pipe(held), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int ready = daemon_background("unit", "log");
        log_info("here");
        bool others = write(held[1], "x", 1) == 1;
        daemon_ready_consume(others ? -EBADF : ready);
        _exit(9);
    }
    int status = 0;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK_INT(runtime_path("log", path), 0);
    FILE *f = fopen(path, "re");
    CHECK(f && fgets(text, sizeof text, f) && strstr(text, "here"));
    if (f)
        (void)fclose(f);
    CHECK_INT(close(held[0]) + close(held[1]), 0);
    folder_done(folder, "log");
}
