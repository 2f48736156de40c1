#pragma once
/* A route: which connections a program wants. Text in, a value out; nothing here knows of sockets.
 *
 *   scheme://host:port/path/?key=value&key=value
 *
 * scheme  http tls ssh socks rdp postgres redis mqtt xmpp prefix tcp peer any   (https: needs the
 *         gateway)
 * host    name | *.name (one left-most label) | + (strong wildcard) | * or empty (weak wildcard) |
 *         IPv4 | [IPv6] (the local address that the connection came to). Names only where the
 *         protocol shows one: http, tls, xmpp, any
 *         peer: the name of a service, or *
 * port    1..65535, or left out: the port that the program listens on. peer: only of a program that
 *         listens on several: the one that the service is at
 * path    http: whole segments, in the normal form of RFC 3986 6.2.2 (unreserved characters
 *         decoded, others as they are, %XX in capitals), case-sensitive; the final slash is added
 *         when missing. postgres: /database; prefix: the bytes, percent-encoded
 * query   alpn=ID (tls), user=NAME (postgres, mqtt, rdp), from=PREFIX (any scheme: source address)
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/str.h"
#include "wire/sniffed.h"

enum route_scheme {
    SCHEME_HTTP, /* HTTP/1.x and h2c */
    SCHEME_TLS,
    SCHEME_SSH, /* gets silent connections, too */
    SCHEME_SOCKS,
    SCHEME_RDP,
    SCHEME_POSTGRES,
    SCHEME_REDIS,
    SCHEME_MQTT,
    SCHEME_XMPP,
    SCHEME_PREFIX,
    SCHEME_TCP,  /* address and source only: decided before a byte is read */
    SCHEME_PEER, /* of a peer's session: the host is the service's name; known to no listener */
    SCHEME_ANY,  /* what nothing else matched, and what stayed silent */
    SCHEME_COUNT,
};

/* In the order of precedence: the first category that has a hit ends the search. */
enum host_kind { HOST_STRONG, HOST_NAME, HOST_LABEL, HOST_ADDR, HOST_WEAK };

#define ROUTE_HOST_MAX   256
#define ROUTE_PATH_MAX   1024
#define ROUTE_ALPN_MAX   64
#define ROUTE_USER_MAX   64
#define ROUTE_TEXT_MAX   2048
#define ROUTE_REASON_MAX 160

struct route {
    enum route_scheme scheme;
    enum host_kind kind;
    uint16_t port;             /* 0: the port that the program listens on */
    uint16_t path_len;         /* path may hold NUL bytes for SCHEME_PREFIX */
    struct addr addr;          /* HOST_ADDR: its port is not used */
    struct prefix from;        /* AF_UNSPEC: any source */
    char host[ROUTE_HOST_MAX]; /* HOST_NAME: lower case; HOST_LABEL: the name behind "*." */
    char path[ROUTE_PATH_MAX]; /* HTTP: "/" or "/a/b/"; postgres: database; prefix: bytes */
    char alpn[ROUTE_ALPN_MAX];
    char user[ROUTE_USER_MAX];
};

/* 0 and *ret_route, or -EINVAL and a sentence in reason: what is wrong and what would be right. */
int route_parse(const char *text, struct route *ret_route,
                char reason[ROUTE_REASON_MAX]) WARN_UNUSED;
/* The canonical text, which route_parse() reads back to the same value. Returns buf, which is empty
 * when the text would not fit: never so for what route_parse() gave. */
const char *route_format(const struct route *r, char buf[ROUTE_TEXT_MAX]);
/* As route_parse(), and a bare host ("blog.localhost", "blog.localhost:8080") becomes two routes:
 * http and tls. Returns how many (1 or 2) or -EINVAL. */
int route_expand(const char *text, struct route ret_routes[2],
                 char reason[ROUTE_REASON_MAX]) WARN_UNUSED;
