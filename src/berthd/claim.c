/* From a bind to its claims: each route of the application, at each address that the program bound
 * or asked for beside it, with the listener that brings its connections. A claim that another
 * living program has already is refused with that program's name. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "berthd/reserve.h"
#include "berthd/server.h"
#include "share/listen.h"
#include "why/why.h"

/* Names whose own loopback addresses collide try a few more. */
#define OWN_ATTEMPTS 4

/* An address where connections for a bind arrive. */
struct place {
    struct addr addr;
    bool v6only;
};

static struct list *bucket_of(struct server *s, const struct route *r)
{
    uint32_t h =
        2166136261u ^ (uint32_t)r->scheme << 8 ^ (uint32_t)r->kind ^ (uint32_t)r->port << 16;
    for (const char *p = r->host; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    return &s->claim_buckets[h % s->claim_bucket_count];
}

static bool host_is_local(const struct route *r)
{
    const char *dot = strrchr(r->host, '.');
    return strcmp(dot ? dot + 1 : r->host, "localhost") == 0;
}

static void place_add(struct place *places, size_t *count, struct addr addr, bool v6only)
{
    if (*count < BIND_ADDRS_MAX)
        places[(*count)++] = (struct place){addr, v6only};
}

/* IPv6 listeners are always v6only: a dual-stack address is two places. */
static void place_add_split(struct place *places, size_t *count, struct addr addr, bool v6only)
{
    uint8_t zero[4] = {0};
    addr = addr_unmap(&addr);
    if (addr.sa.sa_family == AF_INET6 && addr_is_wildcard(&addr) && !v6only)
        place_add(places, count, addr_make(AF_INET, zero, addr_port(&addr)), false);
    place_add(places, count, addr, addr.sa.sa_family == AF_INET6);
}

/* A program that speaks berth's own language bound no address: it is reached where its names point
 * to. */
static void places_native(const struct app *a, uint16_t port, struct place *places, size_t *count)
{
    bool local = true;
    for (size_t i = 0; i < a->route_count; i++)
        local &= host_is_local(&a->routes[i]);
    struct in_addr v4 = {htonl(local ? INADDR_LOOPBACK : INADDR_ANY)};
    struct in6_addr v6 = local ? in6addr_loopback : in6addr_any;
    place_add(places, count, addr_make(AF_INET, &v4, port), false);
    place_add(places, count, addr_make(AF_INET6, &v6, port), true);
}

/* A base of a pool: where its definition says, as far as it is this base's port. */
static void places_preset(const struct bind *b, const struct route *r, struct place *places,
                          size_t *count)
{
    for (size_t i = 0; i < b->app->listen_count; i++) {
        struct addr addr = b->app->listens[i];
        if (addr_port(&addr) != b->port)
            continue;
        if (r->port && addr.sa.sa_family != AF_UNIX)
            addr_set_port(&addr, r->port);
        place_add_split(places, count, addr, true);
    }
}

static size_t places_of(const struct bind *b, const struct route *r, struct place *places)
{
    size_t count = 0;
    if (b->preset) {
        places_preset(b, r, places, &count);
        return count;
    }
    if (b->addr.sa.sa_family == AF_UNSPEC) {
        places_native(b->app, r->port, places, &count);
    } else {
        struct addr addr = b->addr;
        if (r->port)
            addr_set_port(&addr, r->port);
        place_add_split(places, &count, addr, b->v6only);
    }
    for (size_t i = 0; i < b->app->listen_count; i++) {
        const struct addr *extra = &b->app->listens[i];
        if (extra->sa.sa_family == AF_UNIX || !r->port || r->port == addr_port(extra))
            place_add_split(places, &count, *extra, true);
    }
    return count;
}

/* A route that names a port is for the bind at that port, when the program has one. */
static bool route_applies(const struct bind *b, const struct route *r)
{
    uint16_t port = addr_port(&b->addr);
    if (b->addr.sa.sa_family == AF_UNSPEC || r->port == 0 || r->port == port)
        return true;
    for (size_t i = 0; i < b->app->route_count; i++)
        if (b->app->routes[i].port == port)
            return false;
    return true;
}

/* The claim that this one is again, after a change of routes. */
static struct claim *same_find(struct bind *b, const struct claim *c)
{
    list_for_each(other, bucket_of(b->server, &c->route), struct claim,
                  bucket) if (other->bind == b && other != c &&
                              route_same(&other->route, &c->route) &&
                              addr_equal(&other->bound, &c->bound)) return other;
    return NULL;
}

static struct claim *conflict_find(struct server *s, const struct claim *c)
{
    list_for_each(
        other, bucket_of(s, &c->route), struct claim,
        bucket) if (other->bind != c->bind && route_same(&other->route, &c->route) &&
                    addr_overlap(&other->bound, other->v6only, &c->bound, c->v6only)) return other;
    return NULL;
}

static void listener_unref(struct server *s, struct shared_listener *l)
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
    list_remove(&l->link);
    free(l);
}

