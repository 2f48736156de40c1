/* Makes and opens the FIFO of a worker's output. A folder and a name come in; two descriptors go
 * out, which the caller owns. */
#include "launch/output.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

/* Room for what a program says while nobody reads. */
#define OUTPUT_ROOM (256 << 10)

/* Somebody who may write to the folder must not make us read from, or write to, a file of theirs.
 */
static bool is_ours(int fd, uid_t owner)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode) && (st.st_mode & 077) == 0 &&
           (st.st_uid == owner || st.st_uid == geteuid()) && st.st_nlink == 1;
}

/* The same FIFO, and not what has its name by now. */
static int write_end(int read_fd)
{
    char path[32];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", read_fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int output_open(const char *folder, const char *name, uid_t owner, struct output *ret_output)
{
    CLEANUP_FD int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -errno;
    if (mkfifoat(dir, name, 0600) < 0 && errno != EEXIST)
        return -errno;
    CLEANUP_FD int from = openat(dir, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0)
        return errno == ELOOP ? -EPERM : -errno;
    if (!is_ours(from, owner))
        return -EPERM;
    CLEANUP_FD int to = write_end(from);
    if (to < 0)
        return to;
    if (owner != geteuid() && fchown(from, owner, (gid_t)-1) < 0)
        return -errno;
    (void)fcntl(from, F_SETPIPE_SZ, OUTPUT_ROOM);
    *ret_output = (struct output){fd_take(&from), fd_take(&to)};
    return 0;
}

void output_close(struct output *o)
{
    o->read_fd = fd_close(o->read_fd);
    o->write_fd = fd_close(o->write_fd);
}

int output_remove(const char *folder, const char *name)
{
    CLEANUP_FD int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir < 0 || unlinkat(dir, name, 0) < 0 ? -errno : 0;
}
