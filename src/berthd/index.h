#pragma once
/* Things found by hash. Each has a node in itself; the caller compares what it finds in the list
 * of a hash. The table grows with what is in it. */

#include <stddef.h>
#include <stdint.h>

#include "base/fd.h"
#include "base/list.h"

struct index_node {
    struct list link;
    uint32_t hash;
};

struct index {
    struct list *lists; /* owned */
    size_t size;        /* a power of two */
    size_t count;
};

/* -ENOMEM. */
int index_init(struct index *x) WARN_UNUSED;
void index_done(struct index *x);
/* Without memory to grow the table only gets slower. */
void index_add(struct index *x, struct index_node *n, uint32_t hash);
/* A second time does no harm. */
void index_remove(struct index *x, struct index_node *n);
/* The nodes with this hash, and some with others. */
struct list *index_list(const struct index *x, uint32_t hash);
uint32_t index_hash(const void *bytes, size_t n);
