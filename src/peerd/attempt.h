#pragma once
/* What was tried to reach a peer directly: of the last few calls each pair, with what was sent and
 * what came back. For `berth why`. */

#include "punch/punch.h"

#define ATTEMPTS_KEPT 4
#define ATTEMPT_PAIRS 32

struct remote;

enum attempt_event { ATTEMPT_CONNECTING, ATTEMPT_NOT_CONNECTED, ATTEMPT_GREETED };

struct attempt_pair {
    struct addr addr;
    enum candidate_kind kind;
    enum candidate_transport transport;
    unsigned sent, heard; /* UDP: checks; TCP: connections, and those that were good */
    int err;              /* TCP: the last one's */
    bool proven;
};

struct attempt {
    uint64_t call;
    uint64_t begun_ms;
    unsigned role; /* of the punching */
    enum guess_plan plan;
    enum punch_reason reason; /* why it found nothing */
    enum technique technique; /* by what it found something */
    struct nat peer;          /* as it says itself */
    bool peer_maps, peer_v6;  /* it offers such an address */
    bool peer_guessing;       /* it lets ports be guessed */
    bool running;
    unsigned guesses;
    struct attempt_pair pairs[ATTEMPT_PAIRS];
    size_t count;
};

/* In struct remote. */
struct attempts {
    struct attempt *at[ATTEMPTS_KEPT]; /* owned; the newest first */
};

void attempts_done(struct attempts *a);
/* How the checks of this role stand: when they begin, and when somebody asks. */
void attempt_checks(struct remote *r, unsigned role);
/* The same before they end. */
void attempt_end(struct remote *r, unsigned role);
/* Something about a TCP connection, for the call of this role. */
void attempt_tcp(struct remote *r, unsigned role, const struct addr *addr, enum attempt_event event,
                 int err);
