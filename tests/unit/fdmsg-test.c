#include "ipc/fdmsg.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "test.h"

static int pair[2];

static void open_pair(void)
{
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static void close_pair(void)
{
    (void)close(pair[0]);
    (void)close(pair[1]);
}

TEST("a packet arrives with its descriptors, which are born CLOEXEC")
{
    open_pair();
    int fds[2] = {0, 1}, got[4];
    size_t count = 0;
    char buf[16];
    CHECK_INT(fdmsg_send(pair[0], "hello", 5, fds, 2, 0), 0);
    CHECK_INT(fdmsg_recv(pair[1], buf, sizeof buf, got, 4, &count, 0), 5);
    CHECK_INT(count, 2);
    for (size_t i = 0; i < count; i++) {
        CHECK_INT(fcntl(got[i], F_GETFD), FD_CLOEXEC);
        (void)close(got[i]);
    }
    close_pair();
}

TEST("more descriptors than asked for are closed and the packet is refused")
{
    open_pair();
    int fds[3] = {0, 1, 2}, got[1] = {-1};
    size_t count = 0;
    char buf[16];
    CHECK_INT(fdmsg_send(pair[0], "x", 1, fds, 3, 0), 0);
    int before = dup(0);
    CHECK_INT(fdmsg_recv(pair[1], buf, sizeof buf, got, 1, &count, 0), -EBADMSG);
    int after = dup(0);
    CHECK_INT(after, before + 1);
    (void)close(before);
    (void)close(after);
    close_pair();
}

TEST("a packet larger than the buffer is refused, not cut")
{
    open_pair();
    int got[1];
    size_t count = 0;
    char buf[4];
    CHECK_INT(fdmsg_send(pair[0], "hello", 5, NULL, 0, 0), 0);
    CHECK_INT(fdmsg_recv(pair[1], buf, sizeof buf, got, 1, &count, 0), -EBADMSG);
    close_pair();
}

TEST("an empty socket says EAGAIN and a closed one says zero")
{
    open_pair();
    int got[1];
    size_t count = 0;
    char buf[4];
    CHECK_INT(fdmsg_recv(pair[1], buf, sizeof buf, got, 1, &count, MSG_DONTWAIT), -EAGAIN);
    (void)close(pair[0]);
    CHECK_INT(fdmsg_recv(pair[1], buf, sizeof buf, got, 1, &count, 0), 0);
    (void)close(pair[1]);
}
