#pragma once
/* One alarm with the precision that pacing needs, which the loop's timers do not have: a timerfd on
 * CLOCK_MONOTONIC in the loop. Its times are those of clock_now_ns(). It fits host->timer of
 * a session's host. */

#include "loop/loop.h"

struct alarm {
    struct watch watch;
    struct loop *loop;
    int fd;         /* owned */
    uint64_t at_ns; /* what the timerfd is set to; UINT64_MAX: it is not */
    void (*ring)(struct alarm *a);
};

int alarm_init(struct alarm *a, struct loop *l, void (*ring)(struct alarm *a)) WARN_UNUSED;
void alarm_done(struct alarm *a);
/* Replaces what was set; UINT64_MAX: no alarm. A time that has passed rings in the next turn. It
 * may also ring at an earlier time that was set before: who is rung finds nothing to do then, and
 * sets it again. */
void alarm_set(struct alarm *a, uint64_t at_ns);
