#pragma once
/* berth-peer as a source of connections for berthd's dispatch. Attached while something is
 * published and a berthd runs; when that one or dispatch dies, attached anew. */

#include "loop/loop.h"
#include "peerd/incoming.h"
#include "peerd/state.h"

struct source {
    struct peerd *peerd;
    int fd; /* owned; our end towards dispatch; -EBADF: not attached */
    struct watch watch;
    struct timer retry;
    unsigned tries;
    unsigned unanswered; /* streams that dispatch has and has not answered */
    uint32_t last_id;
    struct incoming_seen *seen; /* owned; a ring */
    size_t seen_next;
};

int source_init(struct source *s, struct peerd *p) WARN_UNUSED;
void source_done(struct source *s);
/* After a change of what is published: attaches, or lets go. */
void source_update(struct source *s);
/* A service at an address has a route of ours in berthd, `peer://SERVICE`; these make and remove
 * it. -ENOENT: no berthd runs; otherwise berthd's error, with a sentence in the log. */
int source_route(const struct publication *p) WARN_UNUSED;
void source_unroute(const struct publication *p);
bool source_ready(const struct source *s);
/* Dispatch takes only so many at once. */
bool source_has_room(const struct source *s);
/* Gives the socket, which is consumed, with who is behind it to dispatch; incoming_answered()
 * follows. -EAGAIN: too many wait there. */
int source_send_consume(struct source *s, const struct incoming *in, int fd) WARN_UNUSED;
