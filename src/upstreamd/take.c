/* Accepted sockets come out of the queues and become links. Where no descriptor is left for both of
 * a link's sockets nothing is taken: connections wait in the queue, where others may take them. */
#include <stdlib.h>
#include <sys/socket.h>

#include "base/log.h"
#include "ipc/fdmsg.h"
#include "ipc/handed.h"
#include "upstreamd/upstream.h"
#include "wire/appmsg.h"

#define FIRST_FD 3
/* Taken at once, before others have their turn. */
#define BATCH 32

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

/* berthd and dispatch are gone, and with them the names: what is connected goes on. */
static void queue_ended(struct queue_end *q)
{
    struct upstream *u = q->upstream;
    queue_watch(q, false);
    q->fd = fd_close(q->fd);
    for (size_t i = 0; i < u->queue_count; i++)
        if (u->queues[i].fd >= 0)
            return;
    log_info("the queue has ended: no new connections links=%zu", u->link_count);
    u->ending = true;
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
    link_start_consume(q->upstream, fd_take(&fd), &m.addr);
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

int take_start(struct upstream *u)
{
    long count = given();
    if (count < 1 || count > QUEUES_MAX)
        return -ENOENT;
    for (size_t i = 0; i < (size_t)count; i++) {
        struct queue_end *q = &u->queues[u->queue_count++];
        *q = (struct queue_end){.upstream = u, .fd = FIRST_FD + (int)i, .watch.fd = -EBADF};
        q->watch.ready = queue_ready;
        queue_watch(q, true);
    }
    return 0;
}