/* Do both claim the same connections with the same precedence (everything equal, ports included)?
 */
bool route_same(const struct route *a, const struct route *b);
const char *route_scheme_name(enum route_scheme s);

/* One line of the table: a route with its port filled in, and for which claim. The program's bound
 * address is part of the claim: a connection to a local address outside it never matches. */
struct route_entry {
    struct route route;
    struct addr bound; /* its port is that of the shared listener */
    bool v6only;
    uint32_t claim; /* the caller's number, given back by route_match() */
    uint32_t app;   /* claims of one application instance share it */
};

struct route_query {
    struct addr local, peer;       /* peer: for from= */
    const struct sniffed *sniffed; /* NULL while nothing has been read */
    struct str head;               /* peeked bytes, for prefix routes; may be empty */
    bool silent;                   /* true: the time for the first byte has run out */
};

#define ROUTE_NONE UINT32_MAX

/* Immutable after route_table_new(); any number of threads may match at once. Entries are copied as
 * far as needed. NULL when memory is short. */
struct route_table;
struct route_table *route_table_new(const struct route_entry *entries, size_t count);
/* The same, of entries that come one by one, which may go as soon as they are added. finish: NULL
 * when memory was or is short; the builder has to be freed all the same. */
struct route_builder;
struct route_builder *route_builder_new(void);
void route_builder_add(struct route_builder *b, const struct route_entry *e);
struct route_table *route_builder_finish(struct route_builder *b);
void route_builder_free(struct route_builder *b);
void route_table_free(struct route_table *t);
size_t route_table_bytes(const struct route_table *t); /* memory held, for statistics */

/* Before any byte is read: what can be said from addresses alone.
 *   CLAIM    *ret_claim gets it: the only application here, or a tcp:// route
 *   SNIFF    bytes are needed
 *   NOBODY   no claim covers this local address */
enum route_early { ROUTE_CLAIM, ROUTE_SNIFF, ROUTE_NOBODY };
enum route_early route_match_early(const struct route_table *t, const struct addr *local,
                                   const struct addr *peer, uint32_t *ret_claim);
/* Whether early answers differ by local address for connections to this bound address: when not,
 * the caller may ask once per listener with any covered local address and keep the answer. */
bool route_early_is_uniform(const struct route_table *t, const struct addr *bound, bool v6only);

/* The same, without the addresses that other entries are bound to: for a wildcard listener beside
 * which each of those has a listener of its own, where the kernel brings their connections. */
bool route_rest_is_uniform(const struct route_table *t, const struct addr *bound, bool v6only);
/* Whether any answer differs by local address for connections to the rest of this bound address:
 * when not, the bound address itself may stand for the local address in every question. */
bool route_local_matters(const struct route_table *t, const struct addr *bound, bool v6only);

/* The claim for a sniffed (or silent) connection, or ROUTE_NONE. Pure. The protocol's own scheme
 * (ssh for a silent one) is asked first, then prefix, then any. In a scheme the categories of enum
 * host_kind are asked in their order. In a category win, one after the other: the longer path, the
 * longer from=, alpn= or user= over none, the narrower bound address (an address, the wildcard of
 * one family, the dual-stack wildcard), and the entry that came first. tcp:// is not asked here: it
 * was decided early, where the longer from= wins, then an address, then "+", then "*". */
uint32_t route_match(const struct route_table *t, const struct route_query *q);

/* Could a prefix route of this port still match once more bytes have come? */
bool route_wants_more(const struct route_table *t, const struct addr *local, struct str head);

/* Calls fn for each route of each claim on the port that covers local, once (a program that bound
 * two covering addresses is not shown twice), sorted by bound address, scheme, category, host and
 * path; stops when fn returns false. The entry lives as long as the call; its bound address is
 * unmapped. */
void route_each(const struct route_table *t, const struct addr *local,
                bool (*fn)(void *ctx, const struct route_entry *e), void *ctx);
