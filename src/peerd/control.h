#pragma once
/* The control socket of berth-peer: the command line asks, one packet a question, as it asks
 * berthd. Only the same user and root get answers. */

#include <stdarg.h>

#include "loop/acceptor.h"
#include "wire/appmsg.h"

#define ASK_ARGS_MAX 64

struct peerd;
struct ask;

/* One question, from when it came until it is answered; the control socket's own. Whoever keeps it
 * for later sets `forget`, which is called when the client goes away first: the question is gone
 * then. */
struct ask {
    struct list link;
    struct peerd *peerd;
    struct control_client *client; /* who waits */
    const char *args[ASK_ARGS_MAX + 1];
    size_t arg_count;
    int fd; /* that came with it, owned; whoever takes it leaves -EBADF */
    void (*forget)(struct ask *ask);
    void *user; /* of who keeps it */
    char bytes[];
};

struct control {
    struct peerd *peerd;
    struct acceptor acceptor;
    struct list clients;
    size_t client_count;
};

int control_start(struct control *c, struct peerd *p) WARN_UNUSED;
void control_stop(struct control *c);
/* Whether somebody waits for something. */
bool control_busy(const struct control *c);

/* Each ends the question: with text (malloc()ed, consumed; may be NULL), or with an error and a
 * sentence. */
void ask_done_consume(struct ask *ask, char *text);
void ask_fail(struct ask *ask, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A piece of text before the answer. */
void ask_say(struct ask *ask, const char *text);

/* The table of verbs (command.c). 0, or -ENOENT for a verb that is not in it; a question that was
 * taken is answered, now or later. */
int command_run(struct ask *ask, struct str verb) WARN_UNUSED;
