#pragma once
/* The queue of accepted sockets of one application, as dispatch sees it: the writing end to deliver
 * into, the reading end so that nothing in it is lost when every program that took from it is gone.
 * Shared by the threads; counted; the descriptors go with the last reference. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fd.h"
#include "ipc/handed.h"
#include "share/ledger.h"
#include "share/option.h"
#include "share/source.h"
#include "share/window.h"

#define QUEUE_OPTIONS_MAX 32
/* Connections that wait in dispatch for one queue, beyond what the kernel holds in it. */
#define QUEUE_WAITING_MAX 1024
#define QUEUE_NAME_MAX    128

struct sources;

struct queue {
    atomic_uint refs;
    uint32_t id;
    uint32_t flags; /* DISPATCH_RICH, DISPATCH_POOL, DISPATCH_MEMBER */
    int write_fd, read_fd;
    char name[QUEUE_NAME_MAX]; /* of the application, for people */
    struct queue *base;        /* a member's; referenced */
    atomic_bool dropped;       /* nothing more may wait for it */
    atomic_uint waiting;       /* in dispatch */

    /* Held while a connection is put in, until our copy is closed, and while one is taken out. A
     * base's is taken before a member's. */
    pthread_mutex_t lock;
    struct handing handing;
    /* A base queue: how many are parked in it. */
    _Atomic int64_t parked;
    _Atomic int64_t stuck; /* of them, that wait only because of their source */
    atomic_uint turn;      /* among members that have equally much to do */

    /* What its program was given and has not closed, as far as is known; of members, and of queues
     * with a limit of such connections. */
    _Atomic uint64_t open;
    struct ledger ledger;
    struct window window;              /* a member's */
    _Atomic(struct sources *) sources; /* a pool's with a limit for each source; owned */

    /* The steward of the pools alone: registered in its epoll set, and for which snapshot. */
    struct source source;
    bool watched;
    uint64_t rest_ms; /* nothing is to be done before that */
    bool recount;     /* something was parked, perhaps by another dispatch */
    uint64_t watched_for;

    atomic_uint option_count; /* published last: entries below it never change */
    struct option_value options[QUEUE_OPTIONS_MAX];
};

/* Owns the descriptors from here on, on failure, too. NULL when memory is short. What is parked in
 * a base queue is counted. */
struct queue *queue_new_consume(uint32_t id, uint32_t flags, int write_fd, int read_fd);
struct queue *queue_ref(struct queue *q);
void queue_unref(struct queue *q);
/* How many connections are parked in a base queue, by what the kernel says. */
int64_t queue_parked(const struct queue *q);
/* From now on the open connections of each client address are counted. One writer only. */
int queue_count_sources(struct queue *q) WARN_UNUSED;
/* One writer only. -ENOSPC when the table is full, -EPERM for an option that is not handed down. */
int queue_add_option(struct queue *q, const struct option_value *o) WARN_UNUSED;
