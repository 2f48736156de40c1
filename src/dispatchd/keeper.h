#pragma once
/* A process beside dispatch that has the same table of descriptors: when dispatch is killed, what
 * it had accepted and not delivered is still open there, and goes on to the next dispatch. */

#include <stdatomic.h>
#include <sys/types.h>

#include "wire/dispatchmsg.h"

/* Where a thread says which socket it is about to send, so that none gets two owners. */
struct keeper_slot {
    _Alignas(64) _Atomic int sending; /* -1: none */
};

/* Starts it while there is one thread. Connections that are left go to `to`, the writing end of a
 * queue that berthd holds. Its pid and the slots, one for each thread; or a negative errno. */
pid_t keeper_start(int to, struct keeper_slot **ret_slots) WARN_UNUSED;
