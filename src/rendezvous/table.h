#pragma once
/* An open-addressing hash table of pointers to entries that contain their own key. Nine bytes a
 * slot; a byte of the hash beside each pointer saves looking at entries that cannot be the one. Not
 * locked: the owner does that. */

#include <stddef.h>
#include <stdint.h>

#include "base/fd.h"
#include "base/str.h"

struct table {
    void **slots;
    uint8_t *tags; /* 0: the slot is empty */
    size_t size;   /* a power of two, or 0 */
    size_t used;
};

/* The key inside an entry, and a hash of it that strangers cannot steer. */
struct table_type {
    struct str (*key_of)(const void *entry);
    uint64_t (*hash)(const void *context, struct str key);
    const void *context;
};

void table_done(struct table *t); /* the entries stay their owner's */
void *table_find(const struct table *t, const struct table_type *type, struct str key,
                 uint64_t hash);
/* Of an entry that is not in it yet. -ENOMEM. */
int table_insert(struct table *t, const struct table_type *type, void *entry,
                 uint64_t hash) WARN_UNUSED;
/* Puts another entry with the same key into the place of one that is in it. */
void table_replace(struct table *t, const struct table_type *type, void *entry, uint64_t hash);
/* Returns the entry that was taken out, or NULL. */
void *table_remove(struct table *t, const struct table_type *type, struct str key, uint64_t hash);
