#pragma once
/* A thin epoll loop for one thread. A watch or timer is embedded in its owner's struct; a callback
 * is thin: it finds the owner and runs it. Anything may be removed from inside any callback. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "base/list.h"

struct loop {
    int epoll_fd;
    bool stopped;
    struct list timers; /* soonest first */
    struct epoll_event events[64];
    int event_count, event_at;
};

struct watch {
    int fd; /* borrowed; -EBADF: not in the loop */
    void (*ready)(struct watch *w, uint32_t events);
};

struct timer {
    struct list link;
    uint64_t at_ms; /* monotonic; 0: not set */
    void (*fire)(struct timer *t);
};

int loop_init(struct loop *l) WARN_UNUSED;
void loop_done(struct loop *l);
/* Level-triggered. */
int loop_watch(struct loop *l, struct watch *w, int fd, uint32_t events) WARN_UNUSED;
/* Harmless for a watch that is not in the loop. Comes before the descriptor is closed. */
void loop_unwatch(struct loop *l, struct watch *w);
/* The same for a descriptor that is closed next and that nobody else has: the kernel forgets it by
 * itself. */
void loop_forget(struct loop *l, struct watch *w);
/* Sets or moves the timer. */
void loop_timer(struct loop *l, struct timer *t, uint64_t after_ms);
void loop_untimer(struct timer *t);
/* Until loop_stop(). */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
