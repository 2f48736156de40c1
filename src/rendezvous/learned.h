#pragma once
/* Which technique brought two peers together, by the NATs that they are behind, so that the next
 * two behind such NATs begin with it. A table of fixed size that forgets; for any number of
 * threads. What peers say is not checked, so a hint only ever changes what is tried first, and of
 * one network little is believed at once. */

#include "base/addr.h"
#include "wire/technique.h"

/* Pairs of NATs that are remembered: 160 KiB in all. */
#define LEARNED_PAIRS 4096
/* What was learned counts half after so long. */
#define LEARNED_HALF_S (6 * 3600)
/* Of one network one report of a technique in so long counts, for each pair of NATs. */
#define LEARNED_EACH_S 60

struct learned;

struct learned_report {
    struct nat_print prints[2]; /* of the two NATs, in any order */
    uint64_t call;
    enum technique technique;
    const struct addr *from; /* who says so */
};

/* NULL without memory. */
struct learned *learned_new(void);
void learned_free(struct learned *l);
/* What worked most between two such NATs; TECHNIQUE_UNKNOWN when nothing is known, and for one call
 * in 16, so that it shows what would work without a hint. The same for a call whenever it is asked.
 */
enum technique learned_hint(struct learned *l, const struct nat_print prints[2], uint64_t call,
                            uint32_t now_s);
/* False when it does not count. */
bool learned_count(struct learned *l, const struct learned_report *report, uint32_t now_s);
