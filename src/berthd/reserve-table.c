/* The table of reservations. Routes come in; who owns them goes out. A bucket is found by what must
 * be equal (scheme, category, host); the rest of the question is a comparison of each in it. */
#include "berthd/reserve-table.h"

#include <stdlib.h>

void reserve_table_init(struct reserve_table *t)
{
    t->count = 0;
    list_init(&t->all);
    for (size_t i = 0; i < RESERVE_BUCKETS; i++)
        list_init(&t->buckets[i]);
}

void reserve_table_done(struct reserve_table *t)
{
    list_for_each(r, &t->all, struct reservation, link) reserve_table_remove(t, r);
}

static size_t bucket_number(const struct route *r)
{
    uint32_t h = 2166136261u ^ (uint32_t)r->scheme << 8 ^ (uint32_t)r->kind;
    for (const char *p = r->host; *p; p++)
        h = (h ^ (uint8_t)*p) * 16777619u;
    return h % RESERVE_BUCKETS;
}

static const struct list *bucket_of(const struct reserve_table *t, const struct route *r)
{
    return &t->buckets[bucket_number(r)];
}

/* The port of the address is not a route's. */
static bool same_ip(const struct addr *a, const struct addr *b)
{
    struct addr x = *a, y = *b;
    addr_set_port(&x, 0);
    addr_set_port(&y, 0);
    return addr_equal(&x, &y);
}

static bool same_host(const struct route *a, const struct route *b)
{
    if (a->scheme != b->scheme || a->kind != b->kind)
        return false;
    return a->kind == HOST_ADDR ? same_ip(&a->addr, &b->addr) : strcmp(a->host, b->host) == 0;
}

/* A route for fewer sources lies below one for more. */
static bool from_covers(const struct prefix *wide, const struct prefix *narrow)
{
    if (wide->family == AF_UNSPEC)
        return true;
    if (narrow->family != wide->family || narrow->bits < wide->bits)
        return false;
    struct addr a = addr_make(narrow->family, narrow->ip, 0);
    return prefix_matches(wide, &a);
}

/* Paths of http end in a slash, so that a prefix is one of whole segments. A database is not a path
 * of parts. */
static bool path_covers(const struct route *wide, const struct route *narrow)
{
    bool prefix =
        wide->path_len <= narrow->path_len && memcmp(wide->path, narrow->path, wide->path_len) == 0;
    if (wide->scheme == SCHEME_POSTGRES)
        return wide->path_len == 0 || (prefix && wide->path_len == narrow->path_len);
    return prefix;
}

static bool word_covers(const char *wide, const char *narrow)
{
    return !*wide || strcmp(wide, narrow) == 0;
}

bool reserve_covers(const struct route *wide, const struct route *narrow)
{
    return same_host(wide, narrow) && (wide->port == 0 || wide->port == narrow->port) &&
           path_covers(wide, narrow) && from_covers(&wide->from, &narrow->from) &&
           word_covers(wide->alpn, narrow->alpn) && word_covers(wide->user, narrow->user);
}

/* Of two that cover the same route: does a lie nearer? */
static bool is_nearer(const struct route *a, const struct route *b)
{
    if (a->path_len != b->path_len)
        return a->path_len > b->path_len;
    if (!a->port != !b->port)
        return a->port != 0;
    if ((a->from.family == AF_UNSPEC) != (b->from.family == AF_UNSPEC))
        return a->from.family != AF_UNSPEC;
    if (a->from.bits != b->from.bits)
        return a->from.bits > b->from.bits;
    return (a->alpn[0] || a->user[0]) && !b->alpn[0] && !b->user[0];
}

const struct reservation *reserve_table_cover(const struct reserve_table *t,
                                              const struct route *route,
                                              const struct reservation *except)
{
    const struct reservation *best = NULL;
    list_for_each(r, bucket_of(t, route), struct reservation, bucket)
    {
        if (r == except || !reserve_covers(&r->route, route))
            continue;
        if (!best || is_nearer(&r->route, &best->route))
            best = r;
    }
    return best;
}

struct reservation *reserve_table_find(const struct reserve_table *t, const struct route *route)
{
    list_for_each(r, bucket_of(t, route), struct reservation,
                  bucket) if (route_same(&r->route, route)) return r;
    return NULL;
}

int reserve_table_add(struct reserve_table *t, const struct reservation *r)
{
    if (reserve_table_find(t, &r->route))
        return -EEXIST;
    if (t->count >= RESERVATIONS_MAX)
        return -ENOSPC;
    struct reservation *copy = malloc(sizeof *copy);
    if (!copy)
        return -ENOMEM;
    *copy = *r;
    list_init(&copy->refusals);
    list_append(&t->all, &copy->link);
    list_append(&t->buckets[bucket_number(&r->route)], &copy->bucket);
    t->count++;
    return 0;
}

void reserve_table_remove(struct reserve_table *t, struct reservation *r)
{
    list_remove(&r->link);
    list_remove(&r->bucket);
    t->count--;
    free(r);
}
