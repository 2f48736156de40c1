/* How many may wait untaken for one member of a pool. */
#include "share/window.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "test.h"

#define MESSAGE "A message as long as one that carries a socket to a program"

struct rig {
    struct window window;
    int write_fd, read_fd;
};

static void rig_open(struct rig *r)
{
    int pair[2];
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    *r = (struct rig){.write_fd = pair[0], .read_fd = pair[1]};
    window_init(&r->window);
    (void)window_tick(&r->window, r->write_fd, 1000);
}

static void rig_done(struct rig *r)
{
    r->write_fd = fd_close(r->write_fd);
    r->read_fd = fd_close(r->read_fd);
}

static void put(struct rig *r, int n)
{
    for (int i = 0; i < n; i++) {
        CHECK(send(r->write_fd, MESSAGE, sizeof MESSAGE, MSG_DONTWAIT) > 0);
        window_sent(&r->window);
    }
}

static void take(struct rig *r, int n)
{
    char buf[sizeof MESSAGE];
    for (int i = 0; i < n; i++)
        CHECK(recv(r->read_fd, buf, sizeof buf, 0) > 0);
}

/* How many more it takes until it is full. */
static int room(struct rig *r)
{
    int n = 0;
    for (; !window_is_full(&r->window, r->write_fd); n++)
        put(r, 1);
    take(r, n);
    return n;
}

TEST("of who has shown no pace one may wait while others are quick, and some while none is")
{
    struct rig r;
    rig_open(&r);
    CHECK_INT(room(&r), 16);
    window_adapt(&r.window, 1000);
    CHECK_INT(room(&r), 1);
    put(&r, 1);
    CHECK(window_is_full(&r.window, r.write_fd));
    take(&r, 1);
    CHECK(!window_is_full(&r.window, r.write_fd));
    rig_done(&r);
}

TEST("a window is what its program takes in a while, and narrow when another is much quicker")
{
    struct rig r;
    rig_open(&r);
    put(&r, 20);
    take(&r, 20);
    CHECK_INT(window_tick(&r.window, r.write_fd, 1020), 1000);
    window_adapt(&r.window, 1000);
    int level = room(&r);
    CHECK(level > 10);
    window_adapt(&r.window, 10000);
    int behind = room(&r);
    CHECK(behind > 1 && behind < level / 2);
    rig_done(&r);
}

TEST("who takes nothing while others do may have one, and what it has not taken is no pace")
{
    struct rig r;
    rig_open(&r);
    put(&r, 8);
    CHECK_INT(window_tick(&r.window, r.write_fd, 1020), 0);
    window_adapt(&r.window, 1000);
    take(&r, 8);
    CHECK_INT(room(&r), 1);
    rig_done(&r);
}

TEST("who was full and still became idle may have more")
{
    struct rig r;
    rig_open(&r);
    window_adapt(&r.window, 1000);
    window_idle(&r.window);
    CHECK_INT(room(&r), 1);
    window_idle(&r.window);
    window_idle(&r.window);
    CHECK_INT(room(&r), 2);
    rig_done(&r);
}

static void *take_all(void *arg)
{
    struct rig *r = arg;
    char buf[sizeof MESSAGE];
    while (recv(r->read_fd, buf, sizeof buf, 0) > 0)
        ;
    return NULL;
}

/* The kernel says so while it still charges a part of the message that is being taken. */
TEST("when a full member is said to have room again it has")
{
    enum { ROUNDS = 5000, DEADLINE_MS = 10000 };
    struct rig r;
    pthread_t taker;
    rig_open(&r);
    window_adapt(&r.window, 1000);
    CLEANUP_FD int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLOUT | EPOLLET};
    CHECK_INT(epoll_ctl(set, EPOLL_CTL_ADD, r.write_fd, &e), 0);
    CHECK_INT(epoll_wait(set, &e, 1, DEADLINE_MS), 1);
    CHECK_INT(pthread_create(&taker, NULL, take_all, &r), 0);
    for (int i = 0; i < ROUNDS; i++) {
        put(&r, 1);
        CHECK_INT(epoll_wait(set, &e, 1, DEADLINE_MS), 1);
        CHECK(!window_is_full(&r.window, r.write_fd));
    }
    (void)shutdown(r.write_fd, SHUT_WR);
    (void)pthread_join(taker, NULL);
    rig_done(&r);
}
