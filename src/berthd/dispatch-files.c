/* Files that dispatch cannot open itself: sockets to ask the kernel what connections have become,
 * and where the lines of its logs go. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <linux/netlink.h>

#include "base/log.h"
#include "berthd/pool.h"

/* A log that is a pipe must not hold up connections. */
static int log_open(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
    struct stat st;
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode)))
        return fd;
    (void)fd_close(fd);
    return -EINVAL;
}

static void log_tell(struct server *s, enum dispatch_log kind, const char *path)
{
    CLEANUP_FD int fd = path ? log_open(path) : -EBADF;
    if (path && fd < 0)
        log_warn("log not written path=%s err=%s", path, strerror(-fd));
    struct dispatchmsg m = {.type = DISPATCH_LOG, .id = kind};
    dispatch_tell(s, &m, &fd, fd >= 0);
}

void dispatch_logs(struct server *s)
{
    const struct conf_global *g = &s->definition->conf->global;
    log_tell(s, DISPATCH_LOG_ACCESS, g->access_log);
    log_tell(s, DISPATCH_LOG_REFUSAL, g->refusal_log);
}

void dispatch_diag(struct server *s)
{
    int fds[DISPATCH_THREADS];
    size_t count = 0;
    while (count < s->threads) {
        int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
        if (fd < 0)
            break;
        fds[count++] = fd;
    }
    if (count > 0)
        dispatch_tell(s, &(struct dispatchmsg){.type = DISPATCH_DIAG}, fds, count);
    else
        log_warn("dispatch cannot count connections err=%s", strerror(errno));
    while (count > 0)
        (void)fd_close(fds[--count]);
}
