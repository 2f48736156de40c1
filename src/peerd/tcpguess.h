#pragma once
/* Ports guessed over TCP, where UDP does not pass on one side and the other's NAT gives each
 * connection a random port: that side waits with many sockets in SYN_SENT, this one sends SYNs to
 * random ports of its address, from the one port that the waiting ones have asked for. A SYN that
 * meets one of them is a simultaneous open (RFC 9293 3.5), and goes on as any connection that
 * tcpway-make.c has made. */

#include "peerd/punching.h"

/* At a time, of all peers. Each has 256 descriptors at most. */
#define TCPGUESSES_MAX 2

struct tcpguess;

/* GUESS_PROBE or GUESS_SOCKETS: so long from now, towards where a server sees the peer, which
 * both have agreed to and nobody else guesses at: it is taken out of the book in the end. NULL:
 * there is nothing to be done, and it has been taken out. */
struct tcpguess *tcpguess_begin(struct punching *g, enum guess_plan plan, const struct nat *peer,
                                const struct addr *seen, uint32_t wait_us);
/* Accepts NULL. Connections that stand stay. */
void tcpguess_free(struct tcpguess *t);
