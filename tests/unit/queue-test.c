#include "share/queue.h"
#include "test.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static struct queue *queue_make(int pair[2])
{
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    return queue_new_consume(7, 0, pair[0], pair[1]);
}

TEST("both ends of a queue are closed with its last reference")
{
    int pair[2];
    struct queue *q = queue_make(pair);
    CHECK_INT(q->id, 7);
    CHECK(queue_ref(q) == q);
    queue_unref(q);
    CHECK(is_open(pair[0]) && is_open(pair[1]));
    queue_unref(q);
    CHECK(!is_open(pair[0]) && !is_open(pair[1]));
    queue_unref(NULL);
}

TEST("a queue has a bounded number of options, in their order")
{
    int pair[2];
    struct queue *q = queue_make(pair);
    struct option_value o = {.level = IPPROTO_TCP, .name = TCP_NODELAY, .len = 4};
    for (uint8_t i = 0; i < QUEUE_OPTIONS_MAX; i++) {
        o.value[0] = i;
        CHECK_INT(queue_add_option(q, &o), 0);
    }
    CHECK_INT(queue_add_option(q, &o), -ENOSPC);
    CHECK_INT(atomic_load(&q->option_count), QUEUE_OPTIONS_MAX);
    for (uint8_t i = 0; i < QUEUE_OPTIONS_MAX; i++)
        CHECK_INT(q->options[i].value[0], i);
    queue_unref(q);
}

TEST("an option that is not handed down never enters the table")
{
    int pair[2];
    struct queue *q = queue_make(pair);
    struct option_value o = {.level = SOL_SOCKET, .name = SO_MARK, .len = 4};
    CHECK_INT(queue_add_option(q, &o), -EPERM);
    CHECK_INT(atomic_load(&q->option_count), 0);
    queue_unref(q);
}
