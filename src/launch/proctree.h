#pragma once
/* Which processes belong to a worker: its main process, everything that came from it, and what has
 * run away from it as daemons do. Found by one pass over /proc for any number of workers. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fd.h"

struct proctree_root {
    pid_t pid;        /* the main process, the leader of its session */
    const char *mark; /* "NAME=value": what has this in its environment belongs to it, too, wherever
                         it has run to; or NULL */
};

struct proctree_process {
    pid_t pid, parent;
    uint32_t root;       /* index of the worker */
    uint64_t rss;        /* bytes */
    uint64_t start_time; /* tells this process from another that gets its number */
};

/* Sorted by worker. Zombies are left out. */
struct proctree {
    struct proctree_process *list; /* owned */
    size_t count;
};

int proctree_read(const struct proctree_root *roots, size_t root_count,
                  struct proctree *ret_tree) WARN_UNUSED;
void proctree_done(struct proctree *t);

size_t proctree_count(const struct proctree *t, uint32_t root);
/* Resident bytes of all processes together. Memory that they share counts once for each: it is
 * never too little. */
uint64_t proctree_rss(const struct proctree *t, uint32_t root);
/* The same, with shared memory divided among those who share it. It costs the kernel a walk over
 * their page tables: for when the sum above is too much. What cannot be read counts as resident. */
uint64_t proctree_pss(const struct proctree *t, uint32_t root);
/* Sends the signal to each process that is still the one that was found. Returns how many. One that
 * forks meanwhile leaves children: to kill all, read and kill until nothing is found. */
size_t proctree_kill(const struct proctree *t, uint32_t root, int signal);

/* One process: its parent and its start. */
int proctree_look(pid_t pid, struct proctree_process *ret_process) WARN_UNUSED;
