/* Bounds the log file of a berthd in the background. berth-dispatch writes to the same open file
 * and cannot open another one: so the file is copied to an older one and emptied, never exchanged.
 * When there is no room for the copy, the old lines go without it. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/log.h"
#include "berthd/server.h"
#include "ipc/runtime.h"

#define LOG_BYTES_MAX (1 << 20)
#define LOOK_MS       10000

static bool is_ours(const char *path, struct stat *ret_own)
{
    struct stat named;
    return fstat(STDERR_FILENO, ret_own) == 0 && S_ISREG(ret_own->st_mode) &&
           stat(path, &named) == 0 && named.st_ino == ret_own->st_ino &&
           named.st_dev == ret_own->st_dev;
}

static bool copy(const char *from, const char *to)
{
    CLEANUP_FD int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    CLEANUP_FD int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    ssize_t n = 1;
    while (in >= 0 && out >= 0 && n > 0)
        n = sendfile(out, in, NULL, LOG_BYTES_MAX);
    return in >= 0 && out >= 0 && n == 0;
}

void ownlog_bound(void)
{
    char path[RUNTIME_PATH_MAX], old[RUNTIME_PATH_MAX + 8];
    struct stat st;
    if (runtime_path(RUNTIME_LOG, path) < 0 || !is_ours(path, &st) || st.st_size <= LOG_BYTES_MAX)
        return;
    (void)snprintf(old, sizeof old, "%s.old", path);
    bool kept = copy(path, old);
    if (!kept)
        (void)unlink(old);
    if (ftruncate(STDERR_FILENO, 0) == 0)
        log_info("log begun anew older=%s", kept ? old : "none");
}

static void look(struct timer *t)
{
    struct server *s = container_of(t, struct server, log_look);
    ownlog_bound();
    loop_timer(&s->loop, t, LOOK_MS);
}

void ownlog_start(struct server *s)
{
    s->log_look.fire = look;
    look(&s->log_look);
}
