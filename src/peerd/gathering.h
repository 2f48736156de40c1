#pragma once
/* How our NAT behaves: src/punch's STUN client on berth-peer's sockets. It asks with the first
 * datagram that goes to a server, when a server sees us elsewhere, and on another network. What was
 * known of this network the last time is taken until there is an answer. */

#include "loop/loop.h"
#include "peerd/networks.h"
#include "punch/gather.h"

struct net;

struct gathering {
    struct net *net;
    struct gather *machine; /* owned; NULL: not under way */
    struct timer timer;
    struct gather_result result; /* the best that is known */
    bool known;                  /* of this network: remembered, or heard */
    bool heard;                  /* the NAT itself has told it, since we are on this network */
    struct addr server;          /* that is asked, and for other questions; len 0: none */
    struct addr seen;            /* by the presence at a server; len 0: not yet */
    struct networks networks;
};

void gathering_init(struct gathering *g, struct net *n);
void gathering_done(struct gathering *g);
/* A datagram goes to a server at this address. */
void gathering_begin(struct gathering *g, const struct addr *server);
/* A server at this address answers over UDP. */
void gathering_answers(struct gathering *g, const struct addr *server);
/* And sees us there. */
void gathering_seen(struct gathering *g, const struct addr *server, const struct addr *seen);
/* Everything that was known is of another network. */
void gathering_network_changed(struct gathering *g);
/* Whether the datagram was an answer to it. */
bool gathering_input(struct gathering *g, const void *bytes, size_t n);
/* Whether servers have said all that they can. */
bool gathering_is_over(const struct gathering *g);
/* Our NAT, for offers: NAT_MAPPING_BLOCKED where servers are reached over TLS only, and not because
 * a packet or two were lost: then they have told over UDP how the NAT behaves. */
struct nat gathering_nat(const struct gathering *g);
