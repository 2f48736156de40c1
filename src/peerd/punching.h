#pragma once
/* The check machine of src/punch on berth-peer's sockets: begins when an introduction says so, and
 * what it proves becomes a path of the session. One for each call: a peer may call us while we call
 * it. */

#include "loop/loop.h"
#include "peerd/greetings.h"
#include "punch/punch.h"
#include "session/alarm.h"
#include "wire/offer.h"

enum { PUNCHING_CALLER, PUNCHING_CALLEE, PUNCHING_ROLES };

/* The number of the one UDP socket for everything. */
#define PUNCHING_USUAL UINT32_MAX

struct remote;
struct tcpguess;

struct punching {
    struct punch *machine; /* owned; NULL: none */
    uint64_t call;
    uint64_t started;             /* the call of the machine */
    unsigned starts;              /* of that call */
    uint8_t secret[OFFER_SECRET]; /* of our offer for this call */
    struct offer theirs;          /* the other side's */
    bool known;                   /* it has come */
    struct alarm alarm;           /* with the machine: both sides are to fire at once */
    struct timer timer;           /* after the machine: until nothing more can come of it */
    uint64_t end_ms;              /* when it is over for good */
    struct remote *remote;
    unsigned role;
    enum punch_reason reason;   /* why it failed last */
    enum technique hint;        /* of the machine */
    struct addr guessing_at;    /* where nobody else may guess now; len 0: nowhere */
    struct greetings greetings; /* over TCP, of this call */
    struct tcpguess *tcpguess;  /* owned; NULL: no ports are guessed over TCP now */
    enum guess_plan plan;       /* of the last attempt, over UDP or TCP */
};

void punchings_init(struct remote *r);
void punchings_done(struct remote *r);
/* Failures were those of another network. */
void punchings_forget(struct remote *r);
/* Our own offer's secret for a call, and the other side's offer. */
void punching_own(struct remote *r, unsigned role, uint64_t call,
                  const uint8_t secret[OFFER_SECRET]);
void punching_theirs(struct remote *r, unsigned role, uint64_t call, const struct offer *o);
/* The NAT that an offer tells of; `seen` (NULL: not known) says where its ports lie. */
struct nat punching_nat(const struct offer *o, const struct addr *seen);
/* To be fired so long from now; the other side is seen there (len 0: not known). The hint is the
 * server's, of what worked between such NATs. */
void punching_start(struct remote *r, unsigned role, const struct addr *seen, uint32_t wait_us,
                    enum technique hint);
/* The checks of this call have proven a path by this technique: the server learns it. */
void punching_worked(struct remote *r, unsigned role, enum technique technique);
/* Ports that were guessed over TCP have all missed. */
void punching_guessed(struct punching *g);
/* No more are guessed. */
void punching_guess_end(struct punching *g);
/* A datagram that came to the socket of this number. Says whether it was a check of this peer's. */
bool punching_input(struct remote *r, unsigned role, unsigned number, const struct addr *from,
                    const void *bytes, size_t n);
