/* Talks to berthd over its control socket: a short connection for each matter, so that the program
 * holds no descriptor that it did not open. Also receives packets that carry a descriptor. */
#include <sys/time.h>

#include "launch/preload/shim.h"

/* A berthd that is stopped must not stop the program: it then binds by itself. */
#define CONTROL_TIMEOUT_S 10

/* Takes the first descriptor of the message and closes any other. The buffer's padding has room for
 * more than were asked for, so they are counted by cmsg_len. */
static int rights_take(struct msghdr *h)
{
    int taken = -EBADF;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (taken < 0)
                taken = fd;
            else
                (void)fd_close(fd);
        }
    }
    return taken;
}

ssize_t packet_receive(int fd, void *buf, size_t size, int flags, int *ret_fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(4 * sizeof(int))];
    } control;
    struct iovec iov = {buf, size};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &h, flags);
    if (n < 0)
        return -errno;
    int taken = rights_take(&h);
    if (taken < 0 && h.msg_flags & MSG_CTRUNC)
        return -EMFILE;
    if (h.msg_flags & MSG_TRUNC) {
        (void)fd_close(taken);
        return -EBADMSG;
    }
    *ret_fd = taken;
    return n;
}

static int ask_bytes(int control, const void *bytes, size_t size, struct control_reply *ret_reply)
{
    ssize_t n;
    do
        n = send(control, bytes, size, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    struct control_reply *r = ret_reply;
    do
        n = packet_receive(control, r->bytes, sizeof r->bytes, MSG_CMSG_CLOEXEC, &r->fd);
    while (n == -EINTR);
    if (n <= 0)
        return n < 0 ? (int)n : -ECONNRESET;
    int err = appmsg_decode(&r->msg, r->bytes, (size_t)n);
    if (err < 0)
        r->fd = fd_close(r->fd);
    return err;
}

int control_ask(int control, const struct appmsg *m, struct control_reply *ret_reply)
{
    uint8_t bytes[256];
    int n = appmsg_encode(m, bytes, sizeof bytes);
    return n < 0 ? n : ask_bytes(control, bytes, (size_t)n, ret_reply);
}

/* A folder in /tmp whose berthd is gone may have become anybody's. The application's secret is for
 * its own user's berthd, or for root's. */
static bool peer_is_trusted(const struct env *env, int fd)
{
    struct ucred cred;
    socklen_t len = sizeof cred;
    return env->chosen || (real()->getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
                           (cred.uid == env->user || cred.uid == 0));
}

int control_open(void)
{
    const struct env *env = env_get();
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct timeval timeout = {.tv_sec = CONTROL_TIMEOUT_S};
    (void)real()->setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    (void)real()->setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
    if (real()->connect(fd, (const struct sockaddr *)&env->control, sizeof env->control) < 0)
        return -errno;
    if (!peer_is_trusted(env, fd))
        return -EPERM;
    struct control_reply reply;
    int err = ask_bytes(fd, env->hello, env->hello_size, &reply);
    if (err < 0)
        return err;
    (void)fd_close(reply.fd);
    if (reply.msg.type == APPMSG_ERROR)
        say_text(reply.msg.text);
    return reply.msg.type == APPMSG_OK ? fd_take(&fd) : -EPROTO;
}

int control_ask_once(const struct appmsg *m, struct control_reply *ret_reply)
{
    CLEANUP_FD int control = control_open();
    if (control < 0)
        return control;
    int err = control_ask(control, m, ret_reply);
    if (err == 0)
        ret_reply->fd = fd_close(ret_reply->fd);
    return err;
}
