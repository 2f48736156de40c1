/* Linear probing with backward-shift deletion, so there are no tombstones and a long life does not
 * slow it down. Entries come in and stay their owner's; only slots are ours. */
#include "rendezvous/table.h"

#include <stdlib.h>

#define SIZE_FIRST 16

/* Other bits than those that choose the slot; never 0. */
static uint8_t tag_of(uint64_t hash)
{
    return (uint8_t)(hash >> 56 | 1);
}

void table_done(struct table *t)
{
    free(t->slots);
    free(t->tags);
    *t = (struct table){.slots = NULL};
}

/* The slot of the key, or the empty one where it would go. There always is an empty one. */
static size_t seek(const struct table *t, const struct table_type *type, struct str key,
                   uint64_t hash)
{
    size_t mask = t->size - 1, i = hash & mask;
    for (; t->tags[i]; i = (i + 1) & mask)
        if (t->tags[i] == tag_of(hash) && str_eq(type->key_of(t->slots[i]), key))
            break;
    return i;
}

void *table_find(const struct table *t, const struct table_type *type, struct str key,
                 uint64_t hash)
{
    if (t->size == 0)
        return NULL;
    size_t i = seek(t, type, key, hash);
    return t->tags[i] ? t->slots[i] : NULL;
}

static void put_new(struct table *t, void *entry, uint64_t hash)
{
    size_t mask = t->size - 1, i = hash & mask;
    while (t->tags[i])
        i = (i + 1) & mask;
    t->slots[i] = entry;
    t->tags[i] = tag_of(hash);
}

static int grow(struct table *t, const struct table_type *type)
{
    struct table bigger = {.size = t->size ? t->size * 2 : SIZE_FIRST, .used = t->used};
    bigger.slots = malloc(bigger.size * sizeof *bigger.slots);
    bigger.tags = calloc(bigger.size, 1);
    if (!bigger.slots || !bigger.tags) {
        table_done(&bigger);
        return -ENOMEM;
    }
    for (size_t i = 0; i < t->size; i++)
        if (t->tags[i])
            put_new(&bigger, t->slots[i], type->hash(type->context, type->key_of(t->slots[i])));
    table_done(t);
    *t = bigger;
    return 0;
}

int table_insert(struct table *t, const struct table_type *type, void *entry, uint64_t hash)
{
    /* At most three quarters full: a search looks at a few slots, all in one or two lines. */
    if (t->used + 1 > t->size / 4 * 3) {
        int r = grow(t, type);
        if (r < 0)
            return r;
    }
    put_new(t, entry, hash);
    t->used++;
    return 0;
}

void table_replace(struct table *t, const struct table_type *type, void *entry, uint64_t hash)
{
    t->slots[seek(t, type, type->key_of(entry), hash)] = entry;
}

void *table_remove(struct table *t, const struct table_type *type, struct str key, uint64_t hash)
{
    if (t->size == 0)
        return NULL;
    size_t mask = t->size - 1, hole = seek(t, type, key, hash);
    if (!t->tags[hole])
        return NULL;
    void *entry = t->slots[hole];
    /* Whatever stands behind the hole and would no longer be found moves into it. */
    for (size_t i = (hole + 1) & mask; t->tags[i]; i = (i + 1) & mask) {
        size_t home = type->hash(type->context, type->key_of(t->slots[i])) & mask;
        if (((i - home) & mask) < ((i - hole) & mask))
            continue;
        t->slots[hole] = t->slots[i];
        t->tags[hole] = t->tags[i];
        hole = i;
    }
    t->tags[hole] = 0;
    t->used--;
    return entry;
}
