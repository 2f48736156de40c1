#pragma once
/* Which way a session's packets take. It begins on a relay; when the other side may be reached
 * directly it moves there, and back to the relay when that path dies. Only the side that called
 * moves; the other one follows. */

#include "peerd/pause.h"
#include "punch/candidate.h"
#include "session/session.h"
#include "wire/offer.h"

#define PATH_TRIES_MAX (OFFER_CANDIDATES_MAX + 1)

struct remote;
struct peerd;

enum path_stage {
    PATH_NONE,    /* nothing is known to try */
    PATH_TRYING,  /* an address is being validated */
    PATH_MOVED,   /* packets go to one that checks have proven, while QUIC validates it */
    PATH_DIRECT,  /* and has answered */
    PATH_FALLING, /* it has died, and the way back is not open yet */
    PATH_RESTING, /* none answered; later again */
};

enum path_result { PATH_UNTRIED, PATH_ASKED, PATH_PROVEN, PATH_SILENT };

struct path_try {
    struct quic_path path;
    enum record_kind kind;
    enum path_result result;
    uint64_t proven_ms; /* when checks have proven it in both directions; 0: they have not */
    uint32_t rtt_us;    /* by these checks */
};

struct path {
    enum path_stage stage;
    struct path_try tries[PATH_TRIES_MAX];
    size_t count, at;
    struct timer timer;
    uint64_t packets_in;  /* when last looked at */
    uint64_t heard_ms;    /* when that had changed, or something was asked */
    uint64_t patience_ms; /* when last looked at: for how long it may be silent */
    uint64_t since_ms;    /* when it went directly */
    uint64_t first_ms;    /* when it did so first since it was dialled; 0: never */
    uint64_t answered_ms; /* when nothing waited for an acknowledgement in vain */
    uint64_t pinged_ms;
    unsigned unanswered; /* when last looked at */
    bool busy;           /* had streams when last looked at */
    uint64_t asked_ms;   /* when it went over TCP, or UDP was asked for since */
    unsigned moves, falls;
    unsigned deaths;   /* of direct paths that had not lasted, in a row */
    unsigned failures; /* of checks, since the last that found something */
    uint64_t rest_ms;  /* when what is being tried answers not either; 0: as usual */
    bool doubted; /* what checks had proven was silent to QUIC: it is asked first from then on */
};

void path_init(struct remote *r);
void path_done(struct remote *r);
/* The other side's offer for a call, of either direction. */
void path_offer(struct remote *r, const struct offer *o);
/* Checks have found a way: the session goes there when QUIC has validated it, too. */
void path_found(struct remote *r, const struct quic_path *path, enum candidate_kind kind);
/* Checks have proven it just now, in both directions: the session goes there at once, and comes
 * back when QUIC hears nothing there. */
void path_checked(struct remote *r, const struct quic_path *path, enum candidate_kind kind,
                  uint32_t rtt_us);
/* The session has come up, or is another one. */
void path_up(struct remote *r);
/* Checks have found nothing. */
void path_not_found(struct remote *r, enum path_hope hope);
/* Somebody asks for a better path: what has rested is tried again now, unless checks run. */
void path_asked(struct remote *r);
/* The same, whatever runs. */
void path_retry(struct remote *r);
/* We are on another network, or on one more: a direct path has to show soon that it still works. */
void path_network_changed(struct remote *r);
/* The other side is, or it has a port now: what has failed may work. */
void path_peer_changed(struct remote *r);
/* To the relay, at once. */
void path_relay(struct remote *r);
/* This way has ended: nothing can be sent over it any more. */
void path_lost(struct remote *r, uint32_t path_id);
/* The answer of a path's validation. */
void path_answered(struct remote *r, const struct quic_path *path, bool ok);
/* A datagram that is neither QUIC nor a server's. */
void path_input(struct peerd *p, const struct addr *from, const void *bytes, size_t n);
/* Whether packets go directly now. */
bool path_is_direct(const struct remote *r);
/* ... and over UDP: nothing better is to be had. */
bool path_is_best(const struct remote *r);
bool path_is_over_tcp(const struct remote *r);
const char *path_result_word(enum path_result result);
