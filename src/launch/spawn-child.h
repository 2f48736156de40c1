#pragma once
/* Between spawn.c and spawn-child.c: what is prepared before the fork, and what is done after. */

#include "launch/account.h"
#include "launch/spawn.h"

/* In the order in which they are taken. */
enum spawn_step {
    STEP_CGROUP,
    STEP_STDIO,
    STEP_FILES_MAX,
    STEP_TASKS_MAX,
    STEP_GROUP,
    STEP_USER,
    STEP_DIRECTORY,
    STEP_PRIVILEGES,
    STEP_EXEC,
};

/* What the child says when it gives up. */
struct spawn_report {
    int32_t step, err; /* a positive errno */
};

struct spawn_plan {
    const struct spawn *s;
    struct account account; /* owned */
    struct environment env; /* owned */
    int status_fd, peer_fd; /* where the report goes, and who reads it; borrowed */
    bool joins_cgroup;      /* the child does, as the fork could not do it */
};

/* LISTEN_PID and WATCHDOG_PID have room for a process's number. */
#define SPAWN_PID_ROOM "          "

/* Becomes the program. Calls nothing that takes a lock or memory. */
_Noreturn void spawn_child(const struct spawn_plan *p);
