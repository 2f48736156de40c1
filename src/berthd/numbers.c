/* Deals out small numbers and takes them back, so that tables by number stay dense. */
#include <stdlib.h>

#include "berthd/server.h"

void numbers_init(struct numbers *n, uint32_t max)
{
    *n = (struct numbers){.max = max};
}

uint32_t numbers_take(struct numbers *n)
{
    if (n->free_count > 0)
        return n->free[--n->free_count];
    return n->next < n->max ? n->next++ : UINT32_MAX;
}

void numbers_give(struct numbers *n, uint32_t number)
{
    if (n->free_count == n->free_size) {
        size_t size = n->free_size ? 2 * n->free_size : 64;
        uint32_t *more = reallocarray(n->free, size, sizeof *more);
        if (!more)
            return; /* One number less is better than an error here. */
        n->free = more;
        n->free_size = size;
    }
    n->free[n->free_count++] = number;
}

void numbers_reserve(struct numbers *n, uint32_t number)
{
    for (size_t i = 0; i < n->free_count; i++)
        if (n->free[i] == number)
            n->free[i--] = n->free[--n->free_count];
    while (n->next <= number) {
        if (n->next < number)
            numbers_give(n, n->next);
        n->next++;
    }
}
