#pragma once
/* What a rendezvous server answers: a message, its sender and the time come in, the answer goes
 * out, and sometimes a message for another peer. No sockets and no clock. One struct rdv for each
 * thread; they share registry, names and store. */

#include "rendezvous/learned.h"
#include "rendezvous/limit.h"
#include "rendezvous/names-store.h"
#include "rendezvous/redis.h"
#include "rendezvous/registry.h"
#include "rendezvous/relay.h"
#include "rendezvous/secrets.h"

/* A record may be good for a week at most: so long a caller may be shown a stale one. */
#define RDV_VALID_MAX_S (7 * 24 * 3600)

/* Four sockets at two addresses and two ports, by RFC 5780, so that a client can find out how its
 * NAT behaves. */
struct rdv_stun {
    bool on;
    struct addr at[2][2];  /* address, port */
    uint32_t socket[2][2]; /* the number of each in rdv_via */
};

struct rdv_shared {
    struct rdv_stun stun;
    struct registry *registry;
    struct relay *relay;
    struct learned *learned;
    struct addr relay_addr; /* of this server, for peers of others; without a family: not known */
    struct names *names;
    struct names_store *store;  /* NULL: names are in Redis */
    struct redis_shared *redis; /* NULL: this server is alone */
    uint8_t master[SECRETS_MASTER];
    uint16_t lease_s, refresh_s;
    uint32_t signatures; /* checked a second and source; 0: no limit */
};

/* What was done, and what was refused for which reason; read by other threads for the log. */
struct rdv_counters {
    uint64_t answered[RDVMSG_TYPE_COUNT]; /* by the type of the answer */
    uint64_t refused[RDV_REASON_COUNT];
    uint64_t stun;
    uint64_t withheld; /* would have been longer than what came from an unproven address */
    uint64_t dropped;  /* neither STUN nor ours, or over the limit for STUN */
    uint64_t pushed[RDVMSG_TYPE_COUNT];
    uint64_t worked[TECHNIQUE_END]; /* as callers say */
    uint64_t relayed, relayed_bytes;
    uint64_t relay_limited; /* packets: over a limit */
    uint64_t relay_unfair;  /* packets: of a pair that took more than its share of a busy thread */
    uint64_t relay_lost;    /* packets: the other side was not there, or did not take them */
};

/* A message for another peer than the one who sent something. */
struct rdv_push {
    struct place to;
    size_t n; /* 0: none */
    uint8_t bytes[RDVMSG_MAX];
};

struct rdv {
    const struct rdv_shared *shared;
    struct secrets secrets;
    struct limits *limits;
    struct redis *redis; /* the thread's; NULL: none */
    struct outbox outbox;
    struct rdv_counters counters;
    struct rdv_push push;    /* from the last call, to be sent now */
    uint32_t send_from;      /* the socket that the last answer to a datagram leaves from */
    uint16_t send_to;        /* the port that it goes to; 0: the asker's */
    enum rdv_reason refused; /* by the last call; RDV_OK: nothing was */
};

struct rdv_input {
    struct str bytes;
    struct addr from;
    struct rdv_via via;
    uint64_t now_ms, unix_s;
};

int rdv_init(struct rdv *r, const struct rdv_shared *shared) WARN_UNUSED;
void rdv_done(struct rdv *r);
/* Length of the answer; 0: none, or a later one through the outbox. Afterwards push may hold a
 * message for somebody else. */
size_t rdv_handle(struct rdv *r, const struct rdv_input *in, uint8_t out[RDVMSG_MAX]);
/* What another server has for a peer of ours is in push afterwards. False: it is not here, or that
 * is nothing that comes unasked. */
bool rdv_pass_on(struct rdv *r, const struct nodemsg *p, uint64_t now_ms);
/* The answer to a job that came back. */
size_t rdv_finish(struct rdv *r, const struct job *job, uint8_t out[RDVMSG_MAX]);
