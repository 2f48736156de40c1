#pragma once
/* Where a server sees our TCP port: a short connection from it, HELLO, and the COOKIE that answers
 * has the address. Asked once in each network, and when somebody wants to know it anew. Where a
 * server is connected by TLS from this port it sees that already. */

#include "loop/loop.h"
#include "rendezvous/presence.h"

struct net;

struct tcpseen {
    struct net *net;
    int fd; /* owned; -EBADF: no connection */
    struct watch watch;
    struct timer limit; /* of the answer; then: how long the connection is kept */
    struct addr server; /* that is connected */
    struct addr seen;   /* len 0: not known */
    struct addr udp;    /* where we were seen over UDP then: which network it was */
    bool waits;         /* for an answer */
    bool counted; /* the port of another socket is what is seen: the newest of a NAT that counts */
    uint64_t transaction;
    uint8_t in[2 + RDVMSG_MAX];
    size_t in_used;
};

void tcpseen_init(struct tcpseen *t, struct net *n);
void tcpseen_done(struct tcpseen *t);
/* Asks this server; 0: `answered` follows, never from within. Of a NAT that counts its ports the
 * newest one is asked for, with a connection from a port of its own. -EALREADY: it is being asked.
 */
int tcpseen_ask(struct tcpseen *t, const struct addr *server) WARN_UNUSED;
/* A server at this address sees us there over UDP: asks, once in each network. */
void tcpseen_look(struct tcpseen *t, const struct addr *server, const struct addr *udp);
/* Everything that was known is of another network. */
void tcpseen_network_changed(struct tcpseen *t);
/* How our NAT behaves is known now: of one that counts another port is of interest. */
void tcpseen_nat_known(struct tcpseen *t);
/* len 0: not known. */
const struct addr *tcpseen_now(const struct tcpseen *t);
