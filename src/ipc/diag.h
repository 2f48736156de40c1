#pragma once
/* One dump of sockets over NETLINK_SOCK_DIAG: the request comes in, each answer's bytes go to a
 * function. */

#include "base/fd.h"
#include "base/str.h"

/* The bytes behind one message's head. Not 0 ends the dump with that error. */
typedef int diag_fn(void *ctx, struct str payload);

/* `request` is what follows the head of a SOCK_DIAG_BY_FAMILY message. -EINTR: the kernel's lists
 * changed so that the dump may have left something out. */
int diag_dump(const void *request, size_t n, diag_fn *fn, void *ctx) WARN_UNUSED;
