/* The socket that programs notify. Datagrams come in with the number of who sent them; what they
 * say goes out. */
#include "launch/notify.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* As systemd takes them. */
#define DATAGRAM_MAX 4096
/* SCM_MAX_FD of the kernel: no datagram brings more. */
#define FDS_MAX 253

/* Made beside the old one and moved over it: whoever sends finds the one or the other. */
int notify_open(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int on = 1;
    int n = snprintf(un.sun_path, sizeof un.sun_path, "%s.new", path);
    if ((size_t)n >= sizeof un.sun_path)
        return -ENAMETOOLONG;
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0)
        return -errno;
    (void)unlink(un.sun_path);
    /* Workers of any user write to it; who it was the kernel says. */
    if (bind(fd, (struct sockaddr *)&un, sizeof un) < 0 || chmod(un.sun_path, 0666) < 0 ||
        rename(un.sun_path, path) < 0)
        return -errno;
    return fd_take(&fd);
}

static void fds_close(const struct cmsghdr *c)
{
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
        int fd;
        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        (void)fd_close(fd);
    }
}

/* Closes what came along, and finds the sender. */
static bool sender_find(struct msghdr *m, struct ucred *ret_cred)
{
    bool found = false;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_RIGHTS)
            fds_close(c);
        if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len == CMSG_LEN(sizeof *ret_cred)) {
            memcpy(ret_cred, CMSG_DATA(c), sizeof *ret_cred);
            found = true;
        }
    }
    return found;
}

int notify_read(int fd, struct notify *ret_notify)
{
    char text[DATAGRAM_MAX];
    union {
        char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(FDS_MAX * sizeof(int))];
        struct cmsghdr aligned;
    } control;
    struct iovec iov = {text, sizeof text};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.room,
                       .msg_controllen = sizeof control.room};
    struct ucred cred;
    ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    /* A sender from another world of process numbers is 0 here. */
    if (!sender_find(&m, &cred) || cred.pid <= 0 || m.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        return -EBADMSG;
    notify_parse(text, (size_t)n, ret_notify);
    ret_notify->pid = cred.pid;
    ret_notify->uid = cred.uid;
    return 0;
}
