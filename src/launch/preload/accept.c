/* accept and accept4: take the next connection out of the queue. Blocking, O_NONBLOCK, EINTR and
 * SO_RCVTIMEO are the queue's own, as it is a socket. */
#include <fcntl.h>
#include <stdatomic.h>
#include <time.h>

#include "ipc/handed.h"
#include "launch/preload/shim.h"

/* Set while the descriptor table was found full: a connection that is taken then is lost. */
static atomic_bool table_full;

static void say_lost(void)
{
    static atomic_long last_s;
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    if (atomic_exchange(&last_s, (long)now.tv_sec) != (long)now.tv_sec)
        say("no descriptor was left to accept with: a connection was lost (see ulimit -n)");
}

static bool room_is_left(int fd)
{
    int probe = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    (void)fd_close(probe);
    atomic_store(&table_full, probe < 0);
    return probe >= 0;
}

/* The next connection and the message about it. -EPIPE: the queue has ended; -EAGAIN: it is empty;
 * -ENOMSG: that was no connection, try again. */
static int conn_take(int fd, int flags, struct appmsg *ret_msg)
{
    uint8_t bytes[APPMSG_CONN_MAX];
    int conn = -EBADF;
    if (atomic_load_explicit(&table_full, memory_order_relaxed) && !room_is_left(fd))
        return -EMFILE;
    ssize_t n =
        packet_receive(fd, bytes, sizeof bytes, flags & SOCK_CLOEXEC ? MSG_CMSG_CLOEXEC : 0, &conn);
    if (n == -EMFILE) {
        atomic_store(&table_full, true);
        say_lost();
    }
    /* berthd went with an OPTION unread: what is still in the queue comes next, then its end. */
    if (n == -ECONNRESET || n == -EBADMSG)
        return -ENOMSG;
    if (n <= 0)
        return n < 0 ? (int)n : -EPIPE;
    if (conn < 0 || appmsg_decode(ret_msg, bytes, (size_t)n) < 0 || ret_msg->type != APPMSG_CONN) {
        (void)fd_close(conn);
        return -ENOMSG;
    }
    handed_wait(fd, ret_msg->flags);
    return conn;
}

/* What a listening socket of this family would have shown: an AF_INET6 one sees IPv4 clients as
 * mapped addresses, and none sees a Unix client, which stands for this machine. */
static struct addr peer_of(const struct addr *from, bool v6)
{
    struct addr peer = addr_unmap(from);
    if (peer.sa.sa_family == AF_UNIX || peer.len == 0)
        peer = v6 ? addr_make(AF_INET6, &in6addr_loopback, 0)
                  : addr_make(AF_INET, &(struct in_addr){htonl(INADDR_LOOPBACK)}, 0);
    if (!v6 || peer.sa.sa_family == AF_INET6)
        return peer;
    uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};
    memcpy(mapped + 12, &peer.v4.sin_addr, 4);
    return addr_make(AF_INET6, mapped, addr_port(&peer));
}

static void peer_write(const struct addr *peer, struct sockaddr *sa, socklen_t *len)
{
    if (!sa || !len)
        return;
    memcpy(sa, &peer->sa, *len < peer->len ? *len : peer->len);
    *len = peer->len;
}

/* The hint was wrong: the descriptor is another socket by now. */
static bool is_other(int fd, int err)
{
    struct queue_name name;
    return err != -EAGAIN && err != -EINTR && err != -EMFILE && !queue_find(fd, &name);
}

static int conn_wait(int fd, int flags, struct appmsg *ret_msg)
{
    for (;;) {
        uint8_t hint = hint_get(fd);
        if (hint & HINT_SHUT)
            return -EINVAL;
        if (hint & HINT_WATCH) {
            int err = reattach_wait(fd);
            if (err < 0)
                return err;
            continue;
        }
        int conn = conn_take(fd, flags, ret_msg);
        if (conn == -EPIPE) {
            int err = reattach(fd, queue_is_listening(fd));
            conn = err < 0 ? err : -ENOMSG;
        }
        if (conn != -ENOMSG)
            return conn;
    }
}

static int queue_accept(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
    if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) {
        errno = EINVAL;
        return -1;
    }
    int saved = errno;
    bool v6 = hint_get(fd) & HINT_V6;
    struct appmsg m;
    int conn = conn_wait(fd, flags, &m);
    if (conn < 0 && is_other(fd, conn)) {
        errno = saved;
        return real()->accept4(fd, sa, len, flags);
    }
    errno = conn < 0 ? -conn : saved;
    if (conn < 0)
        return -1;
    if (flags & SOCK_NONBLOCK) /* It comes blocking, and nothing else is ever set on it. */
        (void)fcntl(conn, F_SETFL, O_RDWR | O_NONBLOCK);
    struct addr peer = peer_of(&m.addr, v6);
    peer_write(&peer, sa, len);
    return conn;
}

EXPORT int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
    if (hint_get(fd))
        return queue_accept(fd, sa, len, flags);
    int r = real()->accept4(fd, sa, len, flags);
    struct queue_name name;
    if (r >= 0 || errno != EINVAL || !env_get() || !queue_find(fd, &name))
        return r;
    return queue_accept(fd, sa, len, flags);
}

EXPORT int accept(int fd, struct sockaddr *sa, socklen_t *len)
{
    return accept4(fd, sa, len, 0);
}
