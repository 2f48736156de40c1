/* The queue has ended: berthd and dispatch are gone. In its place the epoll set watches berthd's
 * folder, and a clock for what that misses; each time one of them wakes the program and it calls
 * berth_accept(), the routes are claimed again. The new queue gets the number of the old one. */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>

#include "internal.h"
#include "ipc/runtime.h"

static void set_add(struct berth *b, int fd)
{
    struct epoll_event in = {.events = EPOLLIN};
    /* A forked process shares the set: it may have added the same file by the same number. */
    if (fd >= 0 && epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, fd, &in) < 0 && errno != EEXIST)
        (void)reason_set(b, 0, "cannot be waited for: %s", strerror(errno));
}

static int set_leave(struct berth *b, int fd)
{
    if (fd >= 0)
        (void)epoll_ctl(b->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    return fd_close(fd);
}

static void waiters_open(struct berth *b)
{
    char folder[RUNTIME_PATH_MAX];
    struct itimerspec second = {.it_interval.tv_sec = 1, .it_value.tv_sec = 1};
    b->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (b->inotify_fd >= 0 && runtime_path(".", folder) == 0 &&
        inotify_add_watch(b->inotify_fd, folder, IN_CREATE | IN_MOVED_TO) < 0)
        b->inotify_fd = fd_close(b->inotify_fd);
    b->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (b->timer_fd >= 0)
        (void)timerfd_settime(b->timer_fd, 0, &second, NULL);
    set_add(b, b->inotify_fd);
    set_add(b, b->timer_fd);
}

void again_done(struct berth *b)
{
    b->inotify_fd = set_leave(b, b->inotify_fd);
    b->timer_fd = set_leave(b, b->timer_fd);
    b->lost = false;
}

static bool drain(int fd)
{
    /* inotify wants room for one event with its name. */
    char buf[sizeof(struct inotify_event) + 256] __attribute__((aligned(8)));
    bool any = false;
    while (fd >= 0 && read(fd, buf, sizeof buf) > 0)
        any = true;
    return any;
}

/* Whether something has happened since the last try; the first time, that the queue has ended. */
static bool is_time(struct berth *b)
{
    if (b->lost) {
        bool folder = drain(b->inotify_fd), clock = drain(b->timer_fd);
        return folder || clock;
    }
    /* A dead queue is readable for ever. It must leave by the file that was added. */
    (void)epoll_ctl(b->epoll_fd, EPOLL_CTL_DEL, b->queue_fd, NULL);
    b->lost = true;
    /* They come before the first try: berthd may start between the two. */
    waiters_open(b);
    return true;
}

static bool is_berthd_away(int err)
{
    static const int away[] = {ECONNRESET, ETIMEDOUT, EPIPE, EPROTO};
    for (size_t i = 0; i < sizeof away / sizeof *away; i++)
        if (err == -away[i])
            return true;
    return false;
}

static int claim_again(struct berth *b)
{
    CLEANUP_FD int control = claim_connect();
    CLEANUP_FD int queue = -EBADF;
    if (control < 0)
        return -EAGAIN;
    int r = claim_make(b, control, &queue);
    if (r < 0)
        return is_berthd_away(r) ? -EAGAIN : r;
    if (dup3(queue, b->queue_fd, O_CLOEXEC) < 0)
        return -errno;
    again_done(b);
    set_add(b, b->queue_fd);
    (void)atomic_fetch_add(&b->generation, 1);
    return 0;
}

int again_attach(struct berth *b, unsigned generation)
{
    int r = 0;
    (void)pthread_mutex_lock(&b->lock);
    /* Otherwise another thread was faster. */
    if (generation == atomic_load(&b->generation)) {
        if (!b->identity.routes)
            r = -EPIPE;
        else
            r = is_time(b) ? claim_again(b) : -EAGAIN;
    }
    (void)pthread_mutex_unlock(&b->lock);
    return r;
}
