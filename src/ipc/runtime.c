/* The runtime folder and the Unix sockets in it. */
#include "ipc/runtime.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static int folder(char buf[RUNTIME_PATH_MAX])
{
    const char *own = getenv("BERTH_RUNTIME_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
    int n;
    if (own && *own)
        n = snprintf(buf, RUNTIME_PATH_MAX, "%s", own);
    else if (geteuid() == 0)
        n = snprintf(buf, RUNTIME_PATH_MAX, "/run/berth");
    else if (xdg && *xdg)
        n = snprintf(buf, RUNTIME_PATH_MAX, "%s/berth", xdg);
    else
        n = snprintf(buf, RUNTIME_PATH_MAX, "/tmp/berth-%u", geteuid());
    return n < RUNTIME_PATH_MAX ? n : -ENAMETOOLONG;
}

int runtime_path(const char *file, char buf[RUNTIME_PATH_MAX])
{
    int n = folder(buf);
    if (n < 0)
        return n;
    size_t room = RUNTIME_PATH_MAX - (size_t)n;
    return (size_t)snprintf(buf + n, room, "/%s", file) < room ? 0 : -ENAMETOOLONG;
}

int runtime_make(void)
{
    char path[RUNTIME_PATH_MAX];
    int n = folder(path);
    if (n < 0)
        return n;
    if (mkdir(path, geteuid() == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
        return -errno;
    struct stat st;
    if (lstat(path, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 022)
        return -EPERM;
    return 0;
}

static int address(const char *file, struct sockaddr_un *ret_un)
{
    char path[RUNTIME_PATH_MAX];
    int r = runtime_path(file, path);
    if (r < 0)
        return r;
    *ret_un = (struct sockaddr_un){.sun_family = AF_UNIX};
    (void)snprintf(ret_un->sun_path, sizeof ret_un->sun_path, "%s", path);
    return 0;
}

/* Anybody may have made a folder in /tmp by our name. A folder that was named on purpose may be
 * another user's. */
static bool peer_is_trusted(int fd)
{
    const char *own = getenv("BERTH_RUNTIME_DIR");
    struct ucred cred;
    socklen_t len = sizeof cred;
    if (own && *own)
        return true;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
           (cred.uid == geteuid() || cred.uid == 0);
}

int runtime_connect(const char *file)
{
    struct sockaddr_un un;
    int r = address(file, &un);
    if (r < 0)
        return r;
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof un) < 0)
        return -errno;
    return peer_is_trusted(fd) ? fd_take(&fd) : -EPERM;
}

int runtime_listen(const char *file, unsigned mode)
{
    struct sockaddr_un un;
    int r = address(file, &un);
    if (r < 0)
        return r;
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    /* Bound under another name and moved over: whoever connects finds the old one or the new one.
     */
    struct sockaddr_un made = un;
    size_t len = strlen(made.sun_path);
    if (len + 5 > sizeof made.sun_path)
        return -ENAMETOOLONG;
    memcpy(made.sun_path + len, ".new", 5);
    (void)unlink(made.sun_path);
    if (bind(fd, (struct sockaddr *)&made, sizeof made) < 0 || chmod(made.sun_path, mode) < 0 ||
        listen(fd, 512) < 0 || rename(made.sun_path, un.sun_path) < 0)
        return -errno;
    return fd_take(&fd);
}
