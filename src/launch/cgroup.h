#pragma once
/* A cgroup (v2) for each worker, in a folder of berthd's own. Where there is none, or not all of
 * its controllers, that is said clearly, and whoever needs it does without: memory is then counted
 * by proctree.h, and processes are killed one by one. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fd.h"

#define CGROUP_PATH_MAX   512
#define CGROUP_REASON_MAX 768

enum {
    CGROUP_MEMORY = 1,
    CGROUP_CPU = 2,
    CGROUP_PIDS = 4,
};

struct cgroup {
    int fd;               /* owned: the folder in which the workers' groups are made */
    unsigned controllers; /* those that limits can be set for */
    char path[CGROUP_PATH_MAX];
};

/* Where to look. The empty one is this machine's. */
struct cgroup_place {
    const char *mount; /* where cgroup2 is mounted; NULL: as in /proc/self/mountinfo */
    const char *own;   /* this process's group below it; NULL: as in /proc/self/cgroup */
};

struct cgroup_limits {
    uint64_t memory_max;  /* bytes; 0: none */
    uint32_t cpu_percent; /* of one processor; 0: no limit */
    uint32_t tasks_max;   /* 0: no limit */
};

/* Finds the folder and makes it ready: where this process's own group has no other processes, it
 * goes into a group `daemon` in it, so that controllers can be given to the workers' groups beside
 * that one; in the root group, a group `berth` is made. `own` are the processes that go along
 * (dispatch). Negative errno and a sentence: there will be no groups. */
int cgroup_open(const struct cgroup_place *place, const pid_t *own, size_t own_count,
                struct cgroup *ret_cgroup, char ret_reason[CGROUP_REASON_MAX]) WARN_UNUSED;
void cgroup_close(struct cgroup *c);

/* 0 when the limits can be set; -ENOTSUP and "memory_max needs ..." for the first that cannot. */
int cgroup_check(const struct cgroup *c, const struct cgroup_limits *limits,
                 char ret_reason[CGROUP_REASON_MAX]) WARN_UNUSED;

/* Makes the group `worker-NAME`, or finds it, and sets its limits; the folder, for spawn.h and the
 * calls below, is the caller's to close. */
int cgroup_make(const struct cgroup *c, const char *name, const struct cgroup_limits *limits,
                int *ret_fd, char ret_reason[CGROUP_REASON_MAX]) WARN_UNUSED;
/* -EBUSY while there are processes in it. */
int cgroup_remove(const struct cgroup *c, const char *name) WARN_UNUSED;

/* Of one worker's group. */
int cgroup_memory(int fd, uint64_t *ret_bytes) WARN_UNUSED;
/* How often the kernel killed a process for the group's memory limit. */
int cgroup_oom_kills(int fd, uint64_t *ret_kills) WARN_UNUSED;
/* All its processes, to be free()d. */
int cgroup_procs(int fd, pid_t **ret_pids, size_t *ret_count) WARN_UNUSED;
/* SIGKILL to all of them, also to those that fork meanwhile. */
int cgroup_kill(int fd) WARN_UNUSED;
