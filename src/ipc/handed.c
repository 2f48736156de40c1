/* The counter of a queue: the flags of a message come out for who sends it; they go in for who has
 * received it, and he comes back when the sender has closed his copy. */
#include "ipc/handed.h"

#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "wire/appmsg.h"

#define NUMBER_MASK (UINT32_MAX >> APPMSG_NUMBER_SHIFT)
/* Further ahead a number is not waited for: nobody counts as it says. */
#define LEAD_MAX (2 * HANDING_STEP)
/* On the sender's CPU a yield mostly lets it go on. Where it does not, it gets the time of a nap.
 */
#define YIELDS       16
#define NAP_NS       50000
#define WAIT_NS      100000000
#define REST_NS      1000000
#define COUNTER_NONE UINT64_MAX

/* By the system call itself: a preloaded library answers for the queue in getsockopt()'s place. 64
 * bits are read and written since Linux 5.0, if long has so many; a socket that nobody has set it
 * on says "no limit". */
static bool counter_get(int fd, uint64_t *ret_count)
{
    uint64_t count = 0;
    socklen_t len = sizeof count;
    if (syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_MAX_PACING_RATE, &count, &len) < 0 ||
        len != sizeof count)
        return false;
    *ret_count = count;
    return true;
}

static bool counter_set(int fd, uint64_t count)
{
    return setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &count, sizeof count) == 0;
}

void handing_init(struct handing *h, int read_fd)
{
    uint64_t before = 0;
    *h = (struct handing){.fd = read_fd};
    if (!counter_get(read_fd, &before))
        return;
    h->count = before == COUNTER_NONE ? HANDING_STEP : before + HANDING_STEP;
    if (counter_set(read_fd, h->count))
        h->state = HANDING_COUNTS;
}

/* Behind us it is when the one before us wrote once more while we took over. */
uint32_t handing_mark(struct handing *h)
{
    uint64_t now = h->count;
    if (h->state == HANDING_COUNTS && counter_get(h->fd, &now) && (int64_t)(now - h->count) > 0)
        h->state = HANDING_REPLACED;
    if (h->state == HANDING_COUNTS)
        return APPMSG_COUNTED | (uint32_t)(h->count + 1) << APPMSG_NUMBER_SHIFT;
    return h->state == HANDING_REPLACED ? APPMSG_REST : 0;
}

void handing_closed(struct handing *h)
{
    if (h->state == HANDING_COUNTS)
        (void)counter_set(h->fd, ++h->count);
}

static bool is_closed(int fd, uint32_t number)
{
    uint64_t count;
    if (!counter_get(fd, &count) || count == COUNTER_NONE)
        return true;
    uint32_t lead = (number - (uint32_t)count) & NUMBER_MASK;
    return lead == 0 || lead > LEAD_MAX;
}

static void nap(long ns)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

void handed_wait(int read_fd, uint32_t flags)
{
    uint32_t number = flags >> APPMSG_NUMBER_SHIFT;
    if (flags & APPMSG_REST)
        nap(REST_NS);
    if (!(flags & APPMSG_COUNTED))
        return;
    for (int i = 0; !is_closed(read_fd, number) && i < YIELDS + WAIT_NS / NAP_NS; i++)
        if (i < YIELDS)
            (void)sched_yield();
        else
            nap(NAP_NS);
}
