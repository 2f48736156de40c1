#pragma once
/* A peer's presence at rendezvous servers: it keeps this peer registered at each of them, looks
 * others up, calls them, is called, and keeps relay channels open. Sans-I/O: bytes and the time
 * come in, bytes and events go out through the host's functions. Servers are numbers from 0; where
 * they are and how bytes get there is somebody else's (peerd/link.h). A server that does not answer
 * never holds up another.
 *
 *   lookup:  presence_lookup()  -> found()
 *   caller:  presence_call()    -> calling() and answered(), in either order, or failed()
 *   callee:  invited()          -> presence_answer() -> start()
 *
 * Everything that is asked is bounded in number and in time, and each question ends with exactly
 * one found(), answered() or failed(). Functions of this module may be called from within events,
 * but presence_tick() and presence_free(). */

#include "keys/keys.h"
#include "wire/offer.h"
#include "wire/rdvmsg.h"

#define PRESENCE_SERVERS_MAX  8
#define PRESENCE_LOOKUPS_MAX  64
#define PRESENCE_CALLS_MAX    64
#define PRESENCE_INVITES_MAX  64 /* calls from others that are remembered */
#define PRESENCE_CHANNELS_MAX 256
#define PRESENCE_ALLOW_MAX    128
/* "Not at all": no deadline, no server. */
#define PRESENCE_NEVER     UINT64_MAX
#define PRESENCE_NO_SERVER UINT32_MAX

/* What the machine is doing about one server. */
enum presence_state {
    PRESENCE_HELLO,      /* asks for a cookie */
    PRESENCE_LOGIN,      /* shows its signed record */
    PRESENCE_REGISTERED, /* and keeps the lease */
    PRESENCE_WAITING,    /* refused or not answered; will try again */
    PRESENCE_STATE_COUNT,
};

/* Which way bytes go: to a server itself, or to a relay elsewhere that the server named. */
struct presence_way {
    uint32_t server;
    struct addr relay; /* len 0: the server itself */
};

/* One side of a relayed pair. */
struct presence_channel {
    struct presence_way way;
    uint32_t number; /* what stands in relay data, in both directions */
    uint8_t ticket[RDVMSG_TICKET];
};

/* Our own call has a number and a channel: relay data may be sent at once. */
struct presence_calling {
    uint64_t call;
    struct key callee;
    struct presence_channel channel;
};

/* The callee's answer to our call. */
struct presence_answered {
    uint64_t call;
    struct key callee;
    uint32_t server;
    uint32_t wait_us;    /* fire so long after this event */
    enum technique hint; /* what worked most between two such NATs, as the server says */
    struct addr seen;    /* where the server sees the callee; port 0: over TCP */
    struct offer offer;  /* the callee's own words */
};

/* Somebody that the allow-list lets in calls us. */
struct presence_invite {
    uint64_t call;
    struct key caller;
    struct presence_channel channel;
    struct addr seen;   /* where the server sees the caller; port 0: over TCP */
    struct offer offer; /* the caller's own words */
};

/* To be fired at the caller: the other half of `answered`. Comes again when the caller has missed
 * its half, and both are to fire again. */
struct presence_start {
    uint64_t call;
    struct key caller;
    uint32_t server;
    uint32_t wait_us; /* fire so long after this event */
    enum technique hint;
    struct addr seen; /* where the server sees the caller now */
};

/* What a lookup found: the best that any server has. */
struct presence_found {
    enum rdv_reason reason; /* RDV_OK, and then the rest; RDV_BUSY when no server answers */
    struct key key;
    uint32_t servers;  /* a bit for each server at which the peer is registered */
    uint32_t age_s;    /* since its last sign of life */
    uint64_t claimed;  /* since when the name is held (Unix time); 0 for a lookup by key */
    struct str record; /* signed and checked, empty when nobody is registered; during the event */
    struct record fields; /* of that record */
};

/* What the machine knows of one server, for people. */
struct presence_server {
    enum presence_state state;
    enum rdv_reason reason; /* why it was refused last; RDV_OK: it was not */
    bool silent;            /* it did not answer the last time that it was asked */
    struct addr seen;       /* where it sees us; len 0: not known */
    uint32_t rtt_us;        /* the least of the last few; 0: not known */
    uint64_t registered_us; /* since when; 0: it is not */
    uint64_t heard_us;      /* the last answer; 0: never */
    uint64_t next_us;       /* the next attempt or refresh */
    uint16_t lease_s, refresh_s;
    bool allow_known;     /* it has the list of presence_allow() */
    uint64_t passed_over; /* invitations and the like that came in its name but not from it */
};

