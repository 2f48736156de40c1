/* Counting of snapshots, of the listeners and the pools in them. */
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

struct pool *pool_new(struct queue *q, const struct dispatch_policy *policy)
{
    struct pool *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->queue = queue_ref(q);
    p->policy = *policy;
    return p;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->member_count; i++)
        queue_unref(p->members[i].queue);
    queue_unref(p->queue);
    free(p->members);
    free(p);
}

int pool_add(struct pool *p, struct queue *member, bool serves)
{
    if (p->member_count == POOL_MEMBERS_MAX)
        return -ENOSPC;
    struct member *more = reallocarray(p->members, p->member_count + 1, sizeof *more);
    if (!more)
        return -ENOMEM;
    p->members = more;
    more[p->member_count++] = (struct member){queue_ref(member), serves};
    return 0;
}

static int service_compare(const void *a, const void *b)
{
    return strcmp(((const struct service *)a)->name, ((const struct service *)b)->name);
}

void snapshot_services_sort(struct snapshot *s)
{
    if (s->service_count > 0)
        qsort(s->services, s->service_count, sizeof *s->services, service_compare);
}

static const struct service *service_find(const struct snapshot *s, const char *name)
{
    struct service key = {.claim = 0};
    memcpy(key.name, name, strlen(name) + 1);
    if (s->service_count == 0)
        return NULL;
    return bsearch(&key, s->services, s->service_count, sizeof key, service_compare);
}

uint32_t snapshot_service(const struct snapshot *s, struct str name)
{
    char text[WIRE_NAME_MAX + 1] = "";
    if (name.n > WIRE_NAME_MAX)
        return ROUTE_NONE;
    memcpy(text, name.p, name.n);
    const struct service *found = service_find(s, text);
    if (!found)
        found = service_find(s, "");
    return found ? found->claim : ROUTE_NONE;
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
    for (size_t i = 0; i < s->pool_count; i++)
        pool_free(s->pools[i]);
    for (size_t i = 0; i < DISPATCH_LOG_COUNT; i++)
        logfile_unref(s->logs[i]);
    route_table_free(s->routes);
    free(s->listeners);
    free(s->targets);
    free(s->services);
    free(s->pools);
    free(s);
}
