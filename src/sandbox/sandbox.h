#pragma once
/* Giving up what a process that reads bytes from strangers does not need. Each step is one way. */

#include <stdbool.h>
#include <stddef.h>

#include "base/fd.h"

/* As root: an empty root directory, an empty bounding set, and the user berth-dispatch, or nobody
 * where there is no such user; no groups. Otherwise nothing is to be done. */
int sandbox_drop_user(void) WARN_UNUSED;
/* The same with the root directory as it is: for who connects to Unix addresses. */
int sandbox_drop_user_only(void) WARN_UNUSED;
/* No file by any name, no TCP port; for this thread and those that it starts. The kernel's version
 * of Landlock, or -ENOTSUP. */
int sandbox_landlock(void) WARN_UNUSED;
/* As root: berthd keeps the capabilities that it uses, and the bounding set loses those that no
 * server uses. */
int sandbox_berthd(void) WARN_UNUSED;
/* No capability can ever come back. */
int sandbox_no_caps(void) WARN_UNUSED;

struct sandbox_cap {
    unsigned number;
    const char *name, *why;
};
/* Those that berthd keeps. */
const struct sandbox_cap *sandbox_caps(size_t *ret_count);
/* No new privileges, and from now on, in every thread, only the system calls that moving sockets
 * takes: no files, no programs, no outgoing connections. -ENOTSUP in sanitizer builds, whose
 * runtime needs more. */
int sandbox_dispatch(void) WARN_UNUSED;
