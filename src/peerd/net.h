#pragma once
/* What connects the machines with each other: datagrams from the one UDP socket go to sessions,
 * links or STUN by their first bytes, and everything that they have to say goes out. Relay channels
 * are paths of sessions here. */

#include "peerd/gathering.h"
#include "peerd/keeping.h"
#include "peerd/link.h"
#include "peerd/mapping.h"
#include "peerd/sockets.h"
#include "peerd/state.h"
#include "peerd/targets.h"
#include "peerd/tcpseen.h"
#include "peerd/tcpway.h"
#include "peerd/udp.h"
#include "punch/guess.h"
#include "session/alarm.h"
#include "session/session.h"
#include "wire/offer.h"

/* Path ids of sessions: the UDP socket, and from here on the relay channels. */
#define NET_PATH_UDP     0
#define NET_PATH_CHANNEL 16
#define NET_CHANNELS_MAX PRESENCE_CHANNELS_MAX
/* With one remote: a peer that calls again and again leaves room for others. */
#define NET_CHANNELS_REMOTE 8
#define NET_ADDRS_MAX       OFFER_CANDIDATES_MAX

struct remote;
struct peerd;

/* One relayed pair's side, as a way out for sessions. */
struct channel {
    struct presence_channel at;
    struct remote *remote; /* NULL: the place is free */
    bool open;             /* the relay knows where we are */
    bool early;            /* it has no number yet: early.c */
    uint64_t since_ms;
};

struct net {
    struct peerd *peerd;
    struct udp udp;
    struct alarm alarm;
    struct endpoint *endpoint;
    struct link *link;         /* NULL: no server is known */
    struct presence *presence; /* with link */
    char servers[PRESENCE_SERVERS_MAX][STATE_SERVER_TEXT];
    uint32_t server_count;
    struct timer due;     /* presence_tick() */
    struct timer rebuild; /* with other servers */
    struct channel channels[NET_CHANNELS_MAX];
    struct sockets sockets;
    struct tcpways tcpways;
    struct tcpseen tcpseen;
    struct gathering gathering;
    struct mapping mapping;
    bool no_guessing; /* nobody may guess ports at our address, and we guess at nobody's */
    struct keeping keeping;
    struct targets targets;           /* addresses that peers have offered */
    struct guess_book guesses;        /* addresses at which ports are being guessed */
    struct guess_spent guesses_spent; /* ports of our own NAT */
};

int net_start(struct net *n, struct peerd *p) WARN_UNUSED;
void net_stop(struct net *n);
/* 1: it is new. -ENOSPC, -EINVAL. */
int net_server_add(struct net *n, const char *server) WARN_UNUSED;
/* Is this peer registered anywhere? */
bool net_server_there(const struct net *n);
/* Tells the servers what is published and for whom. */
void net_publish(struct net *n);
/* presence_tick(), soon: after any call of a presence function. */
void net_kick(struct net *n);

struct channel *net_channel_add(struct net *n, const struct presence_channel *at, struct remote *r);
/* NULL: no such channel. */
struct channel *net_channel_find(struct net *n, const struct presence_way *way, uint32_t number);
/* What answers an early packet can come before the channel's number: then it is for the only
 * channel at this server that has none. NULL: there is none, or more than one. */
struct channel *net_channel_unnumbered(struct net *n, const struct presence_way *way);
/* One that has no number yet, and its number. */
struct channel *net_channel_early(struct net *n, struct remote *r);
void net_channel_number(struct net *n, struct channel *c, const struct presence_channel *at);
void net_channel_close(struct net *n, struct channel *c);
struct quic_path net_channel_path(const struct net *n, const struct channel *c);
/* NULL: no such channel (any more). */
struct channel *net_path_channel(struct net *n, const struct quic_path *path);

/* Our own addresses with the socket's port, and where servers see us; then the same for TCP. */
size_t net_candidates(struct net *n, struct record_candidate ret[NET_ADDRS_MAX]);
/* Is a server seen on loopback? */
bool net_is_local(const struct net *n);
/* "registered". */
const char *net_server_word(enum presence_state state);
/* Does no UDP get to any server, but TCP? */
bool net_udp_blocked(const struct net *n);
uint64_t net_unix_ms(void);
