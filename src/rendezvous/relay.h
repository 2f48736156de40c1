#pragma once
/* Calls, and the relay channels that each of them opens: a pair of keys, where both are, and how
 * much they may send. Packets of a pair go from the one's place to the other's and nowhere else; no
 * address is ever taken from a packet. Safe for any number of threads: calls take a lock, passing a
 * packet on takes none. */

#include "rendezvous/place.h"
#include "wire/rdvmsg.h"

/* Bits of a channel: which side, which pair, and which of those that were there one after the
 * other. */
#define RELAY_PAIR_BITS 20
#define RELAY_PAIRS_MAX (1 << RELAY_PAIR_BITS)
/* Without a packet for so long a pair is gone. */
#define RELAY_IDLE_S 60

struct relay;

enum relay_side { RELAY_CALLER, RELAY_CALLEE, RELAY_SIDES };

struct relay_limits {
    size_t pairs, pairs_key;     /* in all, and with the same caller */
    uint64_t rate_all, rate_key; /* bytes a second; 0: no limit */
};

struct relay_call {
    const uint8_t *caller, *callee; /* keys */
    uint64_t call;
    struct place from, to;  /* to may be nowhere until the callee opens its side */
    uint32_t rtt_us;        /* the caller's */
    struct nat_print print; /* of whose message it is */
};

/* What the server keeps of the caller for the answer. */
struct relay_asked {
    struct place at;
    uint32_t rtt_us;
    struct nat_print print;
};

/* What is known of a call that worked, or did not. */
struct relay_worked {
    struct nat_print prints[RELAY_SIDES];
    bool again; /* the caller has said so before */
};

struct relay_ends {
    uint32_t channel[RELAY_SIDES];
    uint8_t ticket[RELAY_SIDES][RDVMSG_TICKET];
};

/* NULL without memory. */
struct relay *relay_new(const struct relay_limits *limits);
void relay_free(struct relay *r);

/* A call, or the same once more. RDV_NO_RELAY when there is no room for a pair, RDV_DRAINING. */
enum rdv_reason relay_call(struct relay *r, const struct relay_call *c, uint32_t now_s,
                           struct relay_ends *ret_ends);
/* The callee takes the call (reason RDV_OK) or does not, which closes the channel. RDV_UNKNOWN_CALL
 * where there is none. */
enum rdv_reason relay_answer(struct relay *r, const struct relay_call *c, enum rdv_reason reason,
                             struct relay_asked *ret_asked);
/* The caller says by what technique it reached the callee. RDV_UNKNOWN_CALL also when the callee
 * has not taken the call. */
enum rdv_reason relay_worked(struct relay *r, const struct relay_call *c, enum technique technique,
                             struct relay_worked *ret_worked);
/* From now on this side of the channel is there. RDV_UNKNOWN_CHANNEL also for a wrong ticket. */
enum rdv_reason relay_open(struct relay *r, uint32_t channel, const uint8_t ticket[RDVMSG_TICKET],
                           const struct place *at, uint32_t now_s);
/* Is this side of the channel there? */
bool relay_is_at(struct relay *r, uint32_t channel, const struct place *at);

enum relay_verdict {
    RELAY_PASS,
    RELAY_UNKNOWN, /* no such channel, or not from there */
    RELAY_NOWHERE, /* the other one has not opened its side yet */
    RELAY_LIMITED, /* more than the pair's caller or all may send */
};

/* What a thread may send yet before it looks at the limit for all again. */
struct relay_credit {
    size_t bytes;
};

struct relay_packet {
    uint32_t channel;
    size_t bytes; /* of all packets that are passed at once */
    struct place from;
    uint64_t now_ms;
};

/* May it pass, and where to? */
enum relay_verdict relay_pass(struct relay *r, struct relay_credit *credit,
                              const struct relay_packet *p, uint32_t *ret_channel,
                              struct place *ret_to);

/* The caller's channel, for one that sends before it was told of it: from where its call came only,
 * and only so many packets that the place in a busy thread which they take without a share is
 * small. 0: none, or it cannot be said at once. */
uint32_t relay_early(struct relay *r, uint64_t call, const struct place *from);

/* From now on no new pairs. */
void relay_drain(struct relay *r);
/* Frees pairs that are idle. To be called about every second. */
void relay_sweep(struct relay *r, uint32_t now_s);
size_t relay_count(struct relay *r);
