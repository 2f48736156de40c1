#pragma once
/* Opening the shared port: a group of sockets for one address, one for each thread of dispatch. */

#include <stddef.h>

#include "base/addr.h"

/* Binds `count` sockets with SO_REUSEPORT (one for a Unix path) and fills ret_fds; they do not
 * listen yet. IPv6 sockets are v6only always: IPv4 has a group of its own. `alone` first makes sure
 * that no other program holds the port, which SO_REUSEPORT would hide. 0 or a negative errno. */
int listen_open(const struct addr *bound, bool alone, int *ret_fds, size_t count) WARN_UNUSED;
/* From now on the kernel takes connections. */
int listen_start(const int *fds, size_t count) WARN_UNUSED;
