#pragma once
/* The connectivity-check machine: finds a path over UDP between two peers that were introduced to
 * each other. It has no sockets, no clock and no randomness of its own: time and packets come in,
 * actions go out.
 *
 *     punch_new()                     with what the introduction told
 *     while (punch_poll(p, now, &a))  do what it says
 *     call punch_poll() again at punch_next(), after punch_input(), and after the other events
 *     punch_free()                    when the session has moved, or after PUNCH_FAILED
 *
 * Sockets are numbers: 0 is the one that was there before (the candidates are about it); others
 * exist after PUNCH_OPEN. Both peers keep a machine until the session has moved: the caller's proof
 * comes from the callee's answers. */

#include "punch/candidate.h"
#include "punch/classify.h"
#include "punch/guess.h"
#include "wire/probe.h"
#include "wire/technique.h"

#define PUNCH_KEY        16
#define PUNCH_PROBES_MAX 10 /* to one candidate */
#define PUNCH_PROBES_IP  40 /* to one address that has not answered and that no server has seen */
#define PUNCH_PEERS_MAX  16 /* addresses that are learned from packets */
#define PUNCH_SETTLE_US  500000u
/* A first attempt, one that tries again, one of which nothing is hoped (by the hint), and one of
 * which nothing can be. */
#define PUNCH_FIRST_US    1500000u
#define PUNCH_AGAIN_US    2500000u
#define PUNCH_BRIEF_US    1000000u
#define PUNCH_HOPELESS_US 700000u

/* The tag of a probe: a keyed hash, for instance siphash128() or keyed BLAKE2b of 16 bytes. */
typedef void punch_mac(const uint8_t key[PUNCH_KEY], const void *bytes, size_t n,
                       uint8_t ret_tag[PROBE_TAG]);

struct punch_config {
    bool caller;
    uint64_t attempt;
    uint8_t own_key[PUNCH_KEY];  /* what the other side's probes are made with */
    uint8_t peer_key[PUNCH_KEY]; /* what ours are made with; both may be one secret */
    punch_mac *mac;
    struct nat own, peer;
    struct candidates local,
        remote; /* of a peer that counts its ports, the newest sample comes first */
    struct addr
        peer_seen;  /* where a server saw the peer; guesses go nowhere else. AF_UNSPEC: nowhere */
    bool may_guess; /* both peers agree, and nobody else guesses at this address now */
    bool again;     /* a second try, with sockets of its own: it opens more carefully */
    enum technique hint;  /* what has worked between such NATs; chooses what is done first, and
                             nothing that is possible becomes impossible by it */
    unsigned ports_spent; /* of the own NAT, by earlier guesses that it has not forgotten yet */
    uint64_t seed;        /* random */
    uint64_t start_us;    /* nothing is sent before */
};

struct punch_path {
    unsigned socket;
    enum candidate_kind kind;
    struct addr remote;
    uint32_t rtt_us;
    enum technique technique; /* by what it was found */
};

enum punch_reason {
    PUNCH_NO_REASON,
    PUNCH_NO_CANDIDATES, /* nothing that both sides have an address for */
    PUNCH_NO_ANSWER,
    PUNCH_ONE_WAY, /* the peer's packets came, ours did not arrive */
    PUNCH_GUESSED_OUT,
    PUNCH_BOTH_SYMMETRIC,
    PUNCH_UDP_BLOCKED,
    PUNCH_REASON_END
};
const char *punch_reason_sentence(enum punch_reason reason);

enum punch_action_type {
    PUNCH_SEND,   /* bytes from socket to `to`, with ttl unless 0 */
    PUNCH_OPEN,   /* UDP sockets with the numbers socket to socket + count - 1, each of its own port
                   */
    PUNCH_PROVEN, /* path works in both directions; the later one is the better */
    PUNCH_DONE,   /* no better one will come */
    PUNCH_FAILED  /* reason; the next try needs a fresh socket and a new introduction */
};

struct punch_action {
    enum punch_action_type type;
    unsigned socket, count, ttl;
    struct addr to;
    uint8_t bytes[PROBE_SIZE];
    struct punch_path path;
    enum punch_reason reason;
};

struct punch;

/* NULL without memory. */
struct punch *punch_new(const struct punch_config *config);
void punch_free(struct punch *p);

bool punch_poll(struct punch *p, uint64_t now_us, struct punch_action *ret_action);
/* When to poll although nothing has happened; UINT64_MAX: never. */
uint64_t punch_next(const struct punch *p);

/* Bytes for which probe_looks(). -EBADMSG, -EPROTONOSUPPORT, -ENOENT (another attempt's) or -EACCES
 * (not made by the peer): nothing has changed then. */
int punch_input(struct punch *p, unsigned socket, const struct addr *from, struct str bytes,
                uint64_t now_us) WARN_UNUSED;
/* A socket of PUNCH_OPEN could not be had. */
void punch_lost(struct punch *p, unsigned socket);

enum guess_plan punch_plan(const struct punch *p);
const struct punch_path *punch_best(const struct punch *p); /* NULL: none is proven */

/* What was tried, for whoever asks why. */
struct punch_tried {
    struct candidate candidate;
    unsigned sent, heard; /* probes of ours; probes of the peer's, answers with them */
    bool proven;
};
size_t punch_tried(const struct punch *p, struct punch_tried *ret_tried, size_t size);
unsigned punch_guesses_sent(const struct punch *p);
