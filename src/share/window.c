/* The window of a member: counts in what was sent, asks the kernel what of it still waits, and
 * gives out whether one more may. The pace of the program is what it took from one tick to the
 * next. */
#include "share/window.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

/* Nobody waits longer in the queue of a program that keeps its pace, when another one has twice
 * that pace; and when none has, which costs nothing as no other would take it sooner. */
#define BEHIND_MS 5
#define LEVEL_MS  50
/* The least that the kernel charges the sender for a message. The charge of a message that is being
 * taken goes last, a byte of it even after the writing end is said to have room. */
#define MESSAGE_CHARGE 768
#define MORE_MAX       1024
/* While no other is known to be quicker: a short burst is shared out evenly. */
#define MORE_LEVEL 15

/* The charge is known at once; FIONREAD would go through all that waits, under the queue's lock. */
static uint32_t untaken(int write_fd)
{
    int bytes = 0;
    if (ioctl(write_fd, SIOCOUTQ, &bytes) < 0 || bytes < 0)
        return 0;
    return (uint32_t)bytes / MESSAGE_CHARGE;
}

void window_init(struct window *n)
{
    *n = (struct window){.more = MORE_LEVEL};
}

bool window_is_full(struct window *n, int write_fd)
{
    if (untaken(write_fd) <= atomic_load_explicit(&n->more, memory_order_relaxed))
        return false;
    atomic_store_explicit(&n->was_full, true, memory_order_relaxed);
    return true;
}

void window_idle(struct window *n)
{
    if (!atomic_load_explicit(&n->was_full, memory_order_relaxed) ||
        !atomic_exchange(&n->was_full, false))
        return;
    uint32_t more = atomic_load_explicit(&n->more, memory_order_relaxed);
    if (more < MORE_MAX)
        atomic_store_explicit(&n->more, 2 * more + 1, memory_order_relaxed);
}

void window_sent(struct window *n)
{
    (void)atomic_fetch_add_explicit(&n->sent, 1, memory_order_relaxed);
}

uint64_t window_tick(struct window *n, int write_fd, uint64_t now_ms)
{
    uint64_t waiting = untaken(write_fd);
    uint64_t sent = atomic_load_explicit(&n->sent, memory_order_relaxed);
    uint64_t taken = sent > waiting ? sent - waiting : 0;
    if (now_ms > n->tick_ms) {
        n->pace = taken > n->taken ? (taken - n->taken) * 1000 / (now_ms - n->tick_ms) : 0;
        n->taken = taken;
        n->tick_ms = now_ms;
    }
    return n->pace;
}

/* It narrows slowly: one tick in which nobody came says little about a program. */
void window_adapt(struct window *n, uint64_t best)
{
    uint64_t more = n->pace * (2 * n->pace < best ? BEHIND_MS : LEVEL_MS) / 1000;
    uint64_t least = (uint64_t)atomic_load_explicit(&n->more, memory_order_relaxed) * 7 / 8;
    if (2 * n->pace >= best && more < least)
        more = least;
    if (2 * n->pace >= best && more < MORE_LEVEL)
        more = MORE_LEVEL;
    atomic_store_explicit(&n->more, more < MORE_MAX ? (uint32_t)more : MORE_MAX,
                          memory_order_relaxed);
}
