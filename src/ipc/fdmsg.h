#pragma once
/* One packet with descriptors over a Unix socket, sent and received carefully. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/fd.h"

#define FDMSG_FDS_MAX 64

/* Sends one packet; the descriptors stay the caller's. flags: MSG_DONTWAIT or 0. */
int fdmsg_send(int sock, const void *buf, size_t n, const int *fds, size_t fd_count,
               int flags) WARN_UNUSED;

/* Receives one packet and at most fd_max descriptors, born CLOEXEC and owned by the caller from
 * then on. Returns its bytes; 0 at the end of the stream; -EAGAIN; -EBADMSG when the packet or its
 * descriptors were cut off or were more than fd_max (all of them are closed then). */
ssize_t fdmsg_recv(int sock, void *buf, size_t size, int *ret_fds, size_t fd_max,
                   size_t *ret_fd_count, int flags) WARN_UNUSED;
