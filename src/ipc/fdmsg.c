/* sendmsg() and recvmsg() with SCM_RIGHTS. A full descriptor table delivers the data without the
 * descriptor and says so only by MSG_CTRUNC; padding lets one descriptor more into the buffer than
 * it was sized for: so they are counted by cmsg_len and the surplus is closed. */
#include "ipc/fdmsg.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int) * FDMSG_FDS_MAX)];
};

int fdmsg_send(int sock, const void *buf, size_t n, const int *fds, size_t fd_count, int flags)
{
    assert(fd_count <= FDMSG_FDS_MAX);
    union control control = {0};
    struct iovec iov = {(void *)buf, n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd_count > 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    ssize_t sent;
    do
        sent = sendmsg(sock, &m, flags | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* Moves the descriptors of one control message out; those beyond fd_max are closed. */
static bool fds_take(struct cmsghdr *c, int *fds, size_t fd_max, size_t *count)
{
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    bool fits = true;
    for (size_t i = 0; i < n; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        if (*count < fd_max) {
            fds[(*count)++] = fd;
        } else {
            (void)fd_close(fd);
            fits = false;
        }
    }
    return fits;
}

ssize_t fdmsg_recv(int sock, void *buf, size_t size, int *ret_fds, size_t fd_max,
                   size_t *ret_fd_count, int flags)
{
    union control control;
    struct iovec iov = {buf, size};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do
        n = recvmsg(sock, &m, flags | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    size_t count = 0;
    bool fits = true;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            fits &= fds_take(c, ret_fds, fd_max, &count);
    if (!fits || m.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) {
        while (count > 0)
            (void)fd_close(ret_fds[--count]);
        return -EBADMSG;
    }
    *ret_fd_count = count;
    return n;
}
