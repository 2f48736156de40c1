#pragma once
/* How many open connections each worker holds: the kernel's sockets on the given ports and paths,
 * and who of the given processes has them. Exact, and never a listening socket. */

#include "base/addr.h"
#include "launch/proctree.h"

struct opencount_places {
    const uint16_t *ports; /* local TCP ports, in host order, each once; at most 256 */
    size_t port_count;
    bool peers;               /* streams that peers have dialled (wire/streammsg.h), too */
    const char *const *paths; /* of listening Unix stream sockets, whose connections are counted */
    size_t path_count;
};

/* Fills one number for each worker of the tree. A connection that several processes of one worker
 * hold counts once. What the program has closed does not count, whatever the kernel still does with
 * it; nor does what waits in a queue. So look at the queue first, when the
 * worker gets nothing new any more: what it takes while this counts may be missed. -EACCES when a
 * process does not let itself be looked into: then nothing is known. */
int opencount(const struct opencount_places *places, const struct proctree *tree,
              uint32_t *ret_counts, size_t root_count) WARN_UNUSED;

struct opencount_conn {
    uint32_t root; /* the worker that holds it */
    struct addr local, peer;
    uint64_t cookie; /* SO_COOKIE */
};
typedef void opencount_fn(void *ctx, const struct opencount_conn *c);
/* The same TCP connections one by one; twice where the kernel was asked again. */
int opencount_each(const struct opencount_places *places, const struct proctree *tree,
                   opencount_fn *fn, void *ctx) WARN_UNUSED;
