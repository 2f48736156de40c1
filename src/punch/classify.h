#pragma once
/* How a NAT behaves, from what STUN servers saw of fresh sockets (RFC 5780 4, RFC 4787 4 and 5).
 * Pure. */

#include "base/addr.h"
#include "base/fd.h"

/* What of the remote end a mapping belongs to. The values are on the wire. */
enum nat_mapping {
    NAT_MAPPING_UNKNOWN,
    NAT_MAPPING_NONE, /* no NAT: the address outside is the one inside */
    NAT_MAPPING_EIM,
    NAT_MAPPING_ADM,
    NAT_MAPPING_APDM,
    NAT_MAPPING_BLOCKED, /* no answer: no UDP */
    NAT_MAPPING_END
};
/* Whose packets it lets in. The values are on the wire. */
enum nat_filtering {
    NAT_FILTERING_UNKNOWN,
    NAT_FILTERING_EIF,
    NAT_FILTERING_ADF,
    NAT_FILTERING_APDF,
    NAT_FILTERING_END
};
/* How a new mapping gets its port. The values are on the wire. */
enum nat_allocation {
    NAT_ALLOCATION_UNKNOWN,
    NAT_ALLOCATION_KEEP,     /* the port of the inside, when it is free */
    NAT_ALLOCATION_SEQUENCE, /* delta behind the last one */
    NAT_ALLOCATION_RANDOM,
    NAT_ALLOCATION_BLOCK, /* random in a small range; delta is its length */
    NAT_ALLOCATION_END
};

struct nat {
    enum nat_mapping mapping;
    enum nat_filtering filtering;
    enum nat_allocation allocation;
    int16_t delta;
    uint16_t block_first; /* of a block */
};

#define NAT_SAMPLES_MAX  32
#define NAT_BLOCK_MAX    4096 /* ports that lie wider apart are random */
#define NAT_SEQUENCE_MAX 64   /* steps that are wider are no sequence */

/* One answer: what `server` saw of the socket. Samples stand in the order of time; those of one
 * socket have its number. */
struct nat_sample {
    unsigned socket;
    struct addr local; /* the address may be a wildcard */
    struct addr server, mapped;
};

/* RFC 5780 4.4: did answers come through that were asked to come from elsewhere? */
enum nat_heard { NAT_NOT_ASKED, NAT_HEARD, NAT_SILENT };
struct nat_filter_test {
    enum nat_heard other_address, other_port;
};

/* For mapping one socket must have asked two servers, or two ports of one; for allocation four
 * sockets. What the samples do not tell stays unknown. */
struct nat nat_classify(const struct nat_sample *samples, size_t n, struct nat_filter_test test);

/* What a peer said of its NAT in numbers (any numbers), with the address that was seen of it. */
struct nat nat_from_wire(uint8_t mapping, uint8_t allocation, int16_t delta,
                         const struct addr *seen);

/* "apdm/apdf/sequence+2"; a key for what worked between two such NATs. */
#define NAT_TEXT_MAX 48
const char *nat_format(const struct nat *nat, char buf[NAT_TEXT_MAX]);

/* A new mapping for each remote end, and so a port that the other does not know. */
bool nat_is_symmetric(const struct nat *nat);
/* The same, and the next port that it gives can be told from the last. */
bool nat_counts(const struct nat *nat);
