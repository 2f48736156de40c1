#pragma once
/* What only one other peer can read: sealed from one Ed25519 key to another, by way of the X25519
 * keys that belong to them. Whoever opens it knows who sealed it, for what, and that nobody changed
 * it; both ends can make it, so it proves nothing to a third. */

#include "keys/keys.h"

/* What is in it. A box for one purpose cannot be opened for another. */
enum box_purpose { BOX_OFFER, BOX_LAN_QUERY, BOX_LAN_ANSWER, BOX_PURPOSE_COUNT };

/* 24 bytes nonce, 16 bytes authenticator. */
#define BOX_OVERHEAD 40
/* 32 bytes of a key made for this once, 16 bytes authenticator. */
#define BOX_HIDDEN_OVERHEAD 48

/* ret_sealed has room for plain.n + BOX_OVERHEAD bytes. Returns that many, or -EINVAL when `to` is
 * no point that anything can be sealed to. */
int key_seal(const struct identity *from, const struct key *to, enum box_purpose purpose,
             struct str plain, uint8_t *ret_sealed) WARN_UNUSED;
/* ret_plain has room for sealed.n - BOX_OVERHEAD bytes. Returns that many, or -EBADMSG when it was
 * not sealed by `from` for `to` and this purpose. */
int key_open(const struct identity *to, const struct key *from, enum box_purpose purpose,
             struct str sealed, uint8_t *ret_plain) WARN_UNUSED;

/* The same without a sender: only the receiver learns what is in it, and from it who sent it. By
 * itself it proves nothing. ret_sealed has room for plain.n + BOX_HIDDEN_OVERHEAD. -EINVAL. */
int key_hide(const struct key *to, struct str plain, uint8_t *ret_sealed) WARN_UNUSED;
int key_unhide(const struct identity *to, struct str sealed, uint8_t *ret_plain) WARN_UNUSED;
