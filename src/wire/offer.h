#pragma once
/* What a peer tells another, and nobody else, when a path between them is to be made: where it may
 * be reached and how its NAT behaves. This is the plaintext; keys/box.h seals it, and a rendezvous
 * server passes the box on without reading it. docs/RENDEZVOUS.md shows the bytes. */

#include "wire/record.h"

#define OFFER_VERSION        1
#define OFFER_CANDIDATES_MAX RECORD_CANDIDATES_MAX
#define OFFER_SECRET         16
#define OFFER_MAX            512 /* bytes, not sealed */

/* Ports may be guessed at the maker's address. */
#define OFFER_MAY_GUESS 1
/* The maker's router maps ports when it is asked to. */
#define OFFER_MAPS 2
/* It is just being asked. */
#define OFFER_ASKS 4

struct offer {
    uint64_t call;                /* the attempt that it belongs to */
    uint64_t unix_ms;             /* when it was made, by its maker's clock */
    uint8_t secret[OFFER_SECRET]; /* made for this attempt: authenticates probes to its maker */
    uint8_t mapping, allocation;  /* how the maker's NAT behaves; what is not known is 0 */
    int16_t delta;                /* from one port that the NAT allocates to the next */
    uint8_t filtering;            /* whose packets it lets in; 0: not known, or not said */
    uint8_t flags;                /* OFFER_MAY_GUESS, ...; what is not known here is kept */
    struct record_candidate candidates[OFFER_CANDIDATES_MAX];
    size_t candidate_count;
};

/* Length, or -EMSGSIZE. */
int offer_encode(const struct offer *o, void *buf, size_t size) WARN_UNUSED;
/* -EBADMSG, or -EPROTONOSUPPORT for a version that is not known here. Filtering and flags may be
 * missing; bytes behind them are passed over, so that fields can be added. */
int offer_decode(struct offer *ret_offer, const void *buf, size_t n) WARN_UNUSED;
