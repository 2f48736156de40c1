/* epoll, and timers in a sorted list. Events of one wait are handed out one by one; a watch that
 * goes away in the meantime is struck from those still to come. */
#include "loop/loop.h"

#include <limits.h>

#include "base/clock.h"

int loop_init(struct loop *l)
{
    *l = (struct loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    list_init(&l->timers);
    return l->epoll_fd < 0 ? -errno : 0;
}

void loop_done(struct loop *l)
{
    l->epoll_fd = fd_close(l->epoll_fd);
}

int loop_watch(struct loop *l, struct watch *w, int fd, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = w};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0)
        return -errno;
    w->fd = fd;
    return 0;
}

void loop_unwatch(struct loop *l, struct watch *w)
{
    if (w->fd < 0)
        return;
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
    loop_forget(l, w);
}

void loop_forget(struct loop *l, struct watch *w)
{
    w->fd = -EBADF;
    for (int i = l->event_at; i < l->event_count; i++)
        if (l->events[i].data.ptr == w)
            l->events[i].data.ptr = NULL;
}

void loop_timer(struct loop *l, struct timer *t, uint64_t after_ms)
{
    loop_untimer(t);
    t->at_ms = clock_now_ms() + after_ms;
    /* From the end: mostly a new one is the latest. */
    struct list *after = l->timers.prev;
    while (after != &l->timers && container_of(after, struct timer, link)->at_ms > t->at_ms)
        after = after->prev;
    list_append(after->next, &t->link);
}

void loop_untimer(struct timer *t)
{
    if (t->at_ms == 0)
        return;
    t->at_ms = 0;
    list_remove(&t->link);
}

static struct timer *timer_first(struct loop *l)
{
    return list_empty(&l->timers) ? NULL : container_of(l->timers.next, struct timer, link);
}

static int wait_ms(struct loop *l)
{
    struct timer *first = timer_first(l);
    if (!first)
        return -1;
    uint64_t now = clock_now_ms();
    uint64_t left = first->at_ms <= now ? 0 : first->at_ms - now + 1;
    return left > INT_MAX ? INT_MAX : (int)left;
}

static void timers_run(struct loop *l)
{
    uint64_t now = clock_now_ms();
    for (struct timer *t; (t = timer_first(l)) && t->at_ms <= now;) {
        loop_untimer(t);
        t->fire(t);
    }
}

void loop_run(struct loop *l)
{
    while (!l->stopped) {
        int room = (int)(sizeof l->events / sizeof *l->events);
        int n = epoll_wait(l->epoll_fd, l->events, room, wait_ms(l));
        l->event_count = n < 0 ? 0 : n;
        for (l->event_at = 0; l->event_at < l->event_count;) {
            struct epoll_event e = l->events[l->event_at++];
            struct watch *w = e.data.ptr;
            if (w)
                w->ready(w, e.events);
        }
        timers_run(l);
    }
}

void loop_stop(struct loop *l)
{
    l->stopped = true;
}
