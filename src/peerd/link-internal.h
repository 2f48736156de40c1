#pragma once
/* What the files of the link share. link.h is for everybody else. */

#include "base/list.h"
#include "peerd/link.h"
#include "rendezvous/server-name.h"
#include "wire/relay.h"

#define LINK_ADDRS_MAX  8
#define LINK_RELAYS_MAX 16

struct resolve;
struct link_tls;

/* A server, or a relay elsewhere that a server named: where it is and how bytes get there. */
struct site {
    struct link *link;
    struct list node;
    struct presence_way way;
    char given[LINK_SERVER_MAX]; /* as the user wrote it */
    char name[LINK_SERVER_MAX];  /* HOST:PORT: whose key is pinned */
    struct server_name where;
    struct addr addrs[LINK_ADDRS_MAX];
    size_t count;
    struct addr udp; /* the one of them that answers over UDP; len 0: none does */
    enum link_transport transport;
    struct resolve *resolve; /* under way; owned */
    uint64_t resolved_ms;
    uint64_t waiting_ms;   /* since when an answer is awaited; 0: none is */
    struct timer silence;  /* runs while one is awaited */
    struct timer again;    /* the next attempt by TLS, or on TLS: the next probe by UDP */
    struct link_tls *tls;  /* owned; NULL: none */
    size_t tls_at;         /* the address that is tried */
    bool any_port;         /* the next attempt is not made from the port for peers */
    uint64_t tls_pause_ms; /* between attempts */
    uint64_t probe_pause_ms;
    uint64_t probe;        /* its transaction; 0: none is under way */
    uint64_t udp_since_ms; /* 0: on this network UDP has not worked yet */
    uint64_t used_ms;
    char trouble[256]; /* empty: none */
};

struct link {
    struct loop *loop;
    struct link_host host;
    void *ctx;
    bool no_udp;
    uint64_t probe_ms;
    char *known_servers;       /* owned */
    struct tls_client *client; /* made when it is needed first; owned */
    struct site *servers;
    uint32_t count;
    struct list relays;
    unsigned relay_count;
};

/* link.c: what the others report. */
void site_resolved(struct site *p, const struct addr *addrs, size_t n);
void site_unresolved(struct site *p, const char *trouble);
void site_tls_up(struct site *p);
void site_tls_down(struct site *p, const char *trouble);
/* A whole frame, by whichever transport. */
void site_input(struct site *p, const void *bytes, size_t n);

/* link-resolve.c: an address at once, a name in a thread of its own. One of site_resolved() and
 * site_unresolved() follows, never from within. */
int resolve_numeric(const struct server_name *s, struct addr *ret_addr) WARN_UNUSED;
int resolve_start(struct site *p) WARN_UNUSED;
void resolve_stop(struct site *p);
/* Of an answer to a question for SRV records: the best target and its port. -ENOENT. */
int srv_parse(const uint8_t *answer, size_t n, struct server_name *ret_name) WARN_UNUSED;

/* link-tls.c: one of site_tls_up() and site_tls_down() follows, never from within; after it is
 * up, site_tls_down() at its end. */
int link_tls_start(struct site *p, const struct addr *to) WARN_UNUSED;
void link_tls_stop(struct site *p);
bool link_tls_has_own_port(const struct link_tls *t);
/* A frame. -EAGAIN: there is no room. */
int link_tls_send(struct link_tls *t, struct str head, struct str body) WARN_UNUSED;
void link_tls_client_free(struct tls_client *c);

/* link-known.c: the key of a server is what it was when it was first seen. 0, also when it is new
 * and now known; -EKEYREJECTED with what it was. */
int known_server_check(const char *path, const char *name, const struct key *key,
                       struct key *ret_was) WARN_UNUSED;
