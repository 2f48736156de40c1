#pragma once
/* What every sniffer does with its answer: clear it, say why it is bad, keep bytes in its scratch.
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wire/sniffed.h"

/* The scratch itself is left as it is: it is large, and only its used part is ever looked at. */
static inline void sniffed_reset(struct sniffed *s, enum proto proto)
{
    memset(s, 0, offsetof(struct sniffed, scratch));
    s->proto = proto;
}

static inline enum sniff_verdict sniffed_bad(struct sniffed *s, const char *reason)
{
    s->reason = reason;
    return SNIFF_BAD;
}

static inline size_t sniffed_room(const struct sniffed *s)
{
    return SNIFFED_SCRATCH - s->scratch_used;
}

/* A copy in the scratch, or an empty slice without an address when it does not fit. */
static inline struct str sniffed_keep(struct sniffed *s, struct str bytes)
{
    if (bytes.n > sniffed_room(s))
        return (struct str){NULL, 0};
    char *to = s->scratch + s->scratch_used;
    if (bytes.n > 0)
        memcpy(to, bytes.p, bytes.n);
    s->scratch_used = (uint16_t)(s->scratch_used + bytes.n);
    return (struct str){to, bytes.n};
}

/* How `in` compares with a fixed beginning: all of it there, so far the same, or different. */
static inline enum sniff_verdict sniff_starts(struct str in, struct str start)
{
    size_t n = in.n < start.n ? in.n : start.n;
    if (n > 0 && memcmp(in.p, start.p, n) != 0)
        return SNIFF_NOT;
    return n == start.n ? SNIFF_DONE : SNIFF_MORE;
}
