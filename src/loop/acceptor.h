#pragma once
/* A listening socket in the loop. When there is no descriptor for another connection, it does not
 * spin on the one that waits: it rests, and goes on by itself. */

#include "loop/loop.h"

struct acceptor {
    struct loop *loop;
    int fd;    /* owned; -EBADF: closed */
    int flags; /* of accept4(), beside SOCK_CLOEXEC */
    struct watch watch;
    struct timer rest;
    void (*accepted_consume)(struct acceptor *a, int fd);
    bool (*make_room)(struct acceptor *a); /* whether it freed a descriptor; NULL: nothing can */
};

/* Closed, and good for acceptor_close(). */
void acceptor_init(struct acceptor *a, struct loop *l,
                   void (*accepted_consume)(struct acceptor *a, int fd));
/* The listening socket is the acceptor's from now on, when this fails, too. */
int acceptor_open_consume(struct acceptor *a, int fd) WARN_UNUSED;
void acceptor_close(struct acceptor *a);
