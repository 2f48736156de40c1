#pragma once
/* Starts a program as a worker: as another user, with its limits, descriptors and environment, in a
 * session of its own. It outlives whoever started it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/fd.h"
#include "launch/environment.h"

#define SPAWN_REASON_MAX 4400
#define SPAWN_FDS_MAX    64

/* Everything is borrowed, and only for the call. */
struct spawn {
    char *const *argv;
    const char *user, *group; /* names or numbers; NULL: this process's own, the user's own */
    const char *directory;    /* NULL: "/" */
    mode_t umask;
    char *const *base;                 /* the environment; NULL: a clean one, of the user */
    char *const *additions;            /* "NAME=value", stronger than those before; or NULL */
    const struct environment_app *app; /* the application's variables; NULL: none */
    const char *notify_path;           /* NOTIFY_SOCKET, or NULL */
    uint64_t watchdog_us;              /* WATCHDOG_USEC; 0: none */
    int stdout_fd, stderr_fd;          /* negative: /dev/null, as standard input always is */
    const int *listen_fds;             /* at 3 and on, as LISTEN_FDS */
    size_t listen_count;
    const char *listen_names; /* LISTEN_FDNAMES, with colons between them; or NULL */
    int cgroup_fd;            /* the folder of a cgroup v2; negative: this process's own */
    uint64_t files_max;       /* open files; 0: as many as this process may have */
    uint64_t tasks_max;       /* processes and threads of the user; 0: as this process */
    bool no_new_privileges;
};

struct spawned {
    pid_t pid;
    int pidfd; /* the caller's to close */
};

/* Without descriptors, and with the usual umask, 022. */
struct spawn spawn_make(char *const *argv);

/* 0 once the program runs, or a negative errno and a sentence that says what was in the way. Waits
 * for the exec, but not long: what goes wrong later the child says on its standard error, and its
 * exit status is 127. */
int spawn_start(const struct spawn *s, struct spawned *ret_spawned,
                char ret_reason[SPAWN_REASON_MAX]) WARN_UNUSED;
