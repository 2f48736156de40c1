#pragma once
/* How our NAT behaves: src/punch's STUN client on berth-peer's sockets. Done when a server is there
 * for the first time, and again when it sees us elsewhere. */

#include "loop/loop.h"
#include "punch/gather.h"

struct net;

struct gathering {
    struct net *net;
    struct gather *machine; /* owned; NULL: not under way */
    struct timer timer;
    struct gather_result result; /* of the last time */
    bool known;
    struct addr seen; /* by the presence at the server, when it was begun */
};

void gathering_init(struct gathering *g, struct net *n);
void gathering_done(struct gathering *g);
/* A server at this address answers over UDP and sees us there. */
void gathering_look(struct gathering *g, const struct addr *server, const struct addr *seen);
/* Whether the datagram was an answer to it. */
bool gathering_input(struct gathering *g, const void *bytes, size_t n);
