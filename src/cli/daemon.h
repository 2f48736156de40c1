#pragma once
/* Talking to berthd and berth-peer from the command line. */

#include <stdbool.h>
#include <sys/types.h>

#include "wire/appmsg.h"

/* A connection to berthd, which is started first when one died, and when none runs and `start` says
 * so. Negative errno: -ENOENT when none runs. */
int daemon_connect(bool start) WARN_UNUSED;

/* The same for berth-peer. */
int daemon_peer_connect(bool start) WARN_UNUSED;

/* From now on the system's berthd is asked, unless a runtime folder was chosen by hand or no such
 * berthd runs. Says whether it is. */
bool daemon_use_system(void);
/* The system's berthd is asked when one of the routes is reserved there; says whether. */
bool daemon_use_owner(const char *const *routes, size_t count);

/* Sends m and collects the answer: all TEXT in *ret_text (malloc()ed, may be NULL), until OK (0) or
 * ERROR (its negative errno, the reason in *ret_text). */
int daemon_ask(int fd, const struct appmsg *m, char **ret_text) WARN_UNUSED;

/* Runs the verb argv[0] of berthd (berthd/command.c) with its arguments, ended by NULL. `send_fd`
 * goes with it unless it is negative and stays the caller's; a descriptor in the answer comes in
 * *ret_fd, -EBADF without one; NULL: none is wanted. The text as in daemon_ask(). */
int daemon_command(int fd, const char *const argv[], int send_fd, int *ret_fd,
                   char **ret_text) WARN_UNUSED;
/* Only asks: the answer is daemon_answer()'s, daemon_ready()'s, or nobody's. */
int daemon_send(int fd, const char *const argv[], int send_fd) WARN_UNUSED;
int daemon_answer(int fd, char **ret_text) WARN_UNUSED;
/* The first message of an answer that has no end: 0, or the error with its reason in *ret_text. */
int daemon_ready(int fd, char **ret_text) WARN_UNUSED;
