#pragma once
/* Says when this host is on another network than before. */

#include <stdbool.h>

#include "loop/loop.h"

struct netwatch {
    struct watch watch;
    struct timer settle;
    struct loop *loop;
    int fd;        /* owned */
    bool lost;     /* an address, a default route or the carrier has gone since */
    uint64_t seen; /* a hash of the addresses that there were, and of the way to the Internet */
    int links[2];  /* of that way */
    void (*changed)(struct netwatch *w);
};

/* changed() comes once things have been quiet for a moment. */
int netwatch_start(struct netwatch *w, struct loop *loop,
                   void (*changed)(struct netwatch *w)) WARN_UNUSED;
void netwatch_stop(struct netwatch *w);
