#pragma once
/* By what means a path between two peers was made, and what is known of a NAT in four bytes. Both
 * are on the wire between peers and rendezvous servers: servers learn from them which technique
 * works between two such NATs. */

#include <stdbool.h>
#include <stdint.h>

/* The values are on the wire. */
enum technique {
    TECHNIQUE_UNKNOWN,
    TECHNIQUE_PLAIN,     /* probes to the candidates that were offered */
    TECHNIQUE_CAREFUL,   /* with low-TTL openers first */
    TECHNIQUE_PREDICTED, /* to the next ports of a sequence */
    TECHNIQUE_GUESSED,   /* to ports at random, from many sockets */
    TECHNIQUE_TCP,
    TECHNIQUE_MAPPED, /* to a port that a router maps because it was asked to */
    TECHNIQUE_RELAY,  /* nothing worked */
    TECHNIQUE_END
};

/* "plain", for people, metrics and reports; "unknown" for all other numbers. */
const char *technique_word(enum technique technique);

/* A number from the wire; one that is not known here is unknown. */
enum technique technique_from(uint8_t number);

/* How a peer's NAT behaves; all 0 where nothing is known. */
struct nat_print {
    uint8_t mapping, filtering, allocation; /* the enums of punch/classify.h */
    uint8_t step; /* of a sequence: its step; of a block: log2 of its length; else 0 */
};

#define NAT_PRINT_LEN 4 /* on the wire: its bytes in this order */

bool nat_print_equal(const struct nat_print *a, const struct nat_print *b);
