/* A program that closes a connection at once, on the same CPU as dispatch, which is where the
 * program runs between dispatch's sendmsg() and its close(). */
#include <sched.h>
#include <sys/epoll.h>

#include "ipc/handed.h"
#include "worker-rig.h"

#define ASK         "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
#define CONNECTIONS 4000

/* One socket that was passed: all is read, so that closing it is an end and no reset. */
struct program {
    int epoll_fd;
    int stale;
};

static int stale_events(const struct program *p)
{
    struct epoll_event events[8];
    int n = epoll_wait(p->epoll_fd, events, 8, 0);
    return n < 0 ? 0 : n;
}

static void serve_one(struct program *p, int queue)
{
    struct passed got;
    char request[256];
    CHECK(passed_take(queue, &got));
    handed_wait(queue, got.msg.flags);
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP};
    CHECK_INT(epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, got.fd, &e), 0);
    CHECK_INT(recv(got.fd, request, sizeof request, 0), strlen(ASK));
    (void)fd_close(got.fd);
    p->stale += stale_events(p);
}

TEST("no event comes for a socket that the program has closed, though dispatch shares its CPU")
{
    struct rig r;
    cpu_set_t all, one;
    CHECK_INT(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    CHECK_INT(sched_setaffinity(0, sizeof one, &one), 0);
    rig_open(&r, patient); /* Its thread begins on this CPU, too, and stays. */
    struct queue *q = rig_queue(0, 0);
    rig_publish(&r, true, &(struct served){"http://a.test/", 1, q}, 1);
    struct program p = {.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    int unfinished = 0;
    for (int i = 0; i < CONNECTIONS; i++) {
        char byte;
        int client = client_ask(&r.at, ASK);
        CHECK_INT(shutdown(client, SHUT_WR), 0);
        serve_one(&p, q->read_fd);
        unfinished += recv(client, &byte, 1, MSG_DONTWAIT) != 0;
        (void)fd_close(client);
    }
    CHECK_INT(p.stale, 0);
    CHECK_INT(unfinished, 0);
    CHECK_INT(sched_setaffinity(0, sizeof all, &all), 0);
    (void)fd_close(p.epoll_fd);
    rig_close(&r);
    queue_unref(q);
}
