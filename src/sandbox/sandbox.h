#pragma once
/* Giving up what a process that reads bytes from strangers does not need. Each step is one way. */

#include <stdbool.h>

#include "base/fd.h"

/* As root: an empty root directory and the user nobody, no groups. Otherwise nothing is to be done.
 */
int sandbox_drop_user(void) WARN_UNUSED;
/* No new privileges, and from now on, in every thread, only the system calls that moving sockets
 * takes: no files, no programs, no outgoing connections. -ENOTSUP in sanitizer builds, whose
 * runtime needs more. */
int sandbox_dispatch(void) WARN_UNUSED;
