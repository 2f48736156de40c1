#pragma once
/* The connections that a program was given and has not closed, as far as is known: each with its
 * addresses and the kernel's cookie of it, for which the kernel is asked (sock_diag) whether a
 * program still holds it. Shared by the threads. Unix connections are not in it: what is passed of
 * them counts as closed at once. */

#include <pthread.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/list.h"

struct ledger {
    pthread_mutex_t lock;
    struct list entries; /* those that were asked for longest ago first */
    size_t count;
};

union ledger_addr {
    struct sockaddr sa;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct ledger_entry {
    struct list link;
    union ledger_addr local, peer;
    uint64_t cookie;
    uint64_t since_ms; /* accepted */
    uint32_t claim;
    bool counted; /* among those of its source */
};

/* Called without a lock for each entry that is closed; it is freed afterwards. */
struct ledger_closed {
    void (*fn)(struct ledger_closed *self, const struct ledger_entry *e);
};

void ledger_init(struct ledger *l);
/* Forgets all of them. */
void ledger_done(struct ledger *l);
/* An entry for this socket, not yet in a ledger; NULL for what cannot be counted. */
struct ledger_entry *ledger_entry_new(int fd, const struct addr *peer);
/* The same from what berthd remembers. */
struct ledger_entry *ledger_entry_make(const struct addr *local, const struct addr *peer,
                                       uint64_t cookie);
struct addr ledger_peer(const struct ledger_entry *e);
/* Takes the entry over. */
void ledger_add_consume(struct ledger *l, struct ledger_entry *e);
/* Takes the entry of this socket out: the caller's, to free. NULL when there is none. */
struct ledger_entry *ledger_take(struct ledger *l, int fd);
/* Asks the kernel for up to `max` of them, each once. Returns how many were asked for. */
size_t ledger_check(struct ledger *l, int diag_fd, size_t max, struct ledger_closed *closed);
