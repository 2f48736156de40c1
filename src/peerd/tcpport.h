#pragma once
/* The one TCP port that a berth-peer has: it is listened at, and connections to peers and servers
 * are made from it, so that a NAT gives them the address that servers tell of. */

#include "base/addr.h"

/* Listens at this port, for IPv6 and IPv4 with `v6`; -EADDRINUSE when anybody else does. */
int tcpport_listen(bool v6, uint16_t port, struct addr *ret_name) WARN_UNUSED;
/* Begins to connect from there (0: from a port of its own, which further ones may be made from);
 * does not wait. -EADDRNOTAVAIL: there is a connection between the two ports already. */
int tcpport_connect(uint16_t port, const struct addr *to) WARN_UNUSED;
/* The port that it has here; 0: it is none. */
uint16_t tcpport_of(int fd);
/* Has the other side's SYN come, so that what is missing is repeated by the kernel? */
bool tcpport_is_answered(int fd);
/* Why it did not connect; 0: it has. */
int tcpport_result(int fd) WARN_UNUSED;
