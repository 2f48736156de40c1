#pragma once
/* The inodes of the kernel's sockets at given places: established connections, by netlink. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fd.h"
#include "ipc/diag.h"

#define SOCKLIST_PORTS_MAX 256

struct socklist {
    uint32_t *list; /* owned */
    size_t count, room;
};

struct socklist_places {
    const uint16_t *ports; /* local ones, in host order; at most SOCKLIST_PORTS_MAX */
    size_t count;
    bool peers; /* those at STREAMMSG_IP, too */
};

/* Gives the struct inet_diag_msg of each open connection of one family. */
int socklist_each(int family, const struct socklist_places *at, diag_fn *fn, void *ctx) WARN_UNUSED;
/* Adds what is open, of one family, at one of these places. The kernel walks its whole table, which
 * takes milliseconds whatever it finds. */
int socklist_tcp(struct socklist *l, int family, const struct socklist_places *at) WARN_UNUSED;
/* Adds the accepted connections of the listening Unix stream socket with this path. */
int socklist_unix(struct socklist *l, const char *path) WARN_UNUSED;
/* After the last addition, before the first question. */
void socklist_sort(struct socklist *l);
bool socklist_has(const struct socklist *l, uint32_t inode);
void socklist_done(struct socklist *l);
