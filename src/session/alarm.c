/* A timerfd that rings once. The alarm owns its descriptor; the loop watches it. */
#include "session/alarm.h"

#include <sys/timerfd.h>

#include "base/list.h"

#define SECOND_NS 1000000000ull

static void on_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct alarm *a = container_of(w, struct alarm, watch);
    uint64_t times;
    if (read(a->fd, &times, sizeof times) != sizeof times)
        return; /* set anew since the loop saw it */
    a->at_ns = UINT64_MAX;
    a->ring(a);
}

int alarm_init(struct alarm *a, struct loop *l, void (*ring)(struct alarm *a))
{
    *a = (struct alarm){.loop = l, .at_ns = UINT64_MAX, .ring = ring};
    a->watch = (struct watch){.fd = -EBADF, .ready = on_ready};
    a->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (a->fd < 0)
        return -errno;
    int r = loop_watch(l, &a->watch, a->fd, EPOLLIN);
    if (r < 0)
        a->fd = fd_close(a->fd);
    return r;
}

void alarm_done(struct alarm *a)
{
    if (a->fd >= 0 && a->loop)
        loop_unwatch(a->loop, &a->watch);
    a->fd = fd_close(a->fd);
}

void alarm_set(struct alarm *a, uint64_t at_ns)
{
    /* Later than before: it rings too early, and is set anew then. Most deadlines only move away,
     * and a system call for each move would cost more than all else. */
    if (at_ns >= a->at_ns)
        return;
    a->at_ns = at_ns;
    struct itimerspec spec = {0};
    spec.it_value.tv_sec = (time_t)(at_ns / SECOND_NS);
    /* All zero would disarm it. */
    spec.it_value.tv_nsec = (long)(at_ns % SECOND_NS) + (at_ns == 0);
    (void)timerfd_settime(a->fd, TFD_TIMER_ABSTIME, &spec, NULL);
}
