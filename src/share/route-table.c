/* Builds the immutable table of routes out of the entries of all claims: each entry becomes a small
 * draft, the drafts are sorted once into the order of the table, one pass counts and one fills. The
 * table owns copies of all text in it, and so do the drafts, so an entry may go at once. */
#include "share/route-table.h"

#include <stdlib.h>
#include <sys/auxv.h>

/* Everything that is kept of an entry. Text is in the builder's blocks. */
struct draft {
    struct ipkey bound;
    uint64_t host_head; /* the first bytes of the host, so that most comparisons end here */
    struct str host;    /* HOST_ADDR: the bytes of the address */
    struct str path;
    const char *word; /* alpn= or user= */
    struct prefix from;
    uint32_t claim, app, order;
    uint16_t port; /* of the bound address */
    uint16_t route_port;
    bool v6only, wildcard;
    uint8_t scheme, kind;
};

/* Texts of the drafts, one after the other. */
#define BLOCK_BYTES 65536

struct block {
    struct block *next;
    size_t used;
    char text[BLOCK_BYTES];
};

struct route_builder {
    struct draft *drafts;
    size_t count, size;
    uint32_t order;
    struct block *blocks; /* the newest first */
    bool failed;
};

/* How much of each there is. */
struct sizes {
    size_t ports, scopes, hosts, paths, leaves, text;
};

/* A secret that costs no system call: the kernel gives every process 16 random bytes. */
static uint64_t seed_make(void)
{
    const void *random = (const void *)getauxval(AT_RANDOM);
    uint64_t seed = 0;
    if (random)
        memcpy(&seed, random, sizeof seed);
    return seed;
}

static struct str entry_path(const struct route *r)
{
    size_t n = r->path_len < ROUTE_PATH_MAX ? r->path_len : ROUTE_PATH_MAX;
    return (struct str){r->path, n};
}

static uint64_t head_of(struct str s)
{
    uint64_t v = 0;
    for (size_t i = 0; i < KEY_BYTES; i++)
        v = v << 8 | (i < s.n ? (uint8_t)s.p[i] : 0);
    return v;
}

struct route_builder *route_builder_new(void)
{
    return calloc(1, sizeof(struct route_builder));
}

void route_builder_free(struct route_builder *b)
{
    if (!b)
        return;
    for (struct block *k; (k = b->blocks);) {
        b->blocks = k->next;
        free(k);
    }
    free(b->drafts);
    free(b);
}

/* A copy that ends in NUL. A text of a route is always shorter than a block. */
static const char *text_keep(struct route_builder *b, struct str s)
{
    struct block *k = b->blocks;
    if (!k || k->used + s.n + 1 > BLOCK_BYTES) {
        k = malloc(sizeof *k);
        if (!k) {
            b->failed = true;
            return "";
        }
        k->next = b->blocks;
        k->used = 0;
        b->blocks = k;
    }
    char *copy = k->text + k->used;
    if (s.n > 0)
        memcpy(copy, s.p, s.n);
    copy[s.n] = 0;
    k->used += s.n + 1;
    return copy;
}

static struct draft *draft_room(struct route_builder *b)
{
    if (b->count < b->size)
        return &b->drafts[b->count];
    size_t size = b->size ? 2 * b->size : 64;
    struct draft *more = reallocarray(b->drafts, size, sizeof *more);
    if (!more) {
        b->failed = true;
        return NULL;
    }
    b->drafts = more;
    b->size = size;
    return &more[b->count];
}

/* What a host category is looked up by: the name, or the bytes of an address, or nothing. */
static struct str host_keep(struct route_builder *b, const struct route *r)
{
    struct str host = {r->host, strnlen(r->host, sizeof r->host)};
    struct ipkey ip = route_ipkey(&r->addr);
    if (r->kind == HOST_ADDR)
        host = (struct str){(const char *)ip.ip, ip.size};
    else if (r->kind != HOST_NAME && r->kind != HOST_LABEL)
        host.n = 0;
    return (struct str){text_keep(b, host), host.n};
}

static void draft_add(struct route_builder *b, const struct route_entry *e)
{
    const struct route *r = &e->route;
    struct str path = entry_path(r);
    struct str word = {route_word(r), strnlen(route_word(r), ROUTE_USER_MAX)};
    struct draft *d = draft_room(b);
    if (!d)
        return;
    *d = (struct draft){.bound = route_ipkey(&e->bound),
                        .host = host_keep(b, r),
                        .path = {text_keep(b, path), path.n},
                        .word = text_keep(b, word),
                        .from = r->from,
                        .claim = e->claim,
                        .app = e->app,
                        .order = b->order++,
                        .port = addr_port(&e->bound),
                        .route_port = r->port,
                        .scheme = (uint8_t)r->scheme,
                        .kind = (uint8_t)r->kind};
    if (d->bound.path)
        d->bound.path = text_keep(b, (struct str){d->bound.path, d->bound.size});
    d->wildcard = route_ipkey_is_wildcard(&d->bound);
    d->v6only = d->wildcard && d->bound.family == AF_INET6 && e->v6only;
    d->host_head = head_of(d->host);
    b->count++;
}

