#pragma once
/* A listening socket of the command line's whose connections go to a peer's service. */

#include "peerd/control.h"
#include "rendezvous/found.h"

struct forward {
    struct list link;
    struct peerd *peerd;
    struct acceptor acceptor;
    struct target target;
    char text[80]; /* the target, as it was given */
    struct addr addr;
    struct ask *ask; /* in the foreground: it ends with the command; NULL: detached */
    uint64_t accepted, failed;
};

/* The socket is taken out of the question. Negative errno. */
int forward_start(struct ask *ask, const struct target *t, const char *text,
                  bool detached) WARN_UNUSED;
void forward_free(struct forward *f);
