#pragma once
/* How many open connections each worker holds: the kernel's sockets on the given ports and paths,
 * and who of the given processes has them. Exact, and never a listening socket. */

#include "launch/proctree.h"

struct opencount_places {
    const uint16_t *ports; /* local TCP ports, in host order */
    size_t port_count;
    const char *const *paths; /* of listening Unix stream sockets, whose connections are counted */
    size_t path_count;
};

/* Fills one number for each worker of the tree. A connection that several processes of one worker
 * hold counts once. What the program has closed does not count, whatever the kernel still does with
 * it; nor does what waits in a queue. -EACCES when a process does not let itself be looked into:
 * then nothing is known. */
int opencount(const struct opencount_places *places, const struct proctree *tree,
              uint32_t *ret_counts, size_t root_count) WARN_UNUSED;
