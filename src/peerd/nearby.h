#pragma once
/* Ways to a peer that need no server: the local network, and where it has answered before. They are
 * tried when no server is there, when none brings the call to the peer within a second and a half,
 * and when the call fails. */

#include "peerd/lan.h"
#include "peerd/met.h"
#include "peerd/netwatch.h"

struct peerd;
struct remote;

/* In struct remote: one attempt. */
struct near {
    struct timer timer; /* when it fires, the servers have taken too long */
    bool asked;         /* in this attempt */
    bool asking;        /* the end will come */
    int err;            /* how the call has failed meanwhile; 0: it has not */
    char sentence[160];
};

/* In struct peerd. */
struct nearby {
    struct peerd *peerd;
    struct lan *lan; /* NULL: no interface for it yet */
    struct timer timer;
    struct met met;
    struct netwatch netwatch;
};

void nearby_start(struct nearby *n, struct peerd *p);
void nearby_stop(struct nearby *n);

void nearby_init(struct remote *r);
void nearby_done(struct remote *r);
/* An attempt begins. */
void nearby_begin(struct remote *r);
/* The call has failed. True: other ways are being tried, and whoever waits hears of their end. */
bool nearby_holds(struct remote *r, int err, const char *sentence);
/* It has answered there, with its key. */
void nearby_note(struct remote *r, const struct addr *at);
