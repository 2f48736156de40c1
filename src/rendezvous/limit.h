#pragma once
/* How often what may be asked for: token buckets by source address, in a table of fixed size, so
 * that a flood from many addresses costs no memory. Two sources may share a bucket by chance; which
 * ones, strangers cannot steer. One for each thread. */

#include "base/addr.h"

enum limit_kind {
    LIMIT_SIGNATURE, /* checked for one source */
    LIMIT_STUN,      /* answers longer than their request, to one network */
    LIMIT_ACCEPT,    /* TCP connections from one source */
    LIMIT_CALL,      /* calls and answers from one source */
    LIMIT_KIND_COUNT,
};

struct limits;

/* NULL without memory. signatures: a second and source; 0: no limit. */
struct limits *limits_new(uint32_t signatures);
void limits_free(struct limits *l);
/* May it be done now? Counts it if so. */
bool limits_take(struct limits *l, enum limit_kind kind, const struct addr *from, uint64_t now_ms);
/* The same for all sources together. */
bool limits_take_all(struct limits *l, enum limit_kind kind, uint64_t now_ms);
