#pragma once
/* What is offered to another peer in a call or an answer, made when the best is known that can be
 * had in about one round trip to a server: what our NAT is like when that is just being asked, and
 * by a fresh socket where a NAT counts its ports and where a second attempt needs another port.
 * Where nothing of this is needed an offer is made at once. */

#include "peerd/punching.h"
#include "punch/gather.h"
#include "rendezvous/presence.h"

/* The role of a fresh socket (sockets.h) until the punching that it is for begins. */
#define OFFERING_SOCKET(role) (PUNCHING_ROLES + (role))

struct peerd;
struct remote;

enum offering_stage {
    OFFERING_NOTHING,
    OFFERING_KNOWING, /* a server to register us, and our NAT to be known */
    OFFERING_ASKING,  /* a server to say where it sees a fresh socket */
};

struct offering {
    struct remote *remote;
    unsigned role;
    enum offering_stage stage;
    struct timer timer;
    uint64_t until_ms;             /* no longer is waited for what the stage waits for */
    bool registered;               /* a server is there */
    struct gather *gather;         /* owned; NULL: nothing is asked */
    bool asks_tcp;                 /* where it sees our TCP port is awaited, too */
    bool keeps;                    /* the fresh socket is for the punching, not only to be seen */
    struct presence_invite invite; /* that will be answered */
    struct nat nat;                /* ours, as the last offer said */
    bool made;                     /* there is a last offer */
    bool stale;                    /* it said less than is known now */
};

void offerings_init(struct remote *r);
/* Also when the servers are others now: nothing follows any more. */
void offerings_done(struct remote *r);
/* remote_offered() follows, perhaps from within; one that is being made is given up. */
void offering_call(struct remote *r);
/* remote_answers() follows. */
void offering_answer(struct remote *r, const struct presence_invite *i);
/* A datagram that came to a fresh socket. */
void offering_input(struct remote *r, unsigned role, const void *bytes, size_t n);
/* The last call said less of our NAT than is known now: another introduction, if it can be. */
void offering_renew(struct remote *r);

/* A server has registered us, or refuses to; more is known of our NAT. */
void offerings_look(struct peerd *p);
void offerings_nat_known(struct peerd *p);
