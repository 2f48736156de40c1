/* Accepted sockets come out of the queues and become links. Where no descriptor is left for both of
 * a link's sockets nothing is taken: connections wait in the queue, where others may take them. */
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "ipc/fdmsg.h"
#include "ipc/handed.h"
#include "upstreamd/upstream.h"
#include "wire/appmsg.h"

#define FIRST_FD 3
/* Taken at once, before others have their turn. */
#define BATCH 32
/* How often a berthd is looked for, and how long. */
#define ATTACH_MS 100
#define LOST_MS   60000

static bool has_room(const struct upstream *u)
{
    return !u->ending && u->link_count < u->link_max;
}

static void queue_watch(struct queue_end *q, bool on)
{
    loop_unwatch(&q->upstream->loop, &q->watch);
    if (on && q->fd >= 0 && loop_watch(&q->upstream->loop, &q->watch, q->fd, EPOLLIN) < 0)
        log_error("queue not watched");
}

void take_settle(struct upstream *u)
{
    bool pause = !has_room(u);
    if (pause != u->paused)
        for (size_t i = 0; i < u->queue_count; i++)
            queue_watch(&u->queues[i], !pause);
    u->paused = pause;
    if (u->ending && u->link_count == 0)
        loop_stop(&u->loop);
}

/* berthd and dispatch are gone: what is connected goes on, and the next berthd is looked for. */
static void queue_ended(struct queue_end *q)
{
    struct upstream *u = q->upstream;
    queue_watch(q, false);
    q->fd = fd_close(q->fd);
    if (u->attach.at_ms == 0) {
        log_info("the queue has ended: looking for berthd links=%zu", u->link_count);
        u->lost_ms = clock_now_ms();
        loop_timer(&u->loop, &u->attach, ATTACH_MS);
    }
}

static bool attach_all(struct upstream *u)
{
    bool all = true;
    for (size_t i = 0; i < u->queue_count; i++) {
        struct queue_end *q = &u->queues[i];
        if (q->fd < 0 && attach_queue(&q->name, &q->fd) == 0 && !u->paused)
            queue_watch(q, true);
        all &= q->fd >= 0;
    }
    return all;
}

/* Where nobody comes it ends with its last connection. */
static void attach(struct timer *t)
{
    struct upstream *u = container_of(t, struct upstream, attach);
    if (attach_all(u)) {
        log_info("attached again links=%zu", u->link_count);
        return;
    }
    u->ending |= clock_now_ms() - u->lost_ms > LOST_MS;
    loop_timer(&u->loop, t, ATTACH_MS);
    take_settle(u);
}

static bool take_one(struct queue_end *q)
{
    uint8_t buf[APPMSG_CONN_MAX];
    struct appmsg m;
    CLEANUP_FD int fd = -EBADF;
    size_t count = 0;
    ssize_t n = fdmsg_recv(q->fd, buf, sizeof buf, &fd, 1, &count, MSG_DONTWAIT);
    if (n == 0 || n == -ECONNRESET)
        queue_ended(q);
    if (n <= 0)
        return false;
    if (count != 1 || appmsg_decode(&m, buf, (size_t)n) < 0 || m.type != APPMSG_CONN)
        return true;
    handed_wait(q->fd, m.flags);
    link_start_consume(q->upstream, fd_take(&fd), &m);
    return true;
}

static void queue_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct queue_end *q = container_of(w, struct queue_end, watch);
    for (int i = 0; i < BATCH && has_room(q->upstream) && take_one(q); i++)
        ;
    take_settle(q->upstream);
}

/* What berthd passes as LISTEN_FDS. */
static long given(void)
{
    const char *count = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
    if (!count || !pid || strtol(pid, NULL, 10) != getpid())
        return 0;
    return strtol(count, NULL, 10);
}

static void name_read(struct queue_end *q)
{
    struct sockaddr_un un;
    socklen_t len = sizeof un;
    if (getsockname(q->fd, (struct sockaddr *)&un, &len) < 0 || len > sizeof un ||
        queue_name_parse(&un, len, &q->name) < 0)
        q->name = (struct queue_name){0};
}

int take_start(struct upstream *u)
{
    u->attach.fire = attach;
    long count = given();
    if (count < 1 || count > QUEUES_MAX)
        return -ENOENT;
    for (size_t i = 0; i < (size_t)count; i++) {
        struct queue_end *q = &u->queues[u->queue_count++];
        *q = (struct queue_end){.upstream = u, .fd = FIRST_FD + (int)i, .watch.fd = -EBADF};
        q->watch.ready = queue_ready;
        name_read(q);
        queue_watch(q, true);
    }
    return 0;
}
