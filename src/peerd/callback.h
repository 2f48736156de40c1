#pragma once
/* Only the side that has made a session chooses its path, and only its calls tell where both are:
 * it need not let the other side in, so that cannot call. When something has changed at the other
 * side it asks over the session to be called once more. */

#include <stdint.h>

#include "loop/loop.h"

struct peerd;
struct remote;
struct session;
struct session_stream;

/* Dialling it asks. No service can be published by this name, so others refuse it as unknown. */
#define CALLBACK_SERVICE "!call"

/* In struct remote. */
struct callback {
    int fd; /* owned: the other end of our question's socket; -EBADF: none is asked */
    struct timer timer;
    uint64_t heard_ms; /* when the other side's last question was followed */
};

void callback_init(struct remote *r);
void callback_done(struct remote *r);
/* We may be reached in another way than when we were last called. */
void callback_want(struct remote *r);
/* Our question has been answered, or its session has ended. */
void callback_answered(struct session *s);
/* The other side's. The stream is answered. */
void callback_asked(struct peerd *p, struct session_stream *st);
