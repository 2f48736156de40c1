/* The counter of a queue: who sends, who takes the sending over, and who waits. */
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "ipc/handed.h"
#include "test.h"
#include "wire/appmsg.h"

static void counter_write(int fd, uint64_t count)
{
    CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &count, sizeof count), 0);
}

static void queue_open(int pair[2])
{
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
}

static void queue_close(int pair[2])
{
    (void)fd_close(pair[0]);
    (void)fd_close(pair[1]);
}

struct sender {
    struct handing handing;
    _Atomic bool closed;
};

static void *close_later(void *arg)
{
    struct sender *s = arg;
    (void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    s->closed = true;
    handing_closed(&s->handing);
    return NULL;
}

TEST("who takes a message waits until its sender has closed his copy")
{
    int pair[2];
    queue_open(pair);
    for (int i = 0; i < 3; i++) {
        struct sender s = {0};
        pthread_t thread;
        handing_init(&s.handing, pair[1]);
        uint32_t flags = handing_mark(&s.handing);
        CHECK(flags & APPMSG_COUNTED);
        CHECK_INT(pthread_create(&thread, NULL, close_later, &s), 0);
        handed_wait(pair[1], flags);
        CHECK(s.closed);
        (void)pthread_join(thread, NULL);
        handed_wait(pair[1], flags);
    }
    queue_close(pair);
}

TEST("a number is compared where it wraps, too")
{
    int pair[2];
    struct handing h;
    queue_open(pair);
    counter_write(pair[1], (1ull << 32) - HANDING_STEP - 2);
    handing_init(&h, pair[1]);
    for (int i = 0; i < 4; i++) {
        uint32_t flags = handing_mark(&h);
        CHECK_INT(flags >> APPMSG_NUMBER_SHIFT, (0xffffff + i) & 0xffffff);
        handing_closed(&h);
        uint64_t before = clock_now_ms();
        handed_wait(pair[1], flags);
        CHECK(clock_now_ms() - before < 50);
    }
    queue_close(pair);
}

TEST("a message of a sender that died is waited for no longer when another takes over")
{
    int pair[2];
    struct handing dead, next;
    queue_open(pair);
    handing_init(&dead, pair[1]);
    uint32_t flags = handing_mark(&dead);
    uint64_t before = clock_now_ms();
    handed_wait(pair[1], flags);
    CHECK(clock_now_ms() - before >= 90);
    handing_init(&next, pair[1]);
    before = clock_now_ms();
    handed_wait(pair[1], flags);
    CHECK(clock_now_ms() - before < 50);
    CHECK(handing_mark(&next) & APPMSG_COUNTED);
    queue_close(pair);
}

TEST("of two senders the first one counts no more, and the second goes on")
{
    int pair[2];
    struct handing first, second;
    queue_open(pair);
    handing_init(&first, pair[1]);
    uint32_t late = handing_mark(&first);
    handing_init(&second, pair[1]);
    CHECK(late & APPMSG_COUNTED);
    handing_closed(&first); /* Was on its way: what it writes is behind. */
    CHECK(handing_mark(&second) & APPMSG_COUNTED);
    handing_closed(&second);
    CHECK_INT(handing_mark(&first), APPMSG_REST);
    handing_closed(&first);
    CHECK(handing_mark(&second) & APPMSG_COUNTED);
    queue_close(pair);
}

TEST("a queue that nobody counts on is not waited at")
{
    int pair[2];
    queue_open(pair);
    uint64_t before = clock_now_ms();
    for (uint32_t number = 0; number < 300; number++) {
        handed_wait(pair[1], APPMSG_COUNTED | number << APPMSG_NUMBER_SHIFT);
        handed_wait(pair[1], 0);
        handed_wait(-EBADF, APPMSG_COUNTED | number << APPMSG_NUMBER_SHIFT);
    }
    CHECK(clock_now_ms() - before < 50);
    queue_close(pair);
}
