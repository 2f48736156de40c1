/* From a bind to its claims: each route of the application, at each address that the program bound
 * or asked for beside it, with the listener that brings its connections. A claim that another
 * living program has already is refused with that program's name. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "berthd/reserve.h"
#include "berthd/server.h"
#include "share/listen.h"

/* Names whose own loopback addresses collide try a few more. */
#define OWN_ATTEMPTS 4

/* What is to be claimed: a route with its port filled in, at an address. */
struct wish {
    struct bind *bind;
    struct addr addr;
    uint8_t scheme;
    uint16_t host_len;
    uint32_t hash, host_hash;
    char route[ROUTE_TEXT_MAX];
};

static void wish_make(struct wish *w, struct bind *b, const struct route *r,
                      const struct addr *addr)
{
    w->bind = b;
    w->addr = *addr;
    w->scheme = (uint8_t)r->scheme;
    const char *host = strstr(route_format(r, w->route), "://");
    const char *end = host ? host + 3 + strcspn(host + 3, "/?") : w->route;
    w->host_len = (uint16_t)(end - w->route);
    w->hash = index_hash(w->route, strlen(w->route));
    w->host_hash = index_hash(w->route, w->host_len);
}

/* Our listeners for IPv6 are for IPv6 only. */
static bool is_v6only(const struct addr *a)
{
    return a->sa.sa_family == AF_INET6;
}

static bool host_is_local(const struct route *r)
{
    const char *dot = strrchr(r->host, '.');
    return strcmp(dot ? dot + 1 : r->host, "localhost") == 0;
}

/* Claims for peers are at no address, all of them. */
static bool is_same_place(const struct addr *a, const struct addr *b)
{
    bool none = a->sa.sa_family == AF_UNSPEC;
    return none ? b->sa.sa_family == AF_UNSPEC : addr_equal(a, b);
}

static bool places_overlap(const struct addr *a, const struct addr *b)
{
    if (a->sa.sa_family == AF_UNSPEC || b->sa.sa_family == AF_UNSPEC)
        return a->sa.sa_family == b->sa.sa_family;
    return addr_overlap(a, is_v6only(a), b, is_v6only(b));
}

/* Addresses where connections for a bind arrive. */
struct places {
    size_t count;
    struct addr items[BIND_ADDRS_MAX];
};

static void place_add(struct places *p, struct addr addr)
{
    if (p->count < BIND_ADDRS_MAX)
        p->items[p->count++] = addr;
}

/* A dual-stack address is two places. */
static void place_add_split(struct places *p, struct addr addr, bool v6only)
{
    uint8_t zero[4] = {0};
    addr = addr_unmap(&addr);
    if (addr.sa.sa_family == AF_INET6 && addr_is_wildcard(&addr) && !v6only)
        place_add(p, addr_make(AF_INET, zero, addr_port(&addr)));
    place_add(p, addr);
}

/* What all routes of an application together say about a bind; looked at when it is asked for. */
struct outlook {
    const struct bind *bind;
    bool known;
    bool local;      /* all hosts are below localhost */
    bool port_named; /* a route names the very port of the bind */
};

static void outlook_see(struct outlook *o)
{
    const struct app *a = o->bind->app;
    struct route routes[2];
    if (o->known)
        return;
    o->known = o->local = true;
    for (size_t i = 0; i < a->route_count; i++) {
        size_t n = app_route(a, i, routes);
        for (size_t k = 0; k < n; k++) {
            o->local &= routes[k].scheme == SCHEME_PEER || host_is_local(&routes[k]);
            o->port_named |= routes[k].port == addr_port(&o->bind->addr);
        }
    }
}

/* A program that speaks berth's own language bound no address: it is reached where its names point
 * to. */
static void places_native(struct outlook *o, uint16_t port, struct places *p)
{
    outlook_see(o);
    struct in_addr v4 = {htonl(o->local ? INADDR_LOOPBACK : INADDR_ANY)};
    struct in6_addr v6 = o->local ? in6addr_loopback : in6addr_any;
    place_add(p, addr_make(AF_INET, &v4, port));
    place_add(p, addr_make(AF_INET6, &v6, port));
}

