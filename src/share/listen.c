/* Listening sockets of the shared port. They are blocking for nobody and remain in berthd's and
 * dispatch's hands; programs never see them. */
#include "share/listen.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <sys/stat.h>

static int open_one(const struct addr *bound, bool reuse_port, int *ret_fd)
{
    int on = 1;
    CLEANUP_FD int fd = socket(bound->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (bound->sa.sa_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bound->sa.sa_family != AF_UNIX) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0)
            return -errno;
    }
    if (bind(fd, &bound->sa, bound->len) < 0)
        return -errno;
    *ret_fd = fd_take(&fd);
    return 0;
}

/* A socket file that nobody listens at any more is in the way of its own successor. */
static int unix_clear(const struct addr *bound)
{
    struct stat st;
    if (lstat(bound->un.sun_path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return -EADDRINUSE;
    /* Not blocking: a listener whose backlog is full would have us wait for it. */
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, &bound->sa, bound->len) == 0 || errno != ECONNREFUSED)
        return -EADDRINUSE;
    return unlink(bound->un.sun_path) < 0 ? -errno : 0;
}

/* SO_REUSEADDR alone lets two sockets be bound as long as neither listens: so it has to listen. */
static int probe(const struct addr *bound)
{
    CLEANUP_FD int fd = -EBADF;
    int r = open_one(bound, false, &fd);
    return r < 0 ? r : listen(fd, 1) < 0 ? -errno : 0;
}

int listen_open(const struct addr *bound, bool alone, int *ret_fds, size_t count)
{
    bool is_unix = bound->sa.sa_family == AF_UNIX;
    int r = is_unix ? unix_clear(bound) : alone ? probe(bound) : 0;
    for (size_t i = 0; i < count; i++)
        ret_fds[i] = -EBADF;
    if (r == 0)
        r = open_one(bound, true, &ret_fds[0]);
    for (size_t i = 1; i < count && r == 0; i++) {
        if (!is_unix)
            r = open_one(bound, true, &ret_fds[i]);
        else if ((ret_fds[i] = fcntl(ret_fds[0], F_DUPFD_CLOEXEC, 3)) < 0)
            r = -errno;
    }
    for (size_t i = 0; i < count && r < 0; i++)
        ret_fds[i] = fd_close(ret_fds[i]);
    return r;
}

/* The kernel chooses among the first `count` sockets only: those of a program of the same user that
 * set SO_REUSEPORT and joined later get nothing. It chooses by the CPU that the handshake came in
 * on, so that a connection stays there and wakes nobody on another. */
static void group_close(int fd, size_t count)
{
    struct sock_filter code[] = {
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, (uint32_t)(SKF_AD_OFF + SKF_AD_CPU)},
        {BPF_ALU | BPF_MOD | BPF_K, 0, 0, (uint32_t)count},
        {BPF_RET | BPF_A, 0, 0, 0},
    };
    struct sock_fprog prog = {sizeof code / sizeof *code, code};
    (void)setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &prog, sizeof prog);
}

int listen_start(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (listen(fds[i], SOMAXCONN) < 0)
            return -errno;
    group_close(fds[0], count);
    return 0;
}
