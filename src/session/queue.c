/* A queue of bytes in chunks: memory only while there are bytes. Its owner is a stream. */
#include <stdlib.h>

#include "session/internal.h"

#define CHUNK_SMALL 2048
#define CHUNK_LARGE (64u << 10)

struct chunk *chunk_new(size_t size)
{
    struct chunk *c = malloc(sizeof *c + size);
    if (c)
        *c = (struct chunk){.size = size};
    return c;
}

void queue_append(struct queue *q, struct chunk *c)
{
    if (q->tail)
        q->tail->next = c;
    else
        q->head = c;
    q->tail = c;
    q->bytes += c->to - c->from;
}

/* The first chunk of a queue is small, because most are all that there ever is. */
uint8_t *queue_room(struct queue *q, size_t n, size_t *ret_size)
{
    struct chunk *c = q->tail;
    if (!c || c->to == c->size) {
        c = chunk_new(q->head ? CHUNK_LARGE : n > CHUNK_SMALL ? n : CHUNK_SMALL);
        if (!c)
            return NULL;
        queue_append(q, c);
    }
    *ret_size = c->size - c->to < n ? c->size - c->to : n;
    return c->bytes + c->to;
}

void queue_filled(struct queue *q, size_t n)
{
    q->tail->to += n;
    q->bytes += n;
}

int queue_put(struct queue *q, const void *bytes, size_t n)
{
    for (struct str left = {bytes, n}; left.n > 0;) {
        size_t size;
        uint8_t *to = queue_room(q, left.n, &size);
        if (!to)
            return -ENOMEM;
        memcpy(to, left.p, size);
        queue_filled(q, size);
        left = str_skip(left, size);
    }
    return 0;
}

size_t queue_peek(const struct queue *q, uint8_t *buf, size_t n)
{
    size_t used = 0;
    for (const struct chunk *c = q->head; c && used < n; c = c->next) {
        size_t part = c->to - c->from < n - used ? c->to - c->from : n - used;
        memcpy(buf + used, c->bytes + c->from, part);
        used += part;
    }
    return used;
}

static void drop_head(struct queue *q)
{
    struct chunk *c = q->head;
    q->head = c->next;
    if (!q->head)
        q->tail = NULL;
    free(c);
}

void queue_drop(struct queue *q, size_t n)
{
    while (q->head && n > 0) {
        struct chunk *c = q->head;
        size_t part = c->to - c->from < n ? c->to - c->from : n;
        c->from += part;
        q->bytes -= part;
        n -= part;
        if (c->from == c->to)
            drop_head(q);
    }
}

void queue_done(struct queue *q)
{
    while (q->head)
        drop_head(q);
    q->bytes = 0;
}
