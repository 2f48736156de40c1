/* A queue that has ended, because berthd and dispatch are both gone, is asked for again from the
 * next berthd, which knows this worker by its instance. What comes in is what the dead queue was
 * bound to; the new one goes out. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "ipc/fdmsg.h"
#include "upstreamd/upstream.h"
#include "wire/appmsg.h"

/* Connections are passed on meanwhile by nobody: a berthd that lives answers at once. */
#define ANSWER_MS 500

static int control_connect(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct timeval wait = {.tv_usec = ANSWER_MS * 1000};
    const char *path = getenv("BERTH_CONTROL");
    if (!path || strlen(path) >= sizeof un.sun_path)
        return -ENOENT;
    memcpy(un.sun_path, path, strlen(path));
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) < 0 ||
        connect(fd, (struct sockaddr *)&un, sizeof un) < 0)
        return -errno;
    return fd_take(&fd);
}

/* The answer is to be of this type; its queue's number, and the descriptor that it may bring. */
static int ask(int control, const struct appmsg *m, enum appmsg_type wanted, uint32_t *ret_queue,
               int *ret_fd)
{
    uint8_t bytes[4096];
    struct appmsg reply;
    size_t count = 0;
    CLEANUP_FD int fd = -EBADF;
    int n = appmsg_encode(m, bytes, sizeof bytes);
    int r = n < 0 ? n : fdmsg_send(control, bytes, (size_t)n, NULL, 0, 0);
    if (r < 0)
        return r;
    ssize_t got = fdmsg_recv(control, bytes, sizeof bytes, &fd, 1, &count, 0);
    if (got <= 0 || appmsg_decode(&reply, bytes, (size_t)got) < 0)
        return -EPROTO;
    if (reply.type != wanted)
        return -ECONNREFUSED;
    *ret_queue = reply.queue;
    if (ret_fd)
        *ret_fd = fd_take(&fd);
    return 0;
}

int attach_queue(const struct queue_name *was, int *ret_fd)
{
    const char *instance = getenv("BERTH_INSTANCE"), *name = getenv("BERTH_APP");
    bool native = addr_port(&was->addr) == 0;
    uint32_t queue = 0;
    struct appmsg hello = {.type = APPMSG_APP, .name = str_of(name)};
    struct appmsg bind = {.type = APPMSG_BIND, .flags = native ? APPMSG_NATIVE : 0};
    if (!instance || !name || !appmsg_instance_parse(str_of(instance), hello.instance))
        return -ENOENT;
    if (!native) {
        bind.addr = was->addr;
        bind.v6only = was->v6only;
    }
    CLEANUP_FD int control = control_connect();
    CLEANUP_FD int fd = -EBADF;
    int r = control < 0 ? control : ask(control, &hello, APPMSG_OK, &queue, NULL);
    if (r == 0)
        r = ask(control, &bind, APPMSG_BOUND, &queue, &fd);
    if (r == 0 && fd < 0)
        r = -EPROTO;
    struct appmsg listens = {.type = APPMSG_LISTEN, .queue = queue};
    if (r == 0)
        r = ask(control, &listens, APPMSG_OK, &queue, NULL);
    if (r < 0)
        return r;
    *ret_fd = fd_take(&fd);
    return 0;
}
