#pragma once
/* For how long the NAT keeps a mapping that nobody uses (RFC 5780 4.6): a resting socket makes one
 * by asking a STUN server, as a session would, with packets in both directions for more than two
 * seconds; when it has rested for a while a second socket asks the server for an answer to the
 * mapping's port. What arrives was let in, so the mapping is still there. No sockets, no clock. */

#include "base/str.h"
#include "wire/stun.h"

/* Before a question counts as not answered. */
#define LIFETIME_TRIES     4
#define LIFETIME_RTO_US    500000u
#define LIFETIME_FLOW_US   2200000u /* Linux: what is still in use after 2 s is kept for longer */
#define LIFETIME_MOST_MS   300000u
#define LIFETIME_SENDS_MAX 100 /* of one measurement, with every loss */

enum lifetime_socket { LIFETIME_RESTS, LIFETIME_ASKS, LIFETIME_SOCKETS };

enum lifetime_state {
    LIFETIME_MEASURING,
    LIFETIME_MEASURED,
    LIFETIME_IMPOSSIBLE, /* the server does not do it, or the NAT shows its sockets at several
                            addresses */
    LIFETIME_CUT_OFF     /* the server does not answer (any more) */
};

enum lifetime_inbound {
    LIFETIME_INBOUND_UNKNOWN,
    LIFETIME_INBOUND_KEEPS,
    LIFETIME_INBOUND_IGNORED
};

/* What is known so far. */
struct lifetime_result {
    enum lifetime_state state;
    uint32_t alive_ms; /* a mapping that had rested for so long was there; 0: none was seen yet */
    uint32_t dead_ms;  /* one that had rested for so long was not; 0: none was seen yet */
    enum lifetime_inbound inbound; /* do packets from outside alone keep it? */
    unsigned sent;                 /* packets */
};

struct lifetime_send {
    enum lifetime_socket socket;
    uint8_t bytes[STUN_FILL_MAX + 16];
    size_t n;
};

struct lifetime;

/* The seed is random. NULL: no memory. */
struct lifetime *lifetime_new(uint64_t seed);
void lifetime_free(struct lifetime *l);
/* A packet for the server that is due now; to be called until there is none. */
bool lifetime_poll(struct lifetime *l, uint64_t now_us, struct lifetime_send *ret_send);
/* UINT64_MAX: it has ended. */
uint64_t lifetime_next(const struct lifetime *l);
/* A packet that came to one of the sockets, from the server's address. What is no answer to the
 * question under way is passed over. */
void lifetime_input(struct lifetime *l, enum lifetime_socket socket, struct str bytes,
                    uint64_t now_us);
struct lifetime_result lifetime_result(const struct lifetime *l);

/* How often an idle path wants a packet, by what is known. */
uint32_t lifetime_interval_ms(const struct lifetime_result *r);
const char *lifetime_inbound_word(enum lifetime_inbound inbound);
