#pragma once
/* The inside of struct route_table, shared by route-table.c (which builds it), route-match.c (which
 * asks it) and route-list.c (which shows it). Everybody else includes share/route.h only.
 *
 *   port ─┬─ scope: one bound address         which covers the local address of the connection
 *         └─ ...   └─ host: scheme, category and name, found by hash
 *                     └─ path: sorted; a binary search, then up along the parents
 *                        └─ leaf: one entry; the most constrained first
 *
 * Each level is one array, and the children of a record are next to each other; record i's children
 * end where record i+1's begin, so every array has one record more than it counts. All text lies in
 * one arena, in the order in which a match reads it. Offsets have 32 bits: 100,000 routes take
 * about 10 MB. */

#include "share/route.h"

#define INDEX_NONE UINT32_MAX

/* How many bytes of a path make its key. */
#define KEY_BYTES 8

/* An address as a key: without port, and with IPv4-mapped IPv6 unmapped. */
struct ipkey {
    uint8_t family; /* AF_INET, AF_INET6, AF_UNIX; AF_UNSPEC for anything else */
    uint8_t size;   /* of ip or of the Unix path */
    uint8_t ip[16];
    const char *path; /* AF_UNIX */
};

struct route_leaf {
    uint32_t claim, app;
    uint32_t extra; /* arena: from.ip (16 bytes, when there is a from), then alpn or user */
    uint16_t port;  /* of the route as it was given */
    uint8_t from_family, from_bits;
    uint8_t word; /* length of alpn or user; 0: any */
};

struct route_path {
    uint32_t text;
    uint32_t leaf;
    uint32_t parent; /* the longest other path of this host that this one begins with */
    uint16_t len;
};

struct route_host {
    uint32_t text; /* the name, or the 4 or 16 bytes of an address */
    uint32_t path;
    uint32_t leaf; /* of the first path, to fetch it early */
    uint32_t scope;
    uint16_t len;
    uint16_t shared; /* bytes that all paths but the first begin with */
    uint8_t scheme, kind;
};

/* A bound address, and what can be said about all entries of it before a byte is read. */
struct route_scope {
    struct ipkey ip; /* a Unix path points into the arena */
    uint32_t host;
    uint32_t solo_app, solo_claim; /* the first entry's */
    uint16_t port;
    bool v6only, wildcard;
    bool mixed;    /* more than one application */
    bool has_from; /* an entry with from= */
    bool tcp_from, tcp_addr;
    uint8_t kinds[SCHEME_COUNT]; /* bit HOST_x: that category has entries */
};

struct route_port {
    uint32_t scope;
    uint32_t any4, only6, dual; /* the wildcard scopes, or INDEX_NONE */
    uint32_t exact4, exact6;    /* how many scopes are one address */
    uint16_t port;
};

struct route_slot {
    uint32_t tag;
    uint32_t host; /* INDEX_NONE: empty */
};

struct route_table {
    struct route_slot *slots;
    struct route_port *ports;
    struct route_scope *scopes;
    struct route_host *hosts;
    struct route_path *paths;
    uint64_t *keys; /* for each path, see route_path_key(); not used for a host's first path */
    struct route_leaf *leaves;
    char *text;
    size_t bytes;
    uint64_t seed;
    uint32_t mask; /* slots - 1 */
    uint32_t port_count, scope_count, host_count, path_count, leaf_count;
};

/* The scopes that cover one local address, the narrowest first. */
#define COVER_MAX 3
struct route_cover {
    uint32_t scope[COVER_MAX];
    uint32_t count;
};

struct ipkey route_ipkey(const struct addr *a);
bool route_ipkey_is_wildcard(const struct ipkey *k);
/* The order of scopes in a port: by family, then by address. */
int route_ipkey_cmp(const struct ipkey *a, const struct ipkey *b);
/* As bytes; what the other begins with comes first. Paths are sorted by it. */
int route_text_cmp(struct str a, struct str b);
const struct route_port *route_find_port(const struct route_table *t, uint16_t port);
struct route_cover route_find_cover(const struct route_table *t, const struct addr *local);

/* What is hashed of a host, before scope, scheme and category are mixed in: once for a query. */
uint64_t route_hash(uint64_t seed, struct str host);
uint64_t route_hash_key(uint64_t hash, uint32_t scope, enum route_scheme scheme,
                        enum host_kind kind);

/* What a host category is looked up by: the name, or the bytes of an address, or nothing. */
struct route_key {
    struct str text;
    uint64_t hash;
};
const struct route_host *route_find_host(const struct route_table *t, uint32_t scope,
                                         enum route_scheme scheme, enum host_kind kind,
                                         const struct route_key *key);

/* alpn for tls, user for the others. */
static inline const char *route_word(const struct route *r)
{
    return r->scheme == SCHEME_TLS ? r->alpn : r->user;
}

static inline struct str route_path_text(const struct route_table *t, uint32_t path)
{
    return (struct str){t->text + t->paths[path].text, t->paths[path].len};
}

static inline struct str route_leaf_word(const struct route_table *t, const struct route_leaf *l)
{
    return (struct str){t->text + l->extra + (l->from_family ? 16 : 0), l->word};
}
