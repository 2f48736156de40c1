/* Replaces files as a whole. A path and a text come in; nothing is kept. */
#include "base/replace.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

static int write_all(int fd, struct str text)
{
    while (text.n > 0) {
        ssize_t n = write(fd, text.p, text.n);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            text = str_skip(text, (size_t)n);
    }
    return 0;
}

static int file_write(const char *path, struct str text, mode_t mode, bool durable)
{
    CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    /* One that a kill has left may have had another mode. */
    if (fd < 0 || fchmod(fd, mode) < 0)
        return -errno;
    int r = write_all(fd, text);
    return r < 0 || !durable || fsync(fd) == 0 ? r : -errno;
}

/* The rename is on the disk only when the folder is. */
static void folder_sync(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash)
        slash[slash == path] = 0;
    CLEANUP_FD int fd = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)fsync(fd);
}

int replace_file(const char *path, struct str text, mode_t mode, bool durable)
{
    char fresh[PATH_MAX];
    if ((size_t)snprintf(fresh, sizeof fresh, "%s.new", path) >= sizeof fresh)
        return -ENAMETOOLONG;
    int r = file_write(fresh, text, mode, durable);
    if (r == 0 && rename(fresh, path) < 0)
        r = -errno;
    if (r < 0)
        (void)unlink(fresh);
    else if (durable)
        folder_sync(fresh);
    return r;
}
