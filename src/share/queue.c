/* Life of a queue: two descriptors, a counter of references, an append-only table of options. */
#include "share/queue.h"

#include <stdlib.h>
#include <sys/ioctl.h>

#include "share/parked.h"
#include "share/sources.h"
#include "wire/dispatchmsg.h"

struct queue *queue_new_consume(uint32_t id, uint32_t flags, int write_fd, int read_fd)
{
    struct queue *q = calloc(1, sizeof *q);
    if (!q) {
        (void)fd_close(write_fd);
        (void)fd_close(read_fd);
        return NULL;
    }
    q->refs = 1;
    q->id = id;
    q->flags = flags;
    q->write_fd = write_fd;
    q->read_fd = read_fd;
    q->source.kind = SOURCE_POOL;
    (void)pthread_mutex_init(&q->lock, NULL);
    ledger_init(&q->ledger);
    window_init(&q->window);
    if (flags & DISPATCH_POOL)
        q->parked = queue_parked(q);
    else
        handing_init(&q->handing, read_fd);
    return q;
}

struct queue *queue_ref(struct queue *q)
{
    (void)atomic_fetch_add(&q->refs, 1);
    return q;
}

void queue_unref(struct queue *q)
{
    if (!q || atomic_fetch_sub(&q->refs, 1) != 1)
        return;
    (void)fd_close(q->write_fd);
    (void)fd_close(q->read_fd);
    (void)pthread_mutex_destroy(&q->lock);
    ledger_done(&q->ledger);
    sources_free(q->sources);
    queue_unref(q->base);
    free(q);
}

/* Parked ones are all of one size, and the kernel knows how many bytes wait. */
int64_t queue_parked(const struct queue *q)
{
    int bytes = 0;
    if (ioctl(q->read_fd, FIONREAD, &bytes) < 0)
        return 0;
    return bytes / PARKED_BYTES;
}

int queue_count_sources(struct queue *q)
{
    if (!q->sources)
        q->sources = sources_new();
    return q->sources ? 0 : -ENOMEM;
}

int queue_add_option(struct queue *q, const struct option_value *o)
{
    if (!option_allowed(o->level, o->name))
        return -EPERM;
    unsigned n = atomic_load(&q->option_count);
    if (n == QUEUE_OPTIONS_MAX)
        return -ENOSPC;
    q->options[n] = *o;
    atomic_store_explicit(&q->option_count, n + 1, memory_order_release);
    return 0;
}
