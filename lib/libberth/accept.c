/* A message of the queue comes in; its socket goes out, with what the message says of it. */
#include <fcntl.h>
#include <poll.h>

#include "internal.h"
#include "ipc/fdmsg.h"
#include "ipc/handed.h"
#include "wire/sniffed.h"

/* The first version of the struct had these members. */
#define CONN_SIZE_MIN (offsetof(struct berth_conn, path) + BERTH_PATH_SIZE)

static const char *const protocols[] = {
    [PROTO_NONE] = "",     [PROTO_HTTP] = "http",         [PROTO_H2] = "h2",
    [PROTO_TLS] = "tls",   [PROTO_SSH] = "ssh",           [PROTO_SOCKS] = "socks",
    [PROTO_RDP] = "rdp",   [PROTO_POSTGRES] = "postgres", [PROTO_REDIS] = "redis",
    [PROTO_MQTT] = "mqtt", [PROTO_XMPP] = "xmpp",
};
_Static_assert(sizeof protocols / sizeof *protocols == PROTO_COUNT, "each protocol has its word");

/* Texts that do not fit are left out whole: half a path is another path. */
static void text_copy(char *buf, size_t size, struct str text)
{
    bool fits = text.n < size && !(text.n > 0 && memchr(text.p, 0, text.n));
    if (fits && text.n > 0)
        memcpy(buf, text.p, text.n);
    buf[fits ? text.n : 0] = 0;
}

static socklen_t address_copy(struct sockaddr_storage *storage, const struct addr *a)
{
    if (a->len > 0)
        memcpy(storage, &a->sa, a->len);
    return a->len;
}

static void conn_fill(struct berth_conn *conn, const struct appmsg *m)
{
    struct berth_conn full = {.size = conn->size};
    full.peer_len = address_copy(&full.peer, &m->addr);
    full.local_len = address_copy(&full.local, &m->local);
    if (m->proto < PROTO_COUNT)
        text_copy(full.protocol, sizeof full.protocol, str_of(protocols[m->proto]));
    text_copy(full.host, sizeof full.host, m->host);
    text_copy(full.path, sizeof full.path, m->path);
    memcpy(conn, &full, conn->size < sizeof full ? conn->size : sizeof full);
}

/* A message whose descriptor finds no room is lost with it: so see first that there is room. */
static int room_check(int fd)
{
    int probe = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (probe < 0)
        return -errno;
    (void)fd_close(probe);
    return 0;
}

static bool is_stream_socket(int fd)
{
    int type = 0;
    socklen_t len = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

static int nonblock_set(int fd)
{
    int status = fcntl(fd, F_GETFL);
    return status < 0 || fcntl(fd, F_SETFL, status | O_NONBLOCK) < 0 ? -errno : 0;
}

/* The socket, -EAGAIN, or -ESHUTDOWN when the queue has ended. */
static int take(struct berth *b, struct berth_conn *conn, unsigned flags)
{
    uint8_t buf[APPMSG_CONN_MAX];
    struct appmsg m;
    CLEANUP_FD int fd = -EBADF;
    size_t count = 0;
    int r = room_check(b->queue_fd);
    if (r < 0)
        return r;
    ssize_t n = fdmsg_recv(b->queue_fd, buf, sizeof buf, &fd, 1, &count, MSG_DONTWAIT);
    if (n == 0 || n == -ECONNRESET)
        return -ESHUTDOWN;
    if (n < 0)
        return n == -EBADMSG ? -EPROTO : (int)n;
    if (appmsg_decode(&m, buf, (size_t)n) < 0 || m.type != APPMSG_CONN || !is_stream_socket(fd))
        return -EPROTO;
    handed_wait(b->queue_fd, m.flags);
    r = flags & BERTH_NONBLOCK ? nonblock_set(fd) : 0;
    if (r < 0)
        return r;
    if (conn)
        conn_fill(conn, &m);
    return fd_take(&fd);
}

int berth_accept(struct berth *b, struct berth_conn *conn, unsigned flags)
{
    if (flags & ~(unsigned)BERTH_NONBLOCK || (conn && conn->size < CONN_SIZE_MIN))
        return -EINVAL;
    if (!b->attached)
        return -ENOTCONN;
    for (;;) {
        unsigned generation = atomic_load(&b->generation);
        int r = take(b, conn, flags);
        if (r == -ESHUTDOWN) {
            r = again_attach(b, generation);
            if (r == 0)
                continue;
        }
        if (r != -EAGAIN || b->nowait)
            return r;
        struct pollfd p = {.fd = b->epoll_fd, .events = POLLIN};
        if (poll(&p, 1, -1) < 0)
            return -errno;
    }
}
