#pragma once
/* Offers from peer to peer, sealed, so that a server that passes them on can neither read nor make
 * them. */

#include "keys/box.h"
#include "wire/offer.h"

#define SEALED_OFFER_MAX (OFFER_MAX + BOX_OVERHEAD)
/* How far the two peers' clocks may be apart: a machine without a battery is not kept out, and what
 * was recorded long ago is worth nothing. */
#define SEALED_OFFER_AGE_MS (24ull * 3600 * 1000)

/* Length in buf, -EMSGSIZE, or -EINVAL when nothing can be sealed to this key. */
int sealed_offer_make(const struct identity *from, const struct key *to, const struct offer *o,
                      uint8_t buf[SEALED_OFFER_MAX]) WARN_UNUSED;
/* -EBADMSG (not from this key, or no offer), -EPROTONOSUPPORT (a later version). */
int sealed_offer_open(const struct identity *to, const struct key *from, struct str sealed,
                      struct offer *ret_offer) WARN_UNUSED;
/* -EINVAL: it is for another call; -ESTALE: made too long ago, or one of the clocks is wrong. */
int sealed_offer_fits(const struct offer *o, uint64_t call, uint64_t unix_ms) WARN_UNUSED;
