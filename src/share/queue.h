#pragma once
/* The queue of accepted sockets of one application, as dispatch sees it: the writing end to deliver
 * into, the reading end so that nothing in it is lost when every program that took from it is gone.
 * Shared by the threads; counted; the descriptors go with the last reference. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/fd.h"
#include "share/option.h"

#define QUEUE_OPTIONS_MAX 32
/* Connections that wait in dispatch for one queue, beyond what the kernel holds in it. */
#define QUEUE_WAITING_MAX 1024

struct queue {
    atomic_uint refs;
    uint32_t id;
    uint32_t flags; /* DISPATCH_RICH */
    int write_fd, read_fd;
    atomic_bool dropped; /* nothing more may wait for it */
    atomic_uint waiting;
    atomic_uint option_count; /* published last: entries below it never change */
    struct option_value options[QUEUE_OPTIONS_MAX];
};

/* Owns the descriptors from here on, on failure, too. NULL when memory is short. */
struct queue *queue_new_consume(uint32_t id, uint32_t flags, int write_fd, int read_fd);
struct queue *queue_ref(struct queue *q);
void queue_unref(struct queue *q);
/* One writer only. -ENOSPC when the table is full, -EPERM for an option that is not handed down. */
int queue_add_option(struct queue *q, const struct option_value *o) WARN_UNUSED;
