#pragma once
/* What the files of libberth share. A handle is either detached, attached (its queue is alive), or
 * lost (the queue has ended; what waits for a new berthd is in its place).
 *
 *   handle.c   berth_new and what belongs to the handle alone
 *   attach.c   berth_attach, berth_detach
 *   claim.c    the conversation with berthd
 *   inherit.c  a queue that `berth run --queue` has made
 *   start.c    a berthd for this user
 *   again.c    the queue has ended
 *   accept.c   berth_accept */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "berth.h"
#include "wire/appmsg.h"

#define NAME_MAX_BYTES 64
#define COMMAND_SIZE   512
#define REASON_SIZE    4096

/* What berthd is told of the program. Who has it can claim the same queue again. */
struct identity {
    uint8_t instance[APPMSG_INSTANCE];
    char name[NAME_MAX_BYTES + 1];
    char command[COMMAND_SIZE];
    char *routes;  /* owned; blanks between them; NULL: not known, the queue came without */
    char *listens; /* owned; the same; may be NULL */
    bool proxy;
};

struct berth {
    pthread_mutex_t lock; /* of everything that changes when a queue has ended */
    int epoll_fd;         /* owned; what berth_fd() shows */
    int queue_fd;         /* owned; keeps its number as long as the handle is attached */
    int inotify_fd;       /* owned; while lost: berthd's folder */
    int timer_fd;         /* owned; while lost: once a second */
    bool attached, lost, nowait;
    atomic_uint generation; /* of the queue behind queue_fd */
    char wanted_name[NAME_MAX_BYTES + 1];
    struct identity identity;
    char reason[REASON_SIZE];
};

/* Fills the reason and returns err. */
int reason_set(struct berth *b, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A new identity for these routes, in b. */
int identity_make(struct berth *b, const char *routes, bool proxy) WARN_UNUSED;
void identity_done(struct identity *id);

/* Introduces the program to berthd on a connected control socket, and claims its routes. 0 and the
 * queue's reading end, which takes connections from then on. */
int claim_make(struct berth *b, int control, int *ret_queue) WARN_UNUSED;
/* A connection to berthd whose answers are waited for some seconds only, or a negative errno. */
int claim_connect(void) WARN_UNUSED;

/* The queue in the environment, moved to a descriptor of its own, and its identity, in b. -ENOENT
 * when there is none. */
int inherit_queue(struct berth *b, int *ret_queue) WARN_UNUSED;

/* Starts a berthd and connects to it. */
int start_connect(struct berth *b) WARN_UNUSED;

/* The queue of this generation has ended. 0: there is a new one; -EAGAIN: not yet, and the epoll
 * set wakes who waits; another errno. */
int again_attach(struct berth *b, unsigned generation) WARN_UNUSED;
/* Puts away what waited for a new berthd. */
void again_done(struct berth *b);
