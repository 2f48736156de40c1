/* Shared listeners: opened for the first claim at an address, closed with the last one. */
#include <stdio.h>
#include <stdlib.h>

#include "berthd/reserve.h"
#include "berthd/server.h"
#include "share/listen.h"
#include "why/why.h"

static uint32_t addr_hash(const struct addr *a)
{
    uint32_t port = addr_port(a);
    if (a->sa.sa_family == AF_UNIX)
        return index_hash(a->un.sun_path, strnlen(a->un.sun_path, sizeof a->un.sun_path));
    if (a->sa.sa_family == AF_INET)
        return index_hash(&a->v4.sin_addr, sizeof a->v4.sin_addr) ^ port << 16;
    return index_hash(&a->v6.sin6_addr, sizeof a->v6.sin6_addr) ^ port << 16;
}

void listener_list(struct server *s, struct shared_listener *l)
{
    list_append(&s->listeners, &l->link);
    index_add(&s->listeners_by_addr, &l->by_addr, addr_hash(&l->bound));
}

void listener_unlist(struct server *s, struct shared_listener *l)
{
    list_remove(&l->link);
    index_remove(&s->listeners_by_addr, &l->by_addr);
}

static struct shared_listener *listener_find(struct server *s, const struct addr *a)
{
    list_for_each(l, index_list(&s->listeners_by_addr, addr_hash(a)), struct shared_listener,
                  by_addr.link) if (addr_equal(&l->bound, a)) return l;
    return NULL;
}

void listener_unref(struct server *s, struct shared_listener *l)
{
    if (--l->refs > 0)
        return;
    reserve_refuse_listener_gone(s, l);
    dispatch_drop(s, DISPATCH_DROP_LISTENER, l->id);
    for (size_t i = 0; i < l->fd_count; i++)
        (void)fd_close(l->fds[i]);
    if (l->bound.sa.sa_family == AF_UNIX)
        (void)unlink(l->bound.un.sun_path);
    numbers_give(&s->listener_numbers, l->id);
    listener_unlist(s, l);
    free(l);
}

static bool port_is_free(const struct server *s, uint16_t port)
{
    list_for_each(l, &s->listeners, struct shared_listener,
                  link) if (addr_port(&l->bound) == port) return false;
    return true;
}

static struct shared_listener *listener_new(const struct bind *b, const struct addr *bound,
                                            int *ret_err)
{
    struct server *s = b->server;
    bool alone = port_is_free(s, addr_port(bound));
    struct shared_listener *l = calloc(1, sizeof *l);
    *ret_err = -ENOMEM;
    if (!l)
        return NULL;
    l->bound = *bound;
    l->v6only = bound->sa.sa_family == AF_INET6;
    l->proxy = b->app->flags & APPMSG_PROXY;
    l->fd_count = s->threads;
    *ret_err =
        descriptors_left(b->base) ? listen_open(&l->bound, alone, l->fds, l->fd_count) : -EMFILE;
    /* What we closed a moment ago may still be open in dispatch. */
    if (*ret_err == -EADDRINUSE && dispatch_settle(s))
        *ret_err = listen_open(&l->bound, alone, l->fds, l->fd_count);
    l->id = *ret_err < 0 ? UINT32_MAX : numbers_take(&s->listener_numbers);
    if (l->id == UINT32_MAX) {
        for (size_t i = 0; *ret_err >= 0 && i < l->fd_count; i++)
            (void)fd_close(l->fds[i]);
        *ret_err = *ret_err < 0 ? *ret_err : -ENOSPC;
        free(l);
        return NULL;
    }
    listener_list(s, l);
    return l;
}

int listener_get(const struct bind *b, const struct addr *bound,
                 struct shared_listener **ret_listener, char reason[REASON_MAX])
{
    char text[ADDR_TEXT_MAX];
    if (bound->sa.sa_family == AF_UNSPEC) {
        *ret_listener = &b->server->peers;
        b->server->peers.refs++;
        return 0;
    }
    bool proxy = b->app->flags & APPMSG_PROXY;
    struct shared_listener *l = listener_find(b->server, bound);
    if (l && l->proxy != proxy) {
        (void)snprintf(reason, REASON_MAX,
                       "%s is shared %s --proxy: all that share a port must agree",
                       addr_format(bound, text), l->proxy ? "with" : "without");
        return -EADDRINUSE;
    }
    int r = 0;
    if (!l)
        l = listener_new(b, bound, &r);
    if (l) {
        l->refs++;
        *ret_listener = l;
        return 0;
    }
    int n = snprintf(reason, REASON_MAX, "cannot open %s: %s\n", addr_format(bound, text),
                     strerror(-r));
    if (bound->sa.sa_family != AF_UNIX)
        (void)why_bind_failed(bound, -r, reason + n, REASON_MAX - (size_t)n);
    return r;
}
