#pragma once
/* TCP for the puncher: sockets that share one local port. -errno. */

#include "base/addr.h"

/* A listener on any free port. */
int tcp_listen(uint16_t *ret_port);
int tcp_accept(int listener, struct addr *ret_from);
/* Begins to connect from that port; the socket becomes writable when it is over. */
int tcp_connect(uint16_t port, const struct addr *to);
/* 0, or why it did not connect. */
int tcp_result(int fd);
/* Where a rendezvous server sees a connection from that port. */
int tcp_seen(uint16_t port, const struct addr *server, struct addr *ret_seen);