/* A base of a pool: where its definition says, as far as it is this base's port. */
static void places_preset(const struct bind *b, const struct route *r, struct places *p)
{
    for (size_t i = 0; i < b->app->listen_count; i++) {
        struct addr addr = b->app->listens[i];
        if (addr_port(&addr) != b->port)
            continue;
        if (r->port && addr.sa.sa_family != AF_UNIX)
            addr_set_port(&addr, r->port);
        place_add_split(p, addr, true);
    }
}

static void places_of(struct outlook *o, const struct route *r, struct places *p)
{
    const struct bind *b = o->bind;
    p->count = 0;
    if (r->scheme == SCHEME_PEER) {
        place_add(p, (struct addr){0});
        return;
    }
    if (b->preset) {
        places_preset(b, r, p);
        return;
    }
    if (b->addr.sa.sa_family == AF_UNSPEC) {
        places_native(o, r->port, p);
    } else {
        struct addr addr = b->addr;
        if (r->port)
            addr_set_port(&addr, r->port);
        place_add_split(p, addr, b->v6only);
    }
    for (size_t i = 0; i < b->app->listen_count; i++) {
        const struct addr *extra = &b->app->listens[i];
        if (extra->sa.sa_family == AF_UNIX || !r->port || r->port == addr_port(extra))
            place_add_split(p, *extra, true);
    }
}

/* A route that names a port is for the bind at that port, when the program has one. */
static bool route_applies(struct outlook *o, const struct route *r)
{
    const struct addr *a = &o->bind->addr;
    if (r->scheme == SCHEME_PEER)
        return r->port == 0 || o->bind->preset || r->port == addr_port(a);
    if (a->sa.sa_family == AF_UNSPEC || r->port == 0 || r->port == addr_port(a))
        return true;
    outlook_see(o);
    return !o->port_named;
}

static bool claim_is(const struct claim *c, uint32_t hash, const char *route)
{
    return c->by_route.hash == hash && strcmp(c->route, route) == 0;
}

/* The claim that this one is again, after a change of routes. */
static struct claim *same_find(const struct wish *w)
{
    list_for_each(c, index_list(&w->bind->server->claims, w->hash), struct claim,
                  by_route.link) if (c->bind == w->bind && claim_is(c, w->hash, w->route) &&
                                     is_same_place(&c->listener->bound, &w->addr)) return c;
    return NULL;
}

static struct claim *conflict_find(const struct wish *w)
{
    list_for_each(c, index_list(&w->bind->server->claims, w->hash), struct claim, by_route.link)
    {
        if (c->bind != w->bind && claim_is(c, w->hash, w->route) &&
            places_overlap(&c->listener->bound, &w->addr))
            return c;
    }
    return NULL;
}

static void claim_free(struct claim *c)
{
    struct server *s = c->bind->server;
    dispatch_drop(s, DISPATCH_DROP_CLAIM, c->id);
    listener_unref(s, c->listener);
    list_remove(&c->link);
    index_remove(&s->claims, &c->by_route);
    index_remove(&s->claim_hosts, &c->by_host);
    numbers_give(&s->claim_numbers, c->id);
    free(c);
}

static int conflict_refuse(const struct wish *w, const struct claim *other, char reason[REASON_MAX])
{
    char owner[512];
    report_owner(other->bind, owner, sizeof owner);
    (void)snprintf(reason, REASON_MAX,
                   "%s belongs to %s\n"
                   "choose another name with --as, or stop that program",
                   w->route, owner);
    return -EADDRINUSE;
}

static int claim_new(const struct wish *w, char reason[REASON_MAX])
{
    struct server *s = w->bind->server;
    size_t n = strlen(w->route) + 1;
    struct claim *c = calloc(1, sizeof *c + n);
    if (!c)
        return -ENOMEM;
    memcpy(c->route, w->route, n);
    c->bind = w->bind;
    c->scheme = w->scheme;
    c->host_len = w->host_len;
    c->id = numbers_take(&s->claim_numbers);
    int r = c->id == UINT32_MAX ? -ENOSPC : listener_get(w->bind, &w->addr, &c->listener, reason);
    if (r < 0) {
        if (c->id != UINT32_MAX)
            numbers_give(&s->claim_numbers, c->id);
        free(c);
        return r;
    }
    if (s->board)
        c->delivered_before = board_get(&s->board->delivered[c->id]);
    list_append(&w->bind->claims, &c->link);
    index_add(&s->claims, &c->by_route, w->hash);
    index_add(&s->claim_hosts, &c->by_host, w->host_hash);
    return 0;
}

