#pragma once
/* How many descriptors the ways between peers may use, whatever they are for: so many that streams
 * and the sockets of this machine's programs always get theirs. */

#include <stdbool.h>
#include <stddef.h>

enum budget_use {
    BUDGET_ATTEMPT, /* a way that is looked for: leaves room for those that are found */
    BUDGET_WAY      /* one that stands */
};

struct budget {
    size_t most, used;
};

/* Of `limit` descriptors that this process may have. */
void budget_init(struct budget *b, size_t limit);
/* Is there one more for this? */
bool budget_has(const struct budget *b, enum budget_use use);
/* One more; false: there are too many. */
bool budget_take(struct budget *b, enum budget_use use);
void budget_give(struct budget *b);
