/* Counts what is taken and given back. Nothing is owned. */
#include "peerd/budget.h"

#include <assert.h>

/* Ways have a quarter of all descriptors, and of these a quarter is for ways that stand. */
#define PART 4

void budget_init(struct budget *b, size_t limit)
{
    *b = (struct budget){.most = limit / PART};
}

bool budget_has(const struct budget *b, enum budget_use use)
{
    return b->used < (use == BUDGET_ATTEMPT ? b->most - b->most / PART : b->most);
}

bool budget_take(struct budget *b, enum budget_use use)
{
    if (!budget_has(b, use))
        return false;
    b->used++;
    return true;
}

void budget_give(struct budget *b)
{
    assert(b->used > 0);
    b->used--;
}
