#pragma once
/* Talking to berthd from the command line. */

#include <sys/types.h>

#include "wire/appmsg.h"

/* A connection to berthd, which is started first when one died, and when none runs and `start` says
 * so. Negative errno: -ENOENT when none runs. */
int daemon_connect(bool start) WARN_UNUSED;

/* Sends m and collects the answer: all TEXT in *ret_text (malloc()ed, may be NULL), until OK (0) or
 * ERROR (its negative errno, the reason in *ret_text). */
int daemon_ask(int fd, const struct appmsg *m, char **ret_text) WARN_UNUSED;

/* Runs the verb argv[0] of berthd (berthd/command.c) with its arguments, ended by NULL. `send_fd`
 * goes with it unless it is negative and stays the caller's; a descriptor in the answer comes in
 * *ret_fd, -EBADF without one; NULL: none is wanted. The text as in daemon_ask(). */
int daemon_command(int fd, const char *const argv[], int send_fd, int *ret_fd,
                   char **ret_text) WARN_UNUSED;