struct presence_host {
    /* A message for a server or relay: a datagram, or behind a length over TCP. */
    void (*send)(void *ctx, const struct presence_way *way, const void *bytes, size_t n);
    /* Unix time in milliseconds, for records. */
    uint64_t (*unix_ms)(void *ctx);
    /* Something in presence_server() has changed that people would see. */
    void (*state)(void *ctx, uint32_t server);
    void (*found)(void *ctx, void *user, const struct presence_found *f);
    /* CALL has just been sent to this server, and no channel is known yet: what names the call may
     * follow it. Comes again with each copy. */
    void (*called)(void *ctx, void *user, uint64_t call, uint32_t server);
    void (*calling)(void *ctx, void *user, const struct presence_calling *c);
    void (*answered)(void *ctx, void *user, const struct presence_answered *a);
    /* The call has come to nothing: why a server or the callee refused it, or RDV_OK when nobody
     * did but no answer came in time. A channel that calling() showed is closed already. */
    void (*failed)(void *ctx, void *user, uint64_t call, enum rdv_reason reason);
    void (*invited)(void *ctx, const struct presence_invite *i);
    void (*start)(void *ctx, const struct presence_start *s);
    /* The relay knows where our side of the channel is; false: it knows no such channel (any more),
     * or does not answer, and the channel is closed. */
    void (*channel)(void *ctx, const struct presence_channel *c, bool open);
};

struct presence;

/* The identity is borrowed. Begins at the first presence_tick(). NULL: no memory. */
struct presence *presence_new(const struct presence_host *host, void *ctx,
                              const struct identity *id, uint32_t servers);
void presence_free(struct presence *p);

/* Runs what is due and returns when it wants to be called next, or PRESENCE_NEVER. To be called
 * again after anything else here was called, too; it is cheap. */
uint64_t presence_tick(struct presence *p, uint64_t now_us);
/* A message that came from a server or relay. What makes no sense is passed over. */
void presence_input(struct presence *p, const struct presence_way *way, const void *bytes, size_t n,
                    uint64_t now_us);
/* This way's bytes go by another transport from now on, or come from another address of ours:
 * registers anew and opens the channels anew, at once. */
void presence_moved(struct presence *p, uint32_t server, uint64_t now_us);
/* The same for all of them: another network. */
void presence_network_changed(struct presence *p, uint64_t now_us);

/* What the record says from now on: candidates, ports, services and relay are copied; key, sequence
 * and not-after are the machine's. Until then it is an empty one. -EMSGSIZE, and nothing changes.
 */
int presence_record(struct presence *p, const struct record *r) WARN_UNUSED;
/* Who may call: replaces the list. Until then nobody may. -ENOSPC above PRESENCE_ALLOW_MAX. */
int presence_allow(struct presence *p, const struct key *keys, size_t n, bool anyone) WARN_UNUSED;

/* How our NAT behaves, for all calls and answers from now on; until then nothing is known. */
void presence_nat(struct presence *p, const struct nat_print *print);

/* By name, or by key where the name is empty. -EAGAIN: too many at once. */
int presence_lookup(struct presence *p, struct str name, const struct key *key,
                    void *user) WARN_UNUSED;
/* Calls through the servers of the mask, as presence_found has it (0: all), the nearest first, one
 * after the other until one of them has the callee. The offer is sealed here; its `call` and
 * `unix_ms` are filled in. ret_call is a random number that names the attempt. No event comes
 * before the next presence_tick(). -EAGAIN: too many at once; -EINVAL: nothing can be sealed to
 * this key. */
int presence_call(struct presence *p, const struct key *callee, uint32_t servers,
                  const struct offer *offer, void *user, uint64_t *ret_call) WARN_UNUSED;
/* Forgets the call: no event of it comes any more. Its channel stays open. */
void presence_call_end(struct presence *p, uint64_t call);
/* By what technique a call of ours that was answered got its path, or that none did: tells its
 * server, once for each technique. */
void presence_worked(struct presence *p, uint64_t call, enum technique technique);
/* The answer to an invitation (to a copy of it): with an offer, or RDV_DECLINED without. Sent again
 * whenever the invitation comes again. -ENOENT when it is forgotten already. */
int presence_answer(struct presence *p, const struct presence_invite *invite,
                    enum rdv_reason reason, const struct offer *offer) WARN_UNUSED;
/* A channel is kept open until it is closed here or reported closed. */
void presence_channel_close(struct presence *p, const struct presence_channel *c);

/* A NAT on the way forgets what has been idle for longer than this: refreshes and channels come at
 * least so often. 0: nothing is known. */
void presence_keep(struct presence *p, uint32_t ms);

void presence_server(const struct presence *p, uint32_t server, struct presence_server *ret_server);
/* The signed record as it is registered, for whoever else may have it (the local network). Empty
 * before the first tick. Valid until the next call of a function here. */
struct str presence_own_record(const struct presence *p);
