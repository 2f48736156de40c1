/* Asks the table: which claim gets a connection. Addresses and what was sniffed come in, a claim's
 * number goes out. Pure, without locks or allocation, so that every dispatch thread may ask the
 * same table at once. */
#include "share/route-table.h"

/* One connection in search of its claim. */
struct search {
    const struct route_table *t;
    const struct addr *peer;
    const struct sniffed *sniffed; /* NULL: nothing read */
    struct route_cover cover;
    struct ipkey local;
    struct str host;
};

/* What the paths of one scheme are compared with. */
struct wanted {
    enum route_scheme scheme;
    struct str path;
    bool slash; /* a final slash is to be thought of behind the path */
    bool whole; /* a route's path is this one or none, as a database is */
};

/* A hit, with all that ranks it inside its category. */
struct hit {
    const struct route_leaf *leaf;
    uint32_t path_len, from;
};

const struct route_port *route_find_port(const struct route_table *t, uint16_t port)
{
    uint32_t low = 0, high = t->port_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (t->ports[mid].port < port)
            low = mid + 1;
        else
            high = mid;
    }
    return low < t->port_count && t->ports[low].port == port ? &t->ports[low] : NULL;
}

/* The scope bound to just this address, or INDEX_NONE. */
static uint32_t find_exact(const struct route_table *t, const struct route_port *port,
                           const struct ipkey *ip)
{
    uint32_t low = port[0].scope, end = port[1].scope, high = end;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (route_ipkey_cmp(&t->scopes[mid].ip, ip) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < end && route_ipkey_cmp(&t->scopes[low].ip, ip) == 0 ? low : INDEX_NONE;
}

static void cover_add(struct route_cover *c, uint32_t scope)
{
    if (scope != INDEX_NONE)
        c->scope[c->count++] = scope;
}

/* This is addr_covers() turned round. */
static struct route_cover find_cover(const struct route_table *t, uint16_t port_number,
                                     const struct ipkey *ip)
{
    struct route_cover c = {.count = 0};
    const struct route_port *port = route_find_port(t, port_number);
    if (!port)
        return c;
    bool v4 = ip->family == AF_INET, v6 = ip->family == AF_INET6;
    uint32_t exact = v4 ? port->exact4 : v6 ? port->exact6 : 1;
    if (exact > 0 && !route_ipkey_is_wildcard(ip))
        cover_add(&c, find_exact(t, port, ip));
    if (v4 || v6) {
        cover_add(&c, v4 ? port->any4 : port->only6);
        cover_add(&c, port->dual);
    }
    return c;
}

struct route_cover route_find_cover(const struct route_table *t, const struct addr *local)
{
    struct ipkey ip = route_ipkey(local);
    return find_cover(t, addr_port(local), &ip);
}

const struct route_host *route_find_host(const struct route_table *t, uint32_t scope,
                                         enum route_scheme scheme, enum host_kind kind,
                                         const struct route_key *key)
{
    uint64_t hash = route_hash_key(key->hash, scope, scheme, kind);
    uint32_t tag = (uint32_t)(hash >> 32);
    for (uint32_t at = (uint32_t)hash & t->mask;; at = (at + 1) & t->mask) {
        const struct route_slot *slot = &t->slots[at];
        if (slot->host == INDEX_NONE)
            return NULL;
        if (slot->tag != tag)
            continue;
        const struct route_host *h = &t->hosts[slot->host];
        /* In a large table these are three cache misses: let them run at the same time. */
        __builtin_prefetch(&t->paths[h->path]);
        __builtin_prefetch(&t->leaves[h->leaf]);
        if (h->scope == scope && h->scheme == scheme && h->kind == kind &&
            str_eq((struct str){t->text + h->text, h->len}, key->text))
            return h;
    }
}

/* How many bytes a route's path and the wanted one have in common, from the left. */
static size_t common_bytes(struct str path, const struct wanted *w)
{
    size_t n = path.n < w->path.n ? path.n : w->path.n;
    for (size_t i = 0; i < n; i++)
        if (path.p[i] != w->path.p[i])
            return i;
    return n + (w->slash && path.n > n && path.p[n] == '/');
}

/* Does the route's path sort behind the wanted one? */
static bool path_is_behind(struct str path, const struct wanted *w)
{
    size_t n = path.n < w->path.n ? path.n : w->path.n;
    int d = n > 0 ? memcmp(path.p, w->path.p, n) : 0;
    if (d || path.n == n)
        return d > 0;
    if (!w->slash)
        return true;
    uint8_t next = (uint8_t)path.p[n];
    return next > '/' || (next == '/' && path.n > n + 1);
}

/* The wanted path's bytes behind those that the host's paths share, as keys_fill() made theirs. */
static uint64_t wanted_key(const struct wanted *w, size_t shared)
{
    uint64_t key = 0;
    for (size_t i = shared; i < shared + KEY_BYTES; i++) {
        uint8_t next = w->slash && i == w->path.n ? '/' : 0;
        key = key << 8 | (i < w->path.n ? (uint8_t)w->path.p[i] : next);
    }
    return key;
}

/* The same as path_bound() among all paths but the first, all of which begin with what is shared.
 */
static uint32_t path_bound_keyed(const struct route_table *t, const struct route_host *h,
                                 const struct wanted *w)
{
    uint32_t low = h[0].path + 1, high = h[1].path;
    struct str shared = {route_path_text(t, low).p, h->shared};
    if (path_is_behind(shared, w))
        return low;
    if (common_bytes(shared, w) < shared.n)
        return high;
    uint64_t key = wanted_key(w, shared.n);
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        bool behind =
            t->keys[mid] == key ? path_is_behind(route_path_text(t, mid), w) : t->keys[mid] > key;
        if (behind)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

/* The first path of the host that sorts behind the wanted one. */
static uint32_t path_bound(const struct route_table *t, const struct route_host *h,
                           const struct wanted *w)
{
    uint32_t first = h[0].path, end = h[1].path;
    if (path_is_behind(route_path_text(t, first), w))
        return first;
    return first + 1 == end ? end : path_bound_keyed(t, h, w);
}

static bool from_fits(const struct search *s, const struct route_leaf *l)
{
    struct prefix p = {.family = l->from_family, .bits = l->from_bits};
    memcpy(p.ip, s->t->text + l->extra, sizeof p.ip);
    return prefix_matches(&p, s->peer);
}

static bool word_fits(const struct search *s, const struct route_leaf *l, enum route_scheme scheme)
{
    struct str word = route_leaf_word(s->t, l);
    if (!s->sniffed)
        return false;
    if (scheme != SCHEME_TLS)
        return str_eq(word, s->sniffed->user);
    for (size_t i = 0; i < s->sniffed->alpn_count && i < SNIFFED_ALPN_MAX; i++)
        if (str_eq(word, s->sniffed->alpn[i]))
            return true;
    return false;
}

/* The leaves are sorted, so the first that fits is the most constrained that does. */
static const struct route_leaf *path_leaf(const struct search *s, uint32_t path,
                                          enum route_scheme scheme)
{
    const struct route_table *t = s->t;
    for (uint32_t i = t->paths[path].leaf; i < t->paths[path + 1].leaf; i++) {
        const struct route_leaf *l = &t->leaves[i];
        if ((!l->from_family || from_fits(s, l)) && (!l->word || word_fits(s, l, scheme)))
            return l;
    }
    return NULL;
}

/* The longest path of one host that has something for this connection. Everything that the wanted
 * path begins with is the path in front of where it would be sorted in, or a parent of that. */
static struct hit host_hit(const struct search *s, const struct route_host *h,
                           const struct wanted *w)
{
    const struct route_table *t = s->t;
    uint32_t path = path_bound(t, h, w);
    if (path == h->path)
        return (struct hit){NULL, 0, 0};
    size_t common = common_bytes(route_path_text(t, --path), w);
    for (; path != INDEX_NONE; path = t->paths[path].parent) {
        uint16_t len = t->paths[path].len;
        if (len > common || (w->whole && len > 0 && len != w->path.n))
            continue;
        const struct route_leaf *l = path_leaf(s, path, w->scheme);
        if (l)
            return (struct hit){l, len, l->from_family ? l->from_bits + 1u : 0};
    }
    return (struct hit){NULL, 0, 0};
}

static bool hit_is_better(const struct hit *a, const struct hit *b)
{
    if (!a->leaf || !b->leaf)
        return a->leaf != NULL;
    if (a->path_len != b->path_len)
        return a->path_len > b->path_len;
    if (a->from != b->from)
        return a->from > b->from;
    return a->leaf->word > 0 && b->leaf->word == 0;
}

/* What the connection shows that a category is looked up by. False: it shows nothing. */
static bool key_make(const struct search *s, enum host_kind kind, struct route_key *ret_key)
{
    struct str text = {"", 0};
    if (kind == HOST_NAME)
        text = s->host;
    if (kind == HOST_LABEL) {
        const char *dot = s->host.n > 0 ? memchr(s->host.p, '.', s->host.n) : NULL;
        if (dot && dot > s->host.p)
            text = str_skip(s->host, (size_t)(dot - s->host.p) + 1);
    }
    if (kind == HOST_ADDR)
        text = (struct str){(const char *)s->local.ip, s->local.size};
    bool needs_text = kind != HOST_STRONG && kind != HOST_WEAK;
    if ((needs_text && text.n == 0) || (kind == HOST_ADDR && s->local.family == AF_UNIX))
        return false;
    *ret_key = (struct route_key){text, route_hash(s->t->seed, text)};
    return true;
}

static bool scope_has(const struct route_scope *scope, enum route_scheme scheme,
                      enum host_kind kind)
{
    return scope->kinds[scheme] & 1 << kind;
}

/* The best of one category. Of equal hits the one of the narrowest bound address wins, as it does
 * in the kernel. */
static struct hit kind_hit(const struct search *s, const struct wanted *w, enum host_kind kind)
{
    struct hit best = {NULL, 0, 0};
    struct route_key key = {.text = {NULL, 0}};
    bool keyed = false;
    for (uint32_t i = 0; i < s->cover.count; i++) {
        uint32_t scope = s->cover.scope[i];
        if (!scope_has(&s->t->scopes[scope], w->scheme, kind))
            continue;
        if (!keyed && !key_make(s, kind, &key))
            return best;
        keyed = true;
        const struct route_host *h = route_find_host(s->t, scope, w->scheme, kind, &key);
        struct hit hit = h ? host_hit(s, h, w) : (struct hit){NULL, 0, 0};
        if (hit_is_better(&hit, &best))
            best = hit;
    }
    return best;
}

/* The first category that has a hit ends the search. */
static const struct route_leaf *scheme_leaf(const struct search *s, const struct wanted *w)
{
    for (int kind = HOST_STRONG; kind <= HOST_WEAK; kind++) {
        struct hit hit = kind_hit(s, w, (enum host_kind)kind);
        if (hit.leaf)
            return hit.leaf;
    }
    return NULL;
}

static struct wanted wanted_http(const struct sniffed *s)
{
    /* "OPTIONS *" and the like have no path: they are for the root. */
    struct str path = s->path.n > 0 && s->path.p[0] == '/' ? s->path : STR("/");
    return (struct wanted){.scheme = SCHEME_HTTP, .path = path, .slash = path.p[path.n - 1] != '/'};
}

/* What a connection of a known protocol, or a silent one, asks for first. False: nothing. */
static bool wanted_first(const struct route_query *q, struct wanted *ret_wanted)
{
    static const enum route_scheme schemes[PROTO_COUNT] = {
        [PROTO_NONE] = SCHEME_COUNT,  [PROTO_HTTP] = SCHEME_HTTP,
        [PROTO_H2] = SCHEME_HTTP,     [PROTO_TLS] = SCHEME_TLS,
        [PROTO_SSH] = SCHEME_SSH,     [PROTO_SOCKS] = SCHEME_SOCKS,
        [PROTO_RDP] = SCHEME_RDP,     [PROTO_POSTGRES] = SCHEME_POSTGRES,
        [PROTO_REDIS] = SCHEME_REDIS, [PROTO_MQTT] = SCHEME_MQTT,
        [PROTO_XMPP] = SCHEME_XMPP,
    };
    const struct sniffed *s = q->sniffed;
    enum route_scheme scheme =
        s && (unsigned)s->proto < PROTO_COUNT ? schemes[s->proto] : SCHEME_COUNT;
    if (scheme == SCHEME_COUNT) {
        *ret_wanted = (struct wanted){.scheme = SCHEME_SSH};
        return q->silent;
    }
    *ret_wanted = (struct wanted){.scheme = scheme};
    if (scheme == SCHEME_HTTP)
        *ret_wanted = wanted_http(s);
    if (scheme == SCHEME_POSTGRES)
        *ret_wanted = (struct wanted){.scheme = scheme, .path = s->database, .whole = true};
    return true;
}

uint32_t route_match(const struct route_table *t, const struct route_query *q)
{
    struct search s = {.t = t, .peer = &q->peer, .sniffed = q->sniffed};
    s.local = route_ipkey(&q->local);
    s.cover = find_cover(t, addr_port(&q->local), &s.local);
    if (s.cover.count == 0)
        return ROUTE_NONE;
    if (q->sniffed)
        s.host = q->sniffed->host;
    const struct route_leaf *leaf = NULL;
    struct wanted first;
    if (wanted_first(q, &first))
        leaf = scheme_leaf(&s, &first);
    if (!leaf && q->head.n > 0)
        leaf = scheme_leaf(&s, &(struct wanted){.scheme = SCHEME_PREFIX, .path = q->head});
    if (!leaf)
        leaf = scheme_leaf(&s, &(struct wanted){.scheme = SCHEME_ANY});
    return leaf ? leaf->claim : ROUTE_NONE;
}

/* tcp:// routes: the longest source prefix, then an address before the wildcards. */
static const struct route_leaf *tcp_leaf(const struct search *s)
{
    static const enum host_kind order[] = {HOST_ADDR, HOST_STRONG, HOST_WEAK};
    struct hit best = {NULL, 0, 0};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        struct hit hit = kind_hit(s, &(struct wanted){.scheme = SCHEME_TCP}, order[i]);
        if (hit_is_better(&hit, &best))
            best = hit;
    }
    return best.leaf;
}

/* Do all entries here belong to one application that takes every source? */
static bool cover_is_solo(const struct route_table *t, const struct route_cover *c)
{
    uint32_t app = t->scopes[c->scope[0]].solo_app;
    for (uint32_t i = 0; i < c->count; i++) {
        const struct route_scope *s = &t->scopes[c->scope[i]];
        if (s->mixed || s->has_from || s->solo_app != app)
            return false;
    }
    return true;
}

enum route_early route_match_early(const struct route_table *t, const struct addr *local,
                                   const struct addr *peer, uint32_t *ret_claim)
{
    struct search s = {.t = t, .peer = peer, .local = route_ipkey(local)};
    s.cover = find_cover(t, addr_port(local), &s.local);
    if (s.cover.count == 0)
        return ROUTE_NOBODY;
    const struct route_leaf *leaf = tcp_leaf(&s);
    if (leaf) {
        *ret_claim = leaf->claim;
        return ROUTE_CLAIM;
    }
    if (!cover_is_solo(t, &s.cover))
        return ROUTE_SNIFF;
    *ret_claim = t->scopes[s.cover.scope[0]].solo_claim;
    return ROUTE_CLAIM;
}

/* `all`: also for the addresses that some other entry is bound to. */
static bool early_is_uniform(const struct route_table *t, const struct addr *bound, bool v6only,
                             bool all)
{
    struct ipkey ip = route_ipkey(bound);
    const struct route_port *port = route_find_port(t, addr_port(bound));
    if (!port)
        return true;
    bool wildcard = route_ipkey_is_wildcard(&ip);
    bool v4 = ip.family == AF_INET || !v6only, v6 = ip.family == AF_INET6;
    if (all && wildcard && ((v4 && port->exact4 > 0) || (v6 && port->exact6 > 0)))
        return false;
    /* With both families, a scope of one of them would tell their connections apart. */
    if (wildcard && v4 && v6 && (port->any4 != INDEX_NONE || port->only6 != INDEX_NONE))
        return false;
    struct route_cover c = find_cover(t, port->port, &ip);
    for (uint32_t i = 0; i < c.count; i++) {
        const struct route_scope *s = &t->scopes[c.scope[i]];
        if (s->tcp_from || (wildcard && s->tcp_addr))
            return false;
    }
    return true;
}

bool route_early_is_uniform(const struct route_table *t, const struct addr *bound, bool v6only)
{
    return early_is_uniform(t, bound, v6only, true);
}

bool route_rest_is_uniform(const struct route_table *t, const struct addr *bound, bool v6only)
{
    return early_is_uniform(t, bound, v6only, false);
}

static bool scope_has_addr(const struct route_scope *s)
{
    for (int scheme = 0; scheme < SCHEME_COUNT; scheme++)
        if (s->kinds[scheme] & 1u << HOST_ADDR)
            return true;
    return false;
}

bool route_local_matters(const struct route_table *t, const struct addr *bound, bool v6only)
{
    struct ipkey ip = route_ipkey(bound);
    const struct route_port *port = route_find_port(t, addr_port(bound));
    if (!port || !route_ipkey_is_wildcard(&ip))
        return false;
    if (!route_rest_is_uniform(t, bound, v6only))
        return true;
    struct route_cover c = find_cover(t, port->port, &ip);
    for (uint32_t i = 0; i < c.count; i++)
        if (scope_has_addr(&t->scopes[c.scope[i]]))
            return true;
    return false;
}

/* Has this host a prefix that is longer than the bytes and begins with them? All such sort right
 * behind the bytes themselves. */
static bool host_wants_more(const struct route_table *t, const struct route_host *h,
                            const struct wanted *head)
{
    uint32_t path = path_bound(t, h, head);
    return path < h[1].path && str_starts(route_path_text(t, path), head->path);
}

bool route_wants_more(const struct route_table *t, const struct addr *local, struct str head)
{
    struct search s = {.t = t, .local = route_ipkey(local)};
    struct wanted w = {.scheme = SCHEME_PREFIX, .path = head};
    s.cover = find_cover(t, addr_port(local), &s.local);
    for (uint32_t i = 0; i < s.cover.count; i++) {
        uint32_t scope = s.cover.scope[i];
        for (int kind = HOST_STRONG; kind <= HOST_WEAK; kind++) {
            struct route_key key;
            if (!scope_has(&t->scopes[scope], w.scheme, (enum host_kind)kind) ||
                !key_make(&s, (enum host_kind)kind, &key))
                continue;
            const struct route_host *h =
                route_find_host(t, scope, w.scheme, (enum host_kind)kind, &key);
            if (h && host_wants_more(t, h, &w))
                return true;
        }
    }
    return false;
}
