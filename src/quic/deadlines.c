/* When each connection wants to be called, in a binary heap: the earliest first. Each connection
 * knows its place in it. The heap owns nothing but its array. */
#include <stdlib.h>

#include "quic/internal.h"

static void put(struct deadlines *d, size_t at, struct quic_conn *c)
{
    d->at[at] = c;
    c->deadline_at = at;
}

static void rise(struct deadlines *d, size_t at)
{
    struct quic_conn *c = d->at[at];
    while (at > 0 && d->at[(at - 1) / 2]->deadline_ns > c->deadline_ns) {
        put(d, at, d->at[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(d, at, c);
}

static void sink(struct deadlines *d, size_t at)
{
    struct quic_conn *c = d->at[at];
    for (size_t child; (child = 2 * at + 1) < d->count; at = child) {
        if (child + 1 < d->count && d->at[child + 1]->deadline_ns < d->at[child]->deadline_ns)
            child++;
        if (d->at[child]->deadline_ns >= c->deadline_ns)
            break;
        put(d, at, d->at[child]);
    }
    put(d, at, c);
}

int deadline_add(struct deadlines *d, struct quic_conn *c)
{
    if (d->count == d->size) {
        size_t size = d->size ? d->size * 2 : 16;
        struct quic_conn **larger = realloc(d->at, size * sizeof *larger);
        if (!larger)
            return -ENOMEM;
        d->at = larger;
        d->size = size;
    }
    put(d, d->count++, c);
    rise(d, c->deadline_at);
    return 0;
}

void deadline_change(struct deadlines *d, struct quic_conn *c, uint64_t at_ns)
{
    if (c->deadline_ns == at_ns)
        return;
    c->deadline_ns = at_ns;
    rise(d, c->deadline_at);
    sink(d, c->deadline_at);
}

void deadline_remove(struct deadlines *d, struct quic_conn *c)
{
    size_t at = c->deadline_at;
    struct quic_conn *last = d->at[--d->count];
    if (last == c)
        return;
    put(d, at, last);
    rise(d, at);
    sink(d, last->deadline_at);
}
