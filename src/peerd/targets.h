#pragma once
/* How often an address is sent to only because peers have offered it, over all peers: whoever lists
 * somebody else's address, under many keys or again and again, makes us send little there. */

#include "base/addr.h"
#include "base/siphash.h"

/* Introductions in a period whose checks and connections may go to one address: 40 probes each
 * (PUNCH_PROBES_IP), and as many SYNs. */
#define TARGETS_STARTS    16
#define TARGETS_PERIOD_MS 10000
#define TARGETS_BUCKETS   1024

/* Counters that addresses share by a secret hash: nobody can push another address out. */
struct targets {
    uint8_t key[SIPHASH_KEY];
    uint64_t since_ms;
    uint8_t starts[TARGETS_BUCKETS];
};

void targets_init(struct targets *t);
/* One more; false: not now. IPv6 addresses count by their networks (/64). */
bool targets_take(struct targets *t, const struct addr *a, uint64_t now_ms) WARN_UNUSED;