static int u64_cmp(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int scope_cmp(const struct draft *a, const struct draft *b)
{
    int d = route_ipkey_cmp(&a->bound, &b->bound);
    return d ? d : a->v6only - b->v6only;
}

static int host_cmp(const struct draft *a, const struct draft *b)
{
    if (a->scheme != b->scheme)
        return a->scheme - b->scheme;
    if (a->kind != b->kind)
        return a->kind - b->kind;
    if (a->host_head != b->host_head)
        return u64_cmp(a->host_head, b->host_head);
    return route_text_cmp(a->host, b->host);
}

static uint32_t from_rank(const struct draft *d)
{
    return d->from.family == AF_UNSPEC ? 0 : d->from.bits + 1u;
}

/* Among equal hosts and paths: the longer source prefix, then a word over none, then who came
 * first. */
static int leaf_cmp(const struct draft *a, const struct draft *b)
{
    int d = u64_cmp(from_rank(b), from_rank(a));
    if (d == 0)
        d = (b->word[0] != 0) - (a->word[0] != 0);
    return d ? d : u64_cmp(a->order, b->order);
}

enum level { LEVEL_PORT, LEVEL_SCOPE, LEVEL_HOST, LEVEL_PATH, LEVEL_LEAF };

/* The uppermost level at which they differ, and how in *ret_order. */
static enum level draft_compare(const struct draft *a, const struct draft *b, int *ret_order)
{
    if ((*ret_order = a->port - b->port) != 0)
        return LEVEL_PORT;
    if ((*ret_order = scope_cmp(a, b)) != 0)
        return LEVEL_SCOPE;
    if ((*ret_order = host_cmp(a, b)) != 0)
        return LEVEL_HOST;
    if ((*ret_order = route_text_cmp(a->path, b->path)) != 0)
        return LEVEL_PATH;
    *ret_order = leaf_cmp(a, b);
    return LEVEL_LEAF;
}

static int draft_cmp(const void *a, const void *b)
{
    int order;
    (void)draft_compare(a, b, &order);
    return order;
}

/* Where draft i begins something new: a port, or a scope in the port of draft i - 1, and so on. */
static enum level draft_level(const struct draft *d, size_t i)
{
    int order;
    return i == 0 ? LEVEL_PORT : draft_compare(&d[i - 1], &d[i], &order);
}

static bool is_ip(const struct addr *a)
{
    return a->sa.sa_family == AF_INET || a->sa.sa_family == AF_INET6;
}

/* What names no address or no category could never match. */
static bool entry_is_usable(const struct route_entry *e)
{
    const struct route *r = &e->route;
    return (is_ip(&e->bound) || e->bound.sa.sa_family == AF_UNIX) &&
           (unsigned)r->scheme < SCHEME_COUNT && (unsigned)r->kind <= HOST_WEAK &&
           (r->kind != HOST_ADDR || is_ip(&r->addr));
}

void route_builder_add(struct route_builder *b, const struct route_entry *e)
{
    if (entry_is_usable(e))
        draft_add(b, e);
}

static size_t leaf_text(const struct draft *d)
{
    return (d->from.family == AF_UNSPEC ? 0 : sizeof d->from.ip) + strlen(d->word);
}

static struct sizes drafts_count(const struct draft *d, size_t n)
{
    struct sizes s = {0};
    for (size_t i = 0; i < n; i++) {
        switch (draft_level(d, i)) {
        case LEVEL_PORT:
            s.ports++;
            __attribute__((fallthrough));
        case LEVEL_SCOPE:
            s.scopes++;
            s.text += d[i].bound.path ? d[i].bound.size : 0;
            __attribute__((fallthrough));
        case LEVEL_HOST:
            s.hosts++;
            s.text += d[i].host.n;
            __attribute__((fallthrough));
        case LEVEL_PATH:
            s.paths++;
            s.text += d[i].path.n;
            __attribute__((fallthrough));
        case LEVEL_LEAF:
            s.leaves++;
            s.text += leaf_text(&d[i]);
        }
    }
    return s;
}

/* At most half full, so that a search that finds nothing ends soon. */
static size_t slot_count(size_t hosts)
{
    size_t n = 2;
    while (n < hosts * 2)
        n *= 2;
    return n;
}

/* Cuts n records off a block; with block NULL only *at moves. */
static void *cut(char *block, size_t *at, size_t n, size_t size)
{
    void *p = block ? block + *at : NULL;
    *at += (n * size + 15) & ~(size_t)15;
    return p;
}

/* Lays the arrays out in one block and returns its size. */
static size_t table_layout(struct route_table *t, char *block, const struct sizes *s)
{
    size_t at = 0;
    (void)cut(block, &at, 1, sizeof *t);
    t->slots = cut(block, &at, slot_count(s->hosts), sizeof *t->slots);
    t->ports = cut(block, &at, s->ports + 1, sizeof *t->ports);
    t->scopes = cut(block, &at, s->scopes + 1, sizeof *t->scopes);
    t->hosts = cut(block, &at, s->hosts + 1, sizeof *t->hosts);
    t->paths = cut(block, &at, s->paths + 1, sizeof *t->paths);
    t->keys = cut(block, &at, s->paths, sizeof *t->keys);
    t->leaves = cut(block, &at, s->leaves, sizeof *t->leaves);
    t->text = cut(block, &at, s->text, 1);
    t->mask = (uint32_t)(slot_count(s->hosts) - 1);
    return at;
}

static struct route_table *table_alloc(const struct sizes *s)
{
    struct route_table layout = {.seed = seed_make()};
    if (s->text > UINT32_MAX || s->leaves > UINT32_MAX / 4)
        return NULL;
    size_t bytes = table_layout(&layout, NULL, s);
    struct route_table *t = calloc(1, bytes);
    if (!t)
        return NULL;
    layout.bytes = table_layout(&layout, (char *)t, s);
    *t = layout;
    return t;
}

/* Fills the table; `used` is how much of the arena is taken. */
struct build {
    struct route_table *t;
    uint32_t used;
};

static uint32_t put_text(struct build *b, struct str s)
{
    uint32_t at = b->used;
    if (s.n > 0)
        memcpy(b->t->text + at, s.p, s.n);
    b->used += (uint32_t)s.n;
    return at;
}

static void put_port(struct build *b, const struct draft *d)
{
    struct route_table *t = b->t;
    t->ports[t->port_count++] = (struct route_port){.scope = t->scope_count,
                                                    .any4 = INDEX_NONE,
                                                    .only6 = INDEX_NONE,
                                                    .dual = INDEX_NONE,
                                                    .port = d->port};
}

static void put_scope(struct build *b, const struct draft *d)
{
    struct route_table *t = b->t;
    struct route_port *port = &t->ports[t->port_count - 1];
    uint32_t i = t->scope_count++;
    struct route_scope *s = &t->scopes[i];
    *s = (struct route_scope){.ip = d->bound,
                              .host = t->host_count,
                              .solo_app = d->app,
                              .solo_claim = d->claim,
                              .port = d->port,
                              .v6only = d->v6only,
                              .wildcard = d->wildcard};
    if (d->bound.path)
        s->ip.path = t->text + put_text(b, (struct str){d->bound.path, d->bound.size});
    if (!d->wildcard) {
        port->exact4 += d->bound.family == AF_INET;
        port->exact6 += d->bound.family == AF_INET6;
    } else if (d->bound.family == AF_INET) {
        port->any4 = i;
    } else if (d->v6only) {
        port->only6 = i;
    } else {
        port->dual = i;
    }
}

static void put_host(struct build *b, const struct draft *d)
{
    struct route_table *t = b->t;
    uint32_t scope = t->scope_count - 1;
    t->scopes[scope].kinds[d->scheme] |= (uint8_t)(1 << d->kind);
    t->hosts[t->host_count++] = (struct route_host){.text = put_text(b, d->host),
                                                    .path = t->path_count,
                                                    .leaf = t->leaf_count,
                                                    .scope = scope,
                                                    .len = (uint16_t)d->host.n,
                                                    .scheme = d->scheme,
                                                    .kind = d->kind};
}

static bool path_begins(const struct route_table *t, const struct route_path *p, struct str s)
{
    return str_starts(s, (struct str){t->text + p->text, p->len});
}

/* The paths of a host come sorted, so whatever a path begins with is the one before it or one of
 * that one's parents. */
static void put_path(struct build *b, const struct draft *d)
{
    struct route_table *t = b->t;
    uint32_t i = t->path_count++;
    bool first = i == t->hosts[t->host_count - 1].path;
    uint32_t parent = first ? INDEX_NONE : i - 1;
    while (parent != INDEX_NONE && !path_begins(t, &t->paths[parent], d->path))
        parent = t->paths[parent].parent;
    t->paths[i] = (struct route_path){.text = put_text(b, d->path),
                                      .leaf = t->leaf_count,
                                      .parent = parent,
                                      .len = (uint16_t)d->path.n};
}

static void put_leaf(struct build *b, const struct draft *d)
{
    struct route_table *t = b->t;
    const struct prefix *from = &d->from;
    struct str word = str_of(d->word);
    struct route_leaf leaf = {.claim = d->claim,
                              .app = d->app,
                              .extra = b->used,
                              .port = d->route_port,
                              .from_family = (uint8_t)from->family,
                              .from_bits = from->bits,
                              .word = (uint8_t)word.n};
    if (from->family != AF_UNSPEC)
        (void)put_text(b, (struct str){(const char *)from->ip, sizeof from->ip});
    (void)put_text(b, word);
    t->leaves[t->leaf_count++] = leaf;
    struct route_scope *s = &t->scopes[t->scope_count - 1];
    s->mixed |= d->app != s->solo_app;
    s->has_from |= from->family != AF_UNSPEC;
    s->tcp_from |= d->scheme == SCHEME_TCP && from->family != AF_UNSPEC;
    s->tcp_addr |= d->scheme == SCHEME_TCP && d->kind == HOST_ADDR;
}

static void table_fill(struct route_table *t, const struct draft *d, size_t n)
{
    struct build b = {.t = t};
    for (size_t i = 0; i < n; i++) {
        switch (draft_level(d, i)) {
        case LEVEL_PORT:
            put_port(&b, &d[i]);
            __attribute__((fallthrough));
        case LEVEL_SCOPE:
            put_scope(&b, &d[i]);
            __attribute__((fallthrough));
        case LEVEL_HOST:
            put_host(&b, &d[i]);
            __attribute__((fallthrough));
        case LEVEL_PATH:
            put_path(&b, &d[i]);
            __attribute__((fallthrough));
        case LEVEL_LEAF:
            put_leaf(&b, &d[i]);
        }
    }
    t->ports[t->port_count].scope = t->scope_count;
    t->scopes[t->scope_count].host = t->host_count;
    t->hosts[t->host_count].path = t->path_count;
    t->paths[t->path_count].leaf = t->leaf_count;
}

static uint16_t shared_bytes(struct str a, struct str b)
{
    uint16_t n = 0;
    while (n < a.n && n < b.n && a.p[n] == b.p[n])
        n++;
    return n;
}

/* A binary search that reads text misses the cache twice a step. So the bytes that tell a host's
 * paths apart lie next to each other: those behind what all paths share. The first path is left
 * out, as it is often "/" and would leave nothing to share. */
static void keys_fill(struct route_table *t)
{
    for (uint32_t i = 0; i < t->host_count; i++) {
        struct route_host *h = &t->hosts[i];
        uint32_t second = h[0].path + 1, end = h[1].path;
        if (second >= end)
            continue;
        h->shared = shared_bytes(route_path_text(t, second), route_path_text(t, end - 1));
        for (uint32_t path = second; path < end; path++)
            t->keys[path] = head_of(str_skip(route_path_text(t, path), h->shared));
    }
}

static void index_fill(struct route_table *t)
{
    memset(t->slots, 0xff, ((size_t)t->mask + 1) * sizeof *t->slots);
    for (uint32_t i = 0; i < t->host_count; i++) {
        const struct route_host *h = &t->hosts[i];
        uint64_t hash = route_hash(t->seed, (struct str){t->text + h->text, h->len});
        hash = route_hash_key(hash, h->scope, h->scheme, h->kind);
        uint32_t at = (uint32_t)hash & t->mask;
        while (t->slots[at].host != INDEX_NONE)
            at = (at + 1) & t->mask;
        t->slots[at] = (struct route_slot){(uint32_t)(hash >> 32), i};
    }
}

struct route_table *route_builder_finish(struct route_builder *b)
{
    if (b->failed)
        return NULL;
    if (b->count > 0)
        qsort(b->drafts, b->count, sizeof *b->drafts, draft_cmp);
    struct sizes sizes = drafts_count(b->drafts, b->count);
    struct route_table *t = table_alloc(&sizes);
    if (!t)
        return NULL;
    table_fill(t, b->drafts, b->count);
    keys_fill(t);
    index_fill(t);
    return t;
}

struct route_table *route_table_new(const struct route_entry *entries, size_t count)
{
    struct route_builder *b = route_builder_new();
    for (size_t i = 0; b && i < count; i++)
        route_builder_add(b, &entries[i]);
    struct route_table *t = b ? route_builder_finish(b) : NULL;
    route_builder_free(b);
    return t;
}

void route_table_free(struct route_table *t)
{
    free(t);
}

size_t route_table_bytes(const struct route_table *t)
{
    return t->bytes;
}
