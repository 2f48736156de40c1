#pragma once
/* Addresses at which a peer may be reached, and in which order they are tried (RFC 8445 5.1).
 * Values; nothing is owned. */

#include "base/addr.h"
#include "base/fd.h"

#define CANDIDATES_MAX 16

/* The first three as records have them. */
enum candidate_kind {
    CANDIDATE_HOST = 1,
    CANDIDATE_REFLEXIVE,
    CANDIDATE_MAPPED,
    CANDIDATE_PEER_REFLEXIVE,
    CANDIDATE_RELAYED,
    CANDIDATE_GUESSED, /* not offered by anybody */
    CANDIDATE_KIND_END
};

enum candidate_transport { CANDIDATE_UDP = 1, CANDIDATE_TCP };

struct candidate {
    enum candidate_kind kind;
    enum candidate_transport transport;
    struct addr addr;
    uint32_t priority;
};

struct candidates {
    struct candidate at[CANDIDATES_MAX];
    size_t count;
};

/* Takes one in; the later of two equal kinds has the lower priority. When the list is full the
 * least of all goes. false: it is no use (candidate_is_usable), or known already, or less than all.
 */
bool candidates_add(struct candidates *list, enum candidate_kind kind,
                    enum candidate_transport transport, const struct addr *a);

/* RFC 8445 5.1.2.1, for the one component that there is. */
uint32_t candidate_priority(enum candidate_kind kind, const struct addr *a, unsigned place);
/* RFC 8445 6.1.2.3: the controlling agent is the caller here. */
uint64_t candidate_pair_priority(uint32_t of_caller, uint32_t of_callee);

/* Unicast, with a port, and neither loopback nor link-local: those mean another host to everybody.
 */
bool candidate_is_usable(const struct addr *a);
/* Neither private (RFC 1918, RFC 4193) nor a carrier's (RFC 6598): a mapping to any of those ends
 * in a second NAT. */
bool candidate_is_public(const struct addr *a);
/* Port or not, the same host? */
bool candidate_same_ip(const struct addr *a, const struct addr *b);
const char *candidate_kind_word(enum candidate_kind kind);
