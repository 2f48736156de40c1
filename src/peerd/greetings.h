#pragma once
/* Which numbers of greetings have been heard, so that each is good once: those of one peer come
 * over several connections, and so in any order. */

#include <stdbool.h>
#include <stdint.h>

struct greetings {
    uint32_t made;   /* the last of ours */
    uint32_t newest; /* of the other side's */
    uint64_t heard;  /* bit i: newest - i */
};

/* False: it was heard before, or is older than any that would still be known. */
static inline bool greetings_take(struct greetings *g, uint32_t number)
{
    if (number > g->newest) {
        uint32_t ahead = number - g->newest;
        g->heard = ahead < 64 ? g->heard << ahead : 0;
        g->newest = number;
    }
    uint32_t behind = g->newest - number;
    if (behind >= 64 || g->heard >> behind & 1)
        return false;
    g->heard |= UINT64_C(1) << behind;
    return true;
}
