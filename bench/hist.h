#pragma once
/* A histogram of durations with 0.1 % steps: fixed memory however many samples it takes. */

#include <stddef.h>
#include <stdint.h>

#define HIST_STEP_BITS 10
#define HIST_STEPS     (1u << HIST_STEP_BITS)
/* 2^42 ns is over an hour: no measured answer takes longer. */
#define HIST_MAX_BITS 42
#define HIST_BUCKETS  ((HIST_MAX_BITS - HIST_STEP_BITS + 1) * HIST_STEPS)

struct hist {
    uint64_t total;
    uint32_t buckets[HIST_BUCKETS];
};

static inline size_t hist_bucket(uint64_t ns)
{
    if (ns < HIST_STEPS)
        return ns;
    if (ns >= UINT64_C(1) << HIST_MAX_BITS)
        return HIST_BUCKETS - 1;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - HIST_STEP_BITS;
    return (size_t)(shift + 1) * HIST_STEPS + (size_t)((ns >> shift) - HIST_STEPS);
}

static inline void hist_add(struct hist *h, uint64_t ns)
{
    h->total++;
    h->buckets[hist_bucket(ns)]++;
}

static inline void hist_merge(struct hist *into, const struct hist *from)
{
    into->total += from->total;
    for (size_t i = 0; i < HIST_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
}

/* The lower edge of a bucket, in nanoseconds. */
static inline uint64_t hist_edge(size_t bucket)
{
    if (bucket < HIST_STEPS)
        return bucket;
    size_t shift = bucket / HIST_STEPS - 1;
    return (uint64_t)(HIST_STEPS + bucket % HIST_STEPS) << shift;
}

/* The duration that `permille` of the samples stay below; 0 without samples. */
static inline uint64_t hist_quantile(const struct hist *h, unsigned permille)
{
    uint64_t want = h->total * permille / 1000;
    uint64_t seen = 0;
    for (size_t i = 0; i < HIST_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen > want)
            return hist_edge(i);
    }
    return 0;
}

/* The slowest sample; 0 without samples. */
static inline uint64_t hist_largest(const struct hist *h)
{
    for (size_t i = HIST_BUCKETS; i-- > 0;)
        if (h->buckets[i])
            return hist_edge(i);
    return 0;
}