static struct shared_listener *listener_new(struct server *s, const struct claim *c, bool alone,
                                            int *ret_err)
{
    struct shared_listener *l = calloc(1, sizeof *l);
    *ret_err = -ENOMEM;
    if (!l)
        return NULL;
    l->bound = c->bound;
    l->v6only = c->v6only;
    l->proxy = c->bind->app->flags & APPMSG_PROXY;
    l->fd_count = s->threads;
    *ret_err = descriptors_left(c->bind->base) ? listen_open(&l->bound, alone, l->fds, l->fd_count)
                                               : -EMFILE;
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
    list_append(&s->listeners, &l->link);
    return l;
}

/* The listener for the claim's address, opened when nobody had it. */
static int listener_get(struct server *s, struct claim *c, char reason[REASON_MAX])
{
    char text[ADDR_TEXT_MAX];
    bool alone = true, proxy = c->bind->app->flags & APPMSG_PROXY;
    list_for_each(l, &s->listeners, struct shared_listener, link)
    {
        alone &= addr_port(&l->bound) != addr_port(&c->bound);
        if (!addr_equal(&l->bound, &c->bound))
            continue;
        if (l->proxy != proxy) {
            (void)snprintf(reason, REASON_MAX,
                           "%s is shared %s --proxy: all that share a port must agree",
                           addr_format(&c->bound, text), l->proxy ? "with" : "without");
            return -EADDRINUSE;
        }
        l->refs++;
        c->listener = l;
        return 0;
    }
    int r;
    c->listener = listener_new(s, c, alone, &r);
    if (c->listener) {
        c->listener->refs = 1;
        return 0;
    }
    int n = snprintf(reason, REASON_MAX, "cannot open %s: %s\n", addr_format(&c->bound, text),
                     strerror(-r));
    if (c->bound.sa.sa_family != AF_UNIX)
        (void)why_bind_failed(&c->bound, -r, reason + n, REASON_MAX - (size_t)n);
    return r;
}

static void claim_free(struct claim *c)
{
    struct server *s = c->bind->server;
    if (c->listener) {
        dispatch_drop(s, DISPATCH_DROP_CLAIM, c->id);
        listener_unref(s, c->listener);
    }
    list_remove(&c->link);
    list_remove(&c->bucket);
    if (c->id != UINT32_MAX)
        numbers_give(&s->claim_numbers, c->id);
    free(c);
}

static int conflict_refuse(const struct claim *c, const struct claim *other,
                           char reason[REASON_MAX])
{
    char route[ROUTE_TEXT_MAX], owner[512];
    report_owner(other->bind, owner, sizeof owner);
    (void)snprintf(reason, REASON_MAX,
                   "%s belongs to %s\n"
                   "choose another name with --as, or stop that program",
                   route_format(&c->route, route), owner);
    return -EADDRINUSE;
}

/* 0: made, or left out because another bind of the same application has it. */
static int claim_make(struct bind *b, const struct route *r, const struct place *p,
                      char reason[REASON_MAX])
{
    struct server *s = b->server;
    struct route route = *r;
    route.port = addr_port(&p->addr);
    int admitted = reserve_admit_claim(b, &route, &p->addr, reason);
    if (admitted < 0)
        return admitted;
    struct claim *c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->bind = b;
    c->route = route;
    c->bound = p->addr;
    c->v6only = p->v6only;
    c->id = UINT32_MAX;
    list_init(&c->bucket);
    list_append(&b->claims, &c->link);
    struct claim *same = same_find(b, c);
    if (same) {
        same->stale = false;
        claim_free(c);
        return 0;
    }
    for (struct claim *other; (other = conflict_find(s, c));) {
        if (other->bind->app == b->app) {
            claim_free(c);
            return 0;
        }
        /* An owner that is gone, only not yet noticed, is no owner. */
        if (bind_check(other->bind)) {
            int refused = conflict_refuse(c, other, reason);
            claim_free(c);
            return refused;
        }
    }
    c->id = numbers_take(&s->claim_numbers);
    if (c->id != UINT32_MAX && s->board)
        c->delivered_before = board_get(&s->board->delivered[c->id]);
    int r2 = c->id == UINT32_MAX ? -ENOSPC : listener_get(s, c, reason);
    if (r2 < 0)
        claim_free(c);
    else
        list_append(bucket_of(s, &c->route), &c->bucket);
    return r2;
}

static int claims_make_route(struct bind *b, const struct route *r, char reason[REASON_MAX])
{
    struct place places[BIND_ADDRS_MAX];
    if (b->addr.sa.sa_family == AF_UNSPEC && r->port == 0) {
        (void)snprintf(reason, REASON_MAX,
                       "a route of a program that binds no address names its port: "
                       "%s:8080/",
                       r->host);
        return -EINVAL;
    }
    size_t count = places_of(b, r, places);
    for (size_t i = 0; i < count; i++) {
        int err = claim_make(b, r, &places[i], reason);
        if (err < 0)
            return err;
    }
    return 0;
}

