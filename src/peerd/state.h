#pragma once
/* What berth-peer must still know after it was restarted: what is published and for whom, which
 * servers it was told of, its UDP port. One JSON file, replaced as a whole. */

#include "base/addr.h"
#include "keys/known.h"
#include "wire/record.h"

#define STATE_PUBLICATIONS_MAX RECORD_SERVICES_MAX
#define STATE_ALLOWED_MAX      128
#define STATE_SERVERS_MAX      8
#define STATE_SERVER_TEXT      262 /* HOST:PORT */
/* Of `allowed`: a key that may dial everything. */
#define STATE_ALL "*"

struct allowed {
    struct key key;
    char name[KNOWN_NAME_MAX + 1];     /* it was given by; may be empty */
    char service[RECORD_NAME_MAX + 1]; /* what it may dial; STATE_ALL: everything */
};

struct publication {
    char service[RECORD_NAME_MAX + 1];
    char to[ADDR_TEXT_MAX]; /* an upstream's address; empty: whoever has the route */
    uint16_t port;          /* the service's usual one, for people; 0: not known */
    bool proxy;             /* the upstream expects a PROXY header */
    bool anyone;            /* no list */
    uint64_t streams, refused;
};

struct state {
    char *path; /* owned */
    uint16_t port;
    char servers[STATE_SERVERS_MAX][STATE_SERVER_TEXT];
    size_t server_count;
    struct publication publications[STATE_PUBLICATIONS_MAX];
    size_t publication_count;
    struct allowed allowed[STATE_ALLOWED_MAX];
    size_t allowed_count;
};

/* Without a file there is nothing published. -EBADMSG for one that makes no sense. */
int state_load(struct state *s, const char *path) WARN_UNUSED;
void state_done(struct state *s);
int state_save(const struct state *s) WARN_UNUSED;
/* malloc()ed text, and back; for tests, and used by the two above. */
char *state_format(const struct state *s);
int state_parse(struct state *s, const char *text) WARN_UNUSED;

struct publication *state_publication(struct state *s, struct str service);
/* Adds or replaces; -ENOSPC. */
int state_publish(struct state *s, const struct publication *p) WARN_UNUSED;
void state_unpublish(struct state *s, struct publication *p);

/* -ENOSPC above STATE_ALLOWED_MAX. Twice is once. */
int state_allow(struct state *s, const struct allowed *a) WARN_UNUSED;
/* Says whether there was such an entry. STATE_ALL: all entries of the key. */
bool state_deny(struct state *s, const struct key *key, const char *service);
/* May this key dial this service; with an empty one: anything that is published? */
bool state_may(struct state *s, const struct key *key, struct str service);
/* Is this key allowed anything by itself? */
bool state_lists(const struct state *s, const struct key *key);
bool state_anyone(const struct state *s);
/* -ENOSPC, -ENAMETOOLONG; twice is once. Says by 1 that it is new. */
int state_server_add(struct state *s, const char *server) WARN_UNUSED;
