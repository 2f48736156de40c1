#pragma once
/* How many connections each client address has: a bounded table of counters that the threads share.
 * Of an IPv6 address the first 64 bits count, which are one customer's. Unix clients are not
 * counted: they have no address. */

#include <stdint.h>

#include "base/addr.h"

struct sources;

/* NULL when memory is short. */
struct sources *sources_new(void);
void sources_free(struct sources *s);
/* One more, and how many there are with it; 0 when it cannot be counted. */
uint32_t sources_add(struct sources *s, const struct addr *peer);
/* One less; for each address as often as sources_add() counted it. */
void sources_remove(struct sources *s, const struct addr *peer);
uint32_t sources_count(struct sources *s, const struct addr *peer);