/* On loopback every application has an address of its own as well, where any protocol reaches it,
 * also one in which the server speaks first. It follows from the name, so that it stays the same.
 */
static struct addr own_address(const struct app *a, uint16_t port, uint32_t attempt)
{
    uint32_t h = (2166136261u ^ a->uid ^ attempt << 24) * 16777619u;
    for (const char *p = a->name; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    uint8_t ip[4] = {127, (uint8_t)(1 + h % 254), (uint8_t)(h >> 8),
                     (uint8_t)(1 + (h >> 16) % 254)};
    return addr_make(AF_INET, ip, port);
}

static bool serves_loopback(const struct bind *b)
{
    struct addr addr = addr_unmap(&b->addr);
    if (addr_is_wildcard(&addr))
        return addr.sa.sa_family == AF_INET || !b->v6only;
    return addr.sa.sa_family == AF_INET && addr_is_loopback(&addr);
}

/* Not having it is no reason to refuse the program: somebody else may hold the address. */
static void claim_make_own(struct bind *b)
{
    char reason[REASON_MAX];
    if (!serves_loopback(b))
        return;
    for (uint32_t attempt = 0; attempt < OWN_ATTEMPTS; attempt++) {
        struct place place = {own_address(b->app, addr_port(&b->addr), attempt), false};
        struct route route = {.scheme = SCHEME_TCP, .kind = HOST_ADDR, .addr = place.addr};
        (void)inet_ntop(AF_INET, &place.addr.v4.sin_addr, route.host, sizeof route.host);
        if (claim_make(b, &route, &place, reason) == 0)
            return;
    }
}

static int claims_add(struct bind *b, char reason[REASON_MAX])
{
    for (size_t i = 0; i < b->app->route_count; i++) {
        const struct route *r = &b->app->routes[i];
        int err = route_applies(b, r) ? claims_make_route(b, r, reason) : 0;
        if (err < 0)
            return err;
    }
    if (!list_empty(&b->claims)) {
        claim_make_own(b);
        return 0;
    }
    (void)snprintf(reason, REASON_MAX, "no route of %s is for this port", b->app->name);
    return -ENOENT;
}

int claims_make(struct bind *b, char reason[REASON_MAX])
{
    int r = claims_add(b, reason);
    if (r < 0)
        claims_free(b);
    return r;
}

void claims_free(struct bind *b)
{
    list_for_each(c, &b->claims, struct claim, link) claim_free(c);
}

int claims_listen(struct bind *b, char reason[REASON_MAX])
{
    struct server *s = b->server;
    int r = list_empty(&b->claims) ? claims_make(b, reason) : 0;
    if (r < 0)
        return r;
    list_for_each(c, &b->claims, struct claim, link)
    {
        struct shared_listener *l = c->listener;
        if (!l->listening) {
            r = listen_start(l->fds, l->fd_count);
            if (r < 0) {
                (void)snprintf(reason, REASON_MAX, "cannot listen: %s", strerror(-r));
                claims_free(b); /* What dispatch was told already goes, too. */
                return r;
            }
            l->listening = true;
            dispatch_listener(s, l);
        }
        if (!c->told)
            dispatch_claim(s, c);
        c->told = true;
    }
    return 0;
}

const struct claim *claim_serving(struct server *s, const struct route *r, const struct addr *bound)
{
    list_for_each(c, bucket_of(s, r), struct claim,
                  bucket) if (c->bind->listening && route_same(&c->route, r) &&
                              addr_covers(&c->bound, c->v6only, bound)) return c;
    return NULL;
}

int claims_update(struct bind *b, char reason[REASON_MAX])
{
    list_for_each(c, &b->claims, struct claim, link) c->stale = c->kept = true;
    int r = claims_add(b, reason);
    list_for_each(c, &b->claims, struct claim, link)
    {
        if (r < 0 ? !c->kept : c->stale)
            claim_free(c);
        else
            c->stale = c->kept = false;
    }
    return r;
}

bool claims_share_host(const struct claim *c)
{
    if (c->route.scheme != SCHEME_HTTP)
        return false;
    list_for_each(
        other, bucket_of(c->bind->server, &c->route), struct claim,
        bucket) if (other->bind->app != c->bind->app && other->route.scheme == SCHEME_HTTP &&
                    other->route.kind == c->route.kind && other->route.port == c->route.port &&
                    strcmp(other->route.host, c->route.host) == 0) return true;
    return false;
}

void claims_notice(const struct bind *b, char reason[REASON_MAX])
{
    reason[0] = 0;
    list_for_each(c, &b->claims, struct claim, link) if (claims_share_host(c))
    {
        (void)snprintf(reason, REASON_MAX,
                       "%s:%u is served by several programs: later requests on a kept-alive "
                       "connection stay with the program that got its first one",
                       c->route.host[0] ? c->route.host : "*", c->route.port);
        return;
    }
}
