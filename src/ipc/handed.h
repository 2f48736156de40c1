#pragma once
/* Who sends a socket still has it until he closes his own, and a program that closes its copy
 * before that has not closed the last one: the socket stays in the program's epoll set, with a
 * pointer to what the program has freed. So each CONN of a queue has a number, the queue has a
 * counter of those whose sender has closed his own, and who takes a message looks at it.
 *
 * The counter is the reading end's SO_MAX_PACING_RATE, 64 bits that mean nothing to a Unix socket:
 * it belongs to the open file, so that whoever holds the queue can read it, by whatever way the
 * descriptor came to him. */

#include <stdbool.h>
#include <stdint.h>

/* A sender that takes the queue over begins so far ahead of the one before. That one, should it
 * live, sees it and counts no more; who waits for a dead one waits no longer. */
#define HANDING_STEP 4096

/* The sender's side, under the queue's lock. */
struct handing {
    int fd; /* the reading end; not ours */
    uint64_t count;
    enum { HANDING_NOT, HANDING_COUNTS, HANDING_REPLACED } state;
};

/* Takes the counting over. Where the kernel has no such counter messages go without a number. */
void handing_init(struct handing *h, int read_fd);
/* The flags of the next message. */
uint32_t handing_mark(struct handing *h);
/* That message was sent, and the sender's copy of its socket is closed. */
void handing_closed(struct handing *h);

/* The receiver's side: returns when the sender's copy is closed, or after a tenth of a second. */
void handed_wait(int read_fd, uint32_t flags);
