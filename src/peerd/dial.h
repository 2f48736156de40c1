#pragma once
/* A connection of ours to a peer's service, from when somebody asked for it until the peer has
 * answered. Afterwards the session carries it. */

#include "peerd/remote.h"
#include "rendezvous/found.h"

#define DIAL_TIMEOUT_MS 20000
#define DIALS_MAX       4096

enum dial_stage {
    DIAL_LOOKUP,  /* a server is asked who has the name */
    DIAL_WAITING, /* for a session */
    DIAL_ASKED,   /* the peer is */
    DIAL_CHECKING /* it is not there: has its name another key now? */
};

struct dial;

/* Who dialled hears of it once; `err` is 0 or negative, with a sentence. */
struct dial_host {
    void *ctx;
    void (*done)(void *ctx, struct dial *d, int err, const char *sentence);
};

struct dial {
    struct list link;
    struct peerd *peerd;
    struct dial_host host;
    struct target target;
    int fd;                /* owned until the session has it; -EBADF: only to find out */
    struct remote *remote; /* NULL: the key is not known yet */
    enum dial_stage stage;
    bool asked_server; /* its pointer is with presence: it is freed when the answer comes */
    bool dead;         /* nobody waits any more */
    int failed_with;   /* while CHECKING */
    char sentence[512];
    struct timer deadline;
    uint64_t begun_ms;
    struct trail trail;
};

/* The descriptor is consumed. NULL: no memory. Nothing is done before dial_go(), in which the
 * answer may come already. */
struct dial *dial_new_consume(struct peerd *p, const struct target *t, int fd, uint64_t timeout_ms,
                              const struct dial_host *host);
void dial_go(struct dial *d);
/* Nobody waits any more. */
void dial_forget(struct dial *d);
void dial_fail(struct dial *d, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* For all that wait for this peer. */
void dials_flush(struct remote *r);
void dials_fail(struct remote *r, int err, const char *sentence);
bool dials_waiting(const struct remote *r);
/* Events. */
void dial_found(struct dial *d, const struct presence_found *f);
void dial_answered(struct dial *d, unsigned reason);
/* The servers were changed: questions to the old ones are void, and asked anew. */
void dials_forget_lookups(struct peerd *p);
void dials_retry(struct peerd *p);
