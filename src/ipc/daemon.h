#pragma once
/* How a daemon that a command starts goes to the background, and how it is the only one. */

#include "base/fd.h"

/* Takes the lock file of the runtime folder, which holds until the descriptor is closed.
 * -EWOULDBLOCK: another process has it. */
int daemon_lock(const char *file) WARN_UNUSED;
/* Goes on in a child, with standard error at the end of the runtime folder's file `log` and nothing
 * else open. The parent ends with status 0 at daemon_ready(), or with the child's when that ends
 * before. Returns the descriptor for daemon_ready(). */
int daemon_background(const char *program, const char *log) WARN_UNUSED;
/* -EBADF: there is nobody to tell. */
void daemon_ready_consume(int fd);
