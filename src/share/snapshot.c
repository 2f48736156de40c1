/* Counting of snapshots and of the listeners in them. */
#include "share/snapshot.h"

#include <stdlib.h>

struct listener *listener_new_consume(uint32_t id, const int *fds, size_t fd_count)
{
    struct listener *l = calloc(1, sizeof *l + fd_count * sizeof *fds);
    for (size_t i = 0; i < fd_count; i++) {
        if (l)
            l->fds[i] = fds[i];
        else
            (void)fd_close(fds[i]);
    }
    if (!l)
        return NULL;
    l->refs = 1;
    l->id = id;
    l->fd_count = fd_count;
    return l;
}

struct listener *listener_ref(struct listener *l)
{
    (void)atomic_fetch_add(&l->refs, 1);
    return l;
}

void listener_unref(struct listener *l)
{
    if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
        return;
    for (size_t i = 0; i < l->fd_count; i++)
        (void)fd_close(l->fds[i]);
    free(l);
}

struct snapshot *snapshot_ref(struct snapshot *s)
{
    (void)atomic_fetch_add(&s->refs, 1);
    return s;
}

void snapshot_unref(struct snapshot *s)
{
    if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    for (size_t i = 0; i < s->listener_count; i++)
        listener_unref(s->listeners[i]);
    for (size_t i = 0; i < s->claim_count; i++)
        queue_unref(s->claim_queues[i]);
    route_table_free(s->routes);
    free(s->listeners);
    free(s->claim_queues);
    free(s);
}
