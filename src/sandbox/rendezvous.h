#pragma once
/* What berth-rendezvous gives up. Each step is one way. */

#include <stdbool.h>

#include "base/fd.h"

/* As root: the folder, which is made when it is not there, becomes the root folder if it shall, and
 * the process becomes the folder's owner, or nobody where that is root. Otherwise the folder is
 * made and nothing else is done. Returns the path of the folder as it is seen afterwards. */
int sandbox_enter(const char *folder, bool is_root, const char **ret_folder) WARN_UNUSED;
/* No new privileges, and from now on, in every thread, only the system calls that serving open
 * sockets and a database takes: no programs, no further sockets but accepted ones, and streams to
 * Redis where it connects. -ENOTSUP in sanitizer builds. */
int sandbox_rendezvous(bool connects) WARN_UNUSED;
