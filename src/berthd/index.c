/* A hash table of lists. Nodes come in and go out, each stays its owner's; the table is twice as
 * large when there are more nodes than lists. */
#include "berthd/index.h"

#include <errno.h>
#include <stdlib.h>

#define INDEX_SIZE_MIN 64

static struct list *lists_new(size_t size)
{
    struct list *lists = calloc(size, sizeof *lists);
    for (size_t i = 0; lists && i < size; i++)
        list_init(&lists[i]);
    return lists;
}

int index_init(struct index *x)
{
    *x = (struct index){.lists = lists_new(INDEX_SIZE_MIN), .size = INDEX_SIZE_MIN};
    return x->lists ? 0 : -ENOMEM;
}

void index_done(struct index *x)
{
    free(x->lists);
    *x = (struct index){0};
}

struct list *index_list(const struct index *x, uint32_t hash)
{
    return &x->lists[hash & (x->size - 1)];
}

static void index_grow(struct index *x)
{
    struct index more = {lists_new(2 * x->size), 2 * x->size, x->count};
    if (!more.lists)
        return;
    for (size_t i = 0; i < x->size; i++)
        list_for_each(n, &x->lists[i], struct index_node, link)
        {
            list_remove(&n->link);
            list_append(index_list(&more, n->hash), &n->link);
        }
    free(x->lists);
    *x = more;
}

void index_add(struct index *x, struct index_node *n, uint32_t hash)
{
    if (x->count >= x->size)
        index_grow(x);
    n->hash = hash;
    list_append(index_list(x, hash), &n->link);
    x->count++;
}

void index_remove(struct index *x, struct index_node *n)
{
    x->count -= !list_empty(&n->link);
    list_remove(&n->link);
}

/* FNV-1a, whose low bits are the better ones after a last turn. */
uint32_t index_hash(const void *bytes, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)bytes)[i]) * 16777619u;
    return h ^ h >> 15;
}