/* 0: made, or left out because another bind of the same application has it. The port is the
 * route's from now on. */
static int claim_make(struct bind *b, struct route *r, const struct addr *addr,
                      char reason[REASON_MAX])
{
    struct wish w;
    r->port = addr_port(addr);
    int admitted = reserve_admit_claim(b, r, addr, reason);
    if (admitted < 0)
        return admitted;
    wish_make(&w, b, r, addr);
    struct claim *same = same_find(&w);
    if (same) {
        same->stale = false;
        return 0;
    }
    for (struct claim *other; (other = conflict_find(&w));) {
        if (other->bind->app == b->app)
            return 0;
        /* An owner that is gone, only not yet noticed, is no owner. */
        if (bind_check(other->bind))
            return conflict_refuse(&w, other, reason);
    }
    return claim_new(&w, reason);
}

static int claims_make_route(struct outlook *o, struct bind *b, struct route *r,
                             char reason[REASON_MAX])
{
    struct places places;
    if (b->addr.sa.sa_family == AF_UNSPEC && r->port == 0 && r->scheme != SCHEME_PEER) {
        (void)snprintf(reason, REASON_MAX,
                       "a route of a program that binds no address names its port: "
                       "%s:8080/",
                       r->host);
        return -EINVAL;
    }
    places_of(o, r, &places);
    for (size_t i = 0; i < places.count; i++) {
        int err = claim_make(b, r, &places.items[i], reason);
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
        struct addr own = own_address(b->app, addr_port(&b->addr), attempt);
        struct route route = {.scheme = SCHEME_TCP, .kind = HOST_ADDR, .addr = own};
        (void)inet_ntop(AF_INET, &own.v4.sin_addr, route.host, sizeof route.host);
        if (claim_make(b, &route, &own, reason) == 0)
            return;
    }
}

static int claims_add(struct bind *b, char reason[REASON_MAX])
{
    struct outlook o = {.bind = b};
    struct route routes[2];
    for (size_t i = 0; i < b->app->route_count; i++) {
        size_t n = app_route(b->app, i, routes);
        for (size_t k = 0; k < n; k++) {
            struct route *r = &routes[k];
            int err = route_applies(&o, r) ? claims_make_route(&o, b, r, reason) : 0;
            if (err < 0)
                return err;
        }
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
    char text[ROUTE_TEXT_MAX];
    uint32_t hash = index_hash(text, strlen(route_format(r, text)));
    list_for_each(c, index_list(&s->claims, hash), struct claim, by_route.link)
    {
        const struct addr *at = &c->listener->bound;
        if (c->bind->listening && claim_is(c, hash, text) && addr_covers(at, is_v6only(at), bound))
            return c;
    }
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
    const struct index *hosts = &c->bind->server->claim_hosts;
    if (c->scheme != SCHEME_HTTP)
        return false;
    list_for_each(other, index_list(hosts, c->by_host.hash), struct claim,
                  by_host.link) if (other->bind->app != c->bind->app &&
                                    other->host_len == c->host_len &&
                                    memcmp(other->route, c->route, c->host_len) == 0) return true;
    return false;
}

void claims_notice(const struct bind *b, char reason[REASON_MAX])
{
    int scheme = sizeof "http://" - 1;
    reason[0] = 0;
    list_for_each(c, &b->claims, struct claim, link) if (claims_share_host(c))
    {
        (void)snprintf(reason, REASON_MAX,
                       "%.*s is served by several programs: later requests on a kept-alive "
                       "connection stay with the program that got its first one",
                       c->host_len - scheme, c->route + scheme);
        return;
    }
}
