/* A route comes in, and the handle gets the queue of its connections: one that the program was
 * started with, or one that berthd makes; and gives it back. */
#include <stdlib.h>
#include <sys/epoll.h>

#include "internal.h"
#include "ipc/fdmsg.h"

#define ATTACH_FLAGS (BERTH_NOWAIT | BERTH_PROXY | BERTH_NO_START | BERTH_NO_ADOPT)

static int queue_claim(struct berth *b, unsigned flags, int *ret_queue)
{
    CLEANUP_FD int control = claim_connect();
    if (control == -ENOENT || control == -ECONNREFUSED) {
        if (flags & BERTH_NO_START)
            return reason_set(b, -ENOENT, "berthd is not running");
        control = start_connect(b);
        if (control < 0)
            return control;
    }
    if (control < 0)
        return reason_set(b, control, "berthd cannot be reached: %s", strerror(-control));
    return claim_make(b, control, ret_queue);
}

static int queue_get(struct berth *b, const char *route, unsigned flags, int *ret_queue)
{
    int r = flags & BERTH_NO_ADOPT ? -ENOENT : inherit_queue(b, ret_queue);
    if (r == 0)
        return reason_set(b, 0, "%s", "");
    if (r != -ENOENT)
        return reason_set(b, r, "the queue in LISTEN_FDS: %s", strerror(-r));
    if (!route)
        return reason_set(b, r, "no route was given and no queue is in LISTEN_FDS");
    r = identity_make(b, route, flags & BERTH_PROXY);
    if (r < 0)
        return reason_set(b, r, "%s", strerror(-r));
    r = queue_claim(b, flags, ret_queue);
    if (r < 0)
        identity_done(&b->identity);
    return r;
}

int berth_attach(struct berth *b, const char *route, unsigned flags)
{
    struct epoll_event in = {.events = EPOLLIN};
    if (b->attached)
        return reason_set(b, -EISCONN, "the handle is attached already");
    if (flags & ~(unsigned)ATTACH_FLAGS)
        return reason_set(b, -EINVAL, "unknown flags 0x%x", flags & ~(unsigned)ATTACH_FLAGS);
    CLEANUP_FD int queue = -EBADF;
    int r = queue_get(b, route, flags, &queue);
    if (r < 0)
        return r;
    if (epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, queue, &in) < 0) {
        r = -errno;
        identity_done(&b->identity);
        return reason_set(b, r, "the queue cannot be waited for: %s", strerror(-r));
    }
    b->queue_fd = fd_take(&queue);
    b->attached = true;
    b->nowait = flags & BERTH_NOWAIT;
    return 0;
}

/* berthd then looks who still holds the queue, and ends it when nobody does. */
static void queue_say_closed(int queue)
{
    uint8_t buf[16];
    int n = appmsg_encode(&(struct appmsg){.type = APPMSG_CLOSED}, buf, sizeof buf);
    if (n > 0 && fdmsg_send(queue, buf, (size_t)n, NULL, 0, MSG_DONTWAIT) < 0)
        return; /* It has ended, or berthd is busy and finds out by itself. */
}

static void queue_give_back(struct berth *b)
{
    queue_say_closed(b->queue_fd);
    b->queue_fd = fd_close(b->queue_fd);
    b->attached = false;
    identity_done(&b->identity);
}

int berth_detach(struct berth *b)
{
    if (!b->attached)
        return reason_set(b, -ENOTCONN, "the handle is not attached");
    again_done(b);
    (void)epoll_ctl(b->epoll_fd, EPOLL_CTL_DEL, b->queue_fd, NULL);
    queue_give_back(b);
    return 0;
}

void berth_free(struct berth *b)
{
    if (!b)
        return;
    /* The queue stays in the epoll set, which goes with the last process that has it: forked ones
     * share both. */
    if (b->attached)
        queue_give_back(b);
    (void)fd_close(b->inotify_fd);
    (void)fd_close(b->timer_fd);
    (void)fd_close(b->epoll_fd);
    (void)pthread_mutex_destroy(&b->lock);
    free(b);
}
