#pragma once
/* Connected TCP sockets on loopback, with nobody between: a program gets one end and sees a peer
 * address that stands for who is behind the other. */

#include "base/addr.h"
#include "keys/keys.h"

/* Somewhere in 127.64.0.0/10, the same for the same key. */
struct addr pair_address(const struct key *key);

struct pair {
    int ours, theirs; /* owned by the caller; both blocking */
    struct addr ours_addr, theirs_addr;
};
/* Listens for a moment at `at`, where theirs is accepted. Our end is bound to `from`. Both are
 * IPv4. Negative errno. */
int pair_make(const struct addr *from, const struct addr *at, struct pair *ret_pair) WARN_UNUSED;
