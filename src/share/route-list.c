/* Shows the table: rebuilds entries for the page that says what a port serves. The entry that is
 * handed out lives as long as the call. */
#include "share/route-table.h"

static struct addr scope_addr(const struct route_scope *s)
{
    if (s->ip.family != AF_UNIX)
        return addr_make(s->ip.family, s->ip.ip, s->port);
    struct addr a = {.un.sun_family = AF_UNIX};
    size_t n = s->ip.size < sizeof a.un.sun_path ? s->ip.size : sizeof a.un.sun_path - 1;
    memcpy(a.un.sun_path, s->ip.path, n);
    a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + 1);
    return a;
}

static void host_write(const struct route_table *t, const struct route_host *h, struct route *r)
{
    const char *text = t->text + h->text;
    r->scheme = (enum route_scheme)h->scheme;
    r->kind = (enum host_kind)h->kind;
    if (r->kind == HOST_ADDR)
        r->addr = addr_make(h->len == 4 ? AF_INET : AF_INET6, text, 0);
    else
        memcpy(r->host, text, h->len);
}

static void leaf_write(const struct route_table *t, const struct route_leaf *l,
                       struct route_entry *e)
{
    struct route *r = &e->route;
    struct str word = route_leaf_word(t, l);
    r->port = l->port;
    if (l->from_family) {
        r->from = (struct prefix){.family = l->from_family, .bits = l->from_bits};
        memcpy(r->from.ip, t->text + l->extra, sizeof r->from.ip);
    }
    memcpy(r->scheme == SCHEME_TLS ? r->alpn : r->user, word.p, word.n);
    e->claim = l->claim;
    e->app = l->app;
}

/* One entry on its way to the callback. */
struct place {
    const struct route_host *host;
    uint32_t path, leaf;
};

static struct route_entry place_entry(const struct route_table *t, const struct place *p)
{
    const struct route_scope *s = &t->scopes[p->host->scope];
    const struct route_path *path = &t->paths[p->path];
    struct route_entry e = {.bound = scope_addr(s), .v6only = s->v6only};
    host_write(t, p->host, &e.route);
    e.route.path_len = path->len;
    memcpy(e.route.path, t->text + path->text, path->len);
    leaf_write(t, &t->leaves[p->leaf], &e);
    return e;
}

static bool leaf_same(const struct route_table *t, const struct route_leaf *a,
                      const struct route_leaf *b)
{
    size_t from = a->from_family ? 16 : 0;
    return a->claim == b->claim && a->port == b->port && a->from_family == b->from_family &&
           a->from_bits == b->from_bits && a->word == b->word &&
           memcmp(t->text + a->extra, t->text + b->extra, from + a->word) == 0;
}

/* Is the same leaf among those of the path before `end`? */
static bool path_has(const struct route_table *t, uint32_t path, uint32_t end,
                     const struct route_leaf *l)
{
    for (uint32_t i = t->paths[path].leaf; i < end; i++)
        if (leaf_same(t, &t->leaves[i], l))
            return true;
    return false;
}

/* Is the same leaf at the path with exactly this text? */
static bool host_has(const struct route_table *t, const struct route_host *h, struct str text,
                     const struct route_leaf *l)
{
    uint32_t low = h[0].path, end = h[1].path, high = end;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (route_text_cmp(route_path_text(t, mid), text) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < end && str_eq(route_path_text(t, low), text) &&
           path_has(t, low, t->paths[low + 1].leaf, l);
}

/* A program that bound two addresses which both cover the local one has one entry in each scope:
 * only the first is shown. */
static bool was_shown(const struct route_table *t, const struct route_cover *c,
                      const struct place *p)
{
    const struct route_leaf *l = &t->leaves[p->leaf];
    const struct route_host *h = p->host;
    if (path_has(t, p->path, p->leaf, l))
        return true;
    struct str host = {t->text + h->text, h->len};
    struct str path = route_path_text(t, p->path);
    struct route_key key = {host, route_hash(t->seed, host)};
    for (uint32_t i = 0; i < c->count && c->scope[i] != h->scope; i++) {
        const struct route_host *other = route_find_host(
            t, c->scope[i], (enum route_scheme)h->scheme, (enum host_kind)h->kind, &key);
        if (other && host_has(t, other, path, l))
            return true;
    }
    return false;
}

typedef bool each_fn(void *ctx, const struct route_entry *e);

static bool host_each(const struct route_table *t, const struct route_cover *c,
                      const struct route_host *h, each_fn *fn, void *ctx)
{
    for (uint32_t path = h[0].path; path < h[1].path; path++)
        for (uint32_t i = t->paths[path].leaf; i < t->paths[path + 1].leaf; i++) {
            struct place p = {h, path, i};
            if (was_shown(t, c, &p))
                continue;
            struct route_entry e = place_entry(t, &p);
            if (!fn(ctx, &e))
                return false;
        }
    return true;
}

void route_each(const struct route_table *t, const struct addr *local, each_fn *fn, void *ctx)
{
    struct route_cover c = route_find_cover(t, local);
    for (uint32_t i = 0; i < c.count; i++) {
        const struct route_scope *s = &t->scopes[c.scope[i]];
        for (uint32_t h = s[0].host; h < s[1].host; h++)
            if (!host_each(t, &c, &t->hosts[h], fn, ctx))
                return;
    }
}
