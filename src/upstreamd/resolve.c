/* A name's addresses. getaddrinfo() blocks and reads files, so it runs in a process of its own that
 * has nothing but one socket: a byte comes in, and a packet with the addresses goes out. It ends
 * with the process that asks. */
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <sys/prctl.h>

#include "upstreamd/target.h"
#include "wire/addrcode.h"

#define ANSWER_MAX 512

static size_t answer_make(const struct addrinfo *found, uint8_t *buf, size_t size)
{
    struct wr w = wr_init(buf, size);
    size_t count = 0;
    wr_u8(&w, 0);
    for (const struct addrinfo *i = found; i && count < TARGET_ADDRS_MAX; i = i->ai_next) {
        struct addr a = addr_from(i->ai_addr, i->ai_addrlen);
        if (a.sa.sa_family == AF_UNSPEC)
            continue;
        addr_encode(&w, &a);
        count++;
    }
    buf[0] = (uint8_t)count;
    return w.used;
}

static _Noreturn void serve(int fd, const char *host, const char *port)
{
    uint8_t buf[ANSWER_MAX];
    char byte;
    while (recv(fd, &byte, 1, 0) == 1) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
        if (getaddrinfo(host, port, &hints, &found) != 0)
            found = NULL;
        size_t n = answer_make(found, buf, sizeof buf);
        if (found)
            freeaddrinfo(found);
        if (send(fd, buf, n, MSG_NOSIGNAL) < 0)
            break;
    }
    _exit(0);
}

/* Nothing of its parent's but this socket and standard error: no queue, and no connection later. */
static _Noreturn void child(int fd, const char *host, const char *port)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)prctl(PR_SET_NAME, "berth-resolve");
    if (dup2(fd, 3) != 3)
        _exit(1);
    (void)close_range(4, ~0U, 0);
    serve(3, host, port);
}

int resolve_start(const char *host, const char *port)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        child(pair[1], host, port);
    (void)fd_close(pair[1]);
    if (pid > 0)
        return pair[0];
    (void)fd_close(pair[0]);
    return -EAGAIN;
}

int resolve_read(int fd, struct addr *ret_addrs, size_t *ret_count)
{
    uint8_t buf[ANSWER_MAX];
    ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n <= 0)
        return n == 0 ? -EPIPE : -errno;
    struct rd r = rd_init(buf, (size_t)n);
    size_t count = rd_u8(&r);
    if (count > TARGET_ADDRS_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < count; i++)
        addr_decode(&r, &ret_addrs[i]);
    if (!rd_ok(&r))
        return -EBADMSG;
    *ret_count = count;
    return 0;
}
