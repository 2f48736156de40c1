/* The window of a member: counts in what was sent, asks the kernel what of it still waits, and
 * gives out whether one more may. The pace of the program is what it took from one tick to the
 * next. */
#include "share/window.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

/* Nobody waits longer than that in the queue of a program that keeps its pace. It is also what a
 * thread of dispatch may take to hand on the next one before a quick program has nothing to do. */
#define WINDOW_MS 5
/* The least that the kernel charges the sender for a message. The charge of a message that is being
 * taken goes last, a byte of it even after the writing end is said to have room. */
#define MESSAGE_CHARGE 768
#define MORE_MAX       1024

/* The charge is known at once; FIONREAD would go through all that waits, under the queue's lock. */
static uint32_t untaken(int write_fd)
{
    int bytes = 0;
    if (ioctl(write_fd, SIOCOUTQ, &bytes) < 0 || bytes < 0)
        return 0;
    return (uint32_t)bytes / MESSAGE_CHARGE;
}

bool window_is_full(const struct window *n, int write_fd)
{
    return untaken(write_fd) > atomic_load_explicit(&n->more, memory_order_relaxed);
}

void window_sent(struct window *n)
{
    (void)atomic_fetch_add_explicit(&n->sent, 1, memory_order_relaxed);
}

void window_starved(struct window *n)
{
    uint32_t more = atomic_load_explicit(&n->more, memory_order_relaxed);
    if (more < MORE_MAX)
        atomic_store_explicit(&n->more, 2 * more + 1, memory_order_relaxed);
}

void window_tick(struct window *n, int write_fd, uint64_t now_ms)
{
    uint64_t waiting = untaken(write_fd);
    uint64_t sent = atomic_load_explicit(&n->sent, memory_order_relaxed);
    uint64_t taken = sent > waiting ? sent - waiting : 0;
    uint64_t passed_ms = now_ms - n->tick_ms;
    if (passed_ms == 0)
        return;
    uint64_t more = taken > n->taken ? (taken - n->taken) * WINDOW_MS / passed_ms : 0;
    uint64_t before = atomic_load_explicit(&n->more, memory_order_relaxed);
    if (more < before * 7 / 8)
        more = before * 7 / 8;
    atomic_store_explicit(&n->more, more < MORE_MAX ? (uint32_t)more : MORE_MAX,
                          memory_order_relaxed);
    n->taken = taken;
    n->tick_ms = now_ms;
}
