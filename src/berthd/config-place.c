/* Where the configuration of this runtime folder is. A berthd that was killed may be followed by
 * one that a command starts, which does not know what the dead one was started with. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "berthd/pool.h"
#include "ipc/runtime.h"

static int keep(const char *path)
{
    char file[RUNTIME_PATH_MAX];
    int r = runtime_path(RUNTIME_CONFIG, file);
    if (r < 0)
        return r;
    CLEANUP_FD int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    size_t n = strlen(path);
    return fd < 0 ? -errno : write(fd, path, n) == (ssize_t)n ? 0 : -EIO;
}

static char *kept(void)
{
    char file[RUNTIME_PATH_MAX], path[PATH_MAX];
    if (runtime_path(RUNTIME_CONFIG, file) < 0)
        return NULL;
    CLEANUP_FD int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? 0 : read(fd, path, sizeof path - 1);
    return n > 0 ? strndup(path, (size_t)n) : NULL;
}

char *config_place(const char *given, bool by_command)
{
    if (!given && by_command)
        return kept();
    config_place_forget();
    if (!given)
        return NULL;
    char *path = realpath(given, NULL);
    /* What is not there is complained about by whoever reads it. */
    if (!path)
        return strdup(given);
    int r = keep(path);
    if (r < 0)
        log_warn("a successor will not know the configuration err=%s", strerror(-r));
    return path;
}

void config_place_forget(void)
{
    char file[RUNTIME_PATH_MAX];
    if (runtime_path(RUNTIME_CONFIG, file) == 0)
        (void)unlink(file);
}
