#include "base/clock.h"
#include "loop/loop.h"
#include "test.h"

#include <sys/eventfd.h>

struct rig {
    struct loop loop;
    int order; /* the digits of what fired, in order */
    struct timer stop;
};

struct tick {
    struct timer timer;
    struct rig *rig;
    int digit;
    int left; /* how often it sets itself, before it stops the loop; 0: once, and it does not */
    uint64_t at_ms;
};

static void tick_fire(struct timer *t)
{
    struct tick *tick = container_of(t, struct tick, timer);
    tick->rig->order = 10 * tick->rig->order + tick->digit;
    tick->at_ms = clock_now_ms();
    if (tick->left == 0)
        return;
    if (--tick->left > 0)
        loop_timer(&tick->rig->loop, t, 10);
    else
        loop_stop(&tick->rig->loop);
}

static void stop_fire(struct timer *t)
{
    loop_stop(&container_of(t, struct rig, stop)->loop);
}

static void rig_init(struct rig *r)
{
    *r = (struct rig){.stop.fire = stop_fire};
    CHECK_INT(loop_init(&r->loop), 0);
}

static void rig_run(struct rig *r, uint32_t for_ms)
{
    loop_timer(&r->loop, &r->stop, for_ms);
    loop_run(&r->loop);
    loop_done(&r->loop);
}

static struct tick tick_make(struct rig *r, int digit)
{
    return (struct tick){.timer.fire = tick_fire, .rig = r, .digit = digit};
}

TEST("timers fire in the order of their times, equal ones in the order they were set")
{
    struct rig r;
    rig_init(&r);
    struct tick a = tick_make(&r, 1), b = tick_make(&r, 2), c = tick_make(&r, 3),
                d = tick_make(&r, 4);
    loop_timer(&r.loop, &c.timer, 100);
    loop_timer(&r.loop, &a.timer, 0);
    loop_timer(&r.loop, &d.timer, 200);
    loop_timer(&r.loop, &b.timer, 0);
    rig_run(&r, 300);
    CHECK_INT(r.order, 1234);
}

TEST("no timer fires before its time")
{
    struct rig r;
    rig_init(&r);
    struct tick a = tick_make(&r, 1);
    uint64_t start = clock_now_ms();
    loop_timer(&r.loop, &a.timer, 30);
    rig_run(&r, 60);
    CHECK(a.at_ms >= start + 30);
}

TEST("a timer is moved by setting it again, and an unset one does not fire")
{
    struct rig r;
    rig_init(&r);
    struct tick a = tick_make(&r, 1), b = tick_make(&r, 2), c = tick_make(&r, 3);
    loop_timer(&r.loop, &a.timer, 0);
    loop_timer(&r.loop, &b.timer, 5);
    loop_timer(&r.loop, &c.timer, 0);
    loop_timer(&r.loop, &a.timer, 100);
    loop_untimer(&c.timer);
    loop_untimer(&c.timer);
    rig_run(&r, 150);
    CHECK_INT(r.order, 21);
}

TEST("a timer may set itself again in its own callback")
{
    struct rig r;
    rig_init(&r);
    struct tick a = tick_make(&r, 1);
    a.left = 4;
    loop_timer(&r.loop, &a.timer, 0);
    rig_run(&r, 10000);
    CHECK_INT(r.order, 1111);
}

struct killer {
    struct timer timer;
    struct tick *victim;
};

static void killer_fire(struct timer *t)
{
    loop_untimer(&container_of(t, struct killer, timer)->victim->timer);
}

TEST("a timer may unset another that is due in the same moment")
{
    struct rig r;
    rig_init(&r);
    struct tick victim = tick_make(&r, 1);
    struct killer killer = {.timer.fire = killer_fire, .victim = &victim};
    loop_timer(&r.loop, &killer.timer, 0);
    loop_timer(&r.loop, &victim.timer, 0);
    rig_run(&r, 40);
    CHECK_INT(r.order, 0);
}

TEST("a timer in the far future does not keep the others from firing")
{
    struct rig r;
    rig_init(&r);
    struct tick far = tick_make(&r, 1), near = tick_make(&r, 2);
    loop_timer(&r.loop, &far.timer, UINT32_MAX);
    loop_timer(&r.loop, &near.timer, 5);
    rig_run(&r, 30);
    CHECK_INT(r.order, 2);
}

/* One of a pair of watches that are ready together. */
struct peer {
    struct watch watch;
    struct rig *rig;
    struct peer *other;
    unsigned called;
};

static void peer_ready(struct watch *w, uint32_t events)
{
    struct peer *p = container_of(w, struct peer, watch);
    CHECK(events & EPOLLIN);
    p->called++;
    loop_unwatch(&p->rig->loop, &p->other->watch);
    loop_unwatch(&p->rig->loop, &p->watch);
    loop_stop(&p->rig->loop);
}

TEST("a watch that is removed in a callback does not get its pending event")
{
    struct rig r;
    rig_init(&r);
    int fds[] = {eventfd(1, EFD_CLOEXEC), eventfd(1, EFD_CLOEXEC)};
    struct peer a = {.watch.ready = peer_ready, .rig = &r},
                b = {.watch.ready = peer_ready, .rig = &r, .other = &a};
    a.other = &b;
    CHECK_INT(loop_watch(&r.loop, &a.watch, fds[0], EPOLLIN), 0);
    CHECK_INT(loop_watch(&r.loop, &b.watch, fds[1], EPOLLIN), 0);
    loop_run(&r.loop);
    CHECK_INT(a.called + b.called, 1);
    CHECK_INT(a.watch.fd, -EBADF);
    CHECK_INT(b.watch.fd, -EBADF);
    loop_unwatch(&r.loop, &a.watch);
    loop_done(&r.loop);
    (void)fd_close(fds[0]);
    (void)fd_close(fds[1]);
}

static void count_ready(struct watch *w, uint32_t events)
{
    struct peer *p = container_of(w, struct peer, watch);
    (void)events;
    if (++p->called == 3)
        loop_stop(&p->rig->loop);
}

TEST("a watch is called as long as there is something to read")
{
    struct rig r;
    rig_init(&r);
    CLEANUP_FD int fd = eventfd(1, EFD_CLOEXEC);
    struct peer a = {.watch.ready = count_ready, .rig = &r};
    CHECK_INT(loop_watch(&r.loop, &a.watch, fd, EPOLLIN), 0);
    loop_run(&r.loop);
    CHECK_INT(a.called, 3);
    loop_unwatch(&r.loop, &a.watch);
    loop_done(&r.loop);
}

TEST("a descriptor that cannot be watched is an error and leaves the watch outside")
{
    struct rig r;
    rig_init(&r);
    struct watch w = {.fd = -EBADF};
    CHECK_INT(loop_watch(&r.loop, &w, -EBADF, EPOLLIN), -EBADF);
    CHECK_INT(w.fd, -EBADF);
    loop_done(&r.loop);
}
