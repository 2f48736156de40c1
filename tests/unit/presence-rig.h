#pragma once
/* A world for presence: two peers behind addresses of their own, some rendezvous servers, and a
 * network between them that loses, repeats, delays and reorders, all in simulated time. The servers
 * are a small fake that can be told to die, to forget and to refuse. */

#include <stdlib.h>

#include "base/siphash.h"
#include "rendezvous/presence.h"
#include "rendezvous/sealed.h"
#include "rendezvous/signed.h"
#include "test.h"

#define RIG_PEERS   2
#define RIG_SERVERS 3
#define RIG_PACKETS 256
#define RIG_MS      1000ull
#define RIG_S       1000000ull
#define RIG_UNIX_MS 1900000000000ull

enum { HOME, LAPTOP };

struct rig;

struct rig_packet {
    uint64_t at_us; /* 0: free */
    bool to_server;
    uint32_t server, peer;
    struct addr from; /* to a server: where it was sent from */
    size_t n;
    uint8_t bytes[RDVMSG_MAX];
};

/* What a server knows of a peer. */
struct rig_lease {
    bool there;
    uint8_t key[RDVMSG_KEY];
    struct addr addr;
    uint64_t until_us;
    uint8_t record[RECORD_MAX];
    size_t record_n;
    uint64_t sequence;
    bool anyone;
    uint8_t allowed[RDVMSG_ALLOWED_MAX * RDVMSG_ALLOWED];
    size_t allowed_n;
};

struct rig_server {
    bool dead;
    uint8_t secret[SIPHASH_KEY];
    struct rig_lease leases[RIG_PEERS];
    uint64_t ahead;         /* it answers with transactions that are greater by this */
    uint32_t rtt_us;        /* of this server: its packets take half of it each way */
    enum rdv_reason refuse; /* everything of the type below, so often */
    enum rdvmsg_type refuse_type;
    unsigned refuse_times;
    uint64_t refuse_number;
    uint8_t wrong_name_key[RDVMSG_KEY]; /* what it says the name "home" is; zero: nothing */
    unsigned got[RDVMSG_TYPE_COUNT];
    uint32_t channel; /* base of its channel numbers */
    struct addr opened[2];
    struct nat_print prints[2];       /* of the last caller and callee */
    unsigned lost[RDVMSG_TYPE_COUNT]; /* so many of the next that it says are */
    uint8_t hint;                     /* what it says worked */
    uint64_t worked_call;             /* what it was told */
    uint8_t worked_peer[RDVMSG_KEY], worked;
};

struct rig_peer {
    struct rig *rig;
    struct presence *presence;
    struct identity id;
    struct addr addr; /* where the servers see it */
    uint64_t tick_us;
    uint64_t away_us; /* so much farther than others from every server, one way */
    unsigned sent;
    /* events */
    unsigned states, found, called, calling, answered, failed, invited, started, opened, closed;
    struct presence_found last_found;
    uint8_t found_record[RECORD_MAX];
    void *user;
    struct presence_calling last_calling;
    struct presence_answered last_answered;
    struct presence_invite last_invite;
    struct presence_start last_start;
    enum rdv_reason last_failed;
    uint32_t called_at; /* the server of the last copy */
    uint64_t answered_us, start_us, found_us, failed_us, calling_us;
    bool decline, mute;
};

struct rig {
    uint64_t now_us;
    uint64_t random;
    unsigned loss, twice; /* in 100 */
    uint64_t jitter_us;
    uint32_t server_count;
    struct rig_server servers[RIG_SERVERS];
    struct rig_peer peers[RIG_PEERS];
    struct rig_packet packets[RIG_PACKETS];
    unsigned overflow;
};

static inline uint64_t rig_random(struct rig *g)
{
    g->random ^= g->random << 13;
    g->random ^= g->random >> 7;
    g->random ^= g->random << 17;
    return g->random;
}

static inline void rig_post_one(struct rig *g, struct rig_packet *p)
{
    uint64_t late = g->jitter_us ? rig_random(g) % g->jitter_us : 0;
    p->at_us = g->now_us + g->servers[p->server].rtt_us / 2 + g->peers[p->peer].away_us + late;
    for (size_t i = 0; i < RIG_PACKETS; i++) {
        if (g->packets[i].at_us == 0) {
            g->packets[i] = *p;
            return;
        }
    }
    g->overflow++;
}

static inline void rig_post(struct rig *g, struct rig_packet *p)
{
    if (rig_random(g) % 100 < g->loss)
        return;
    rig_post_one(g, p);
    if (rig_random(g) % 100 < g->twice)
        rig_post_one(g, p);
}

/* ---- the peers' host ---- */

static inline void rig_send(void *ctx, const struct presence_way *way, const void *bytes, size_t n)
{
    struct rig_peer *e = ctx;
    struct rig_packet p = {
        .to_server = true, .server = way->server, .peer = (uint32_t)(e - e->rig->peers), .n = n};
    p.from = e->addr;
    memcpy(p.bytes, bytes, n);
    e->sent++;
    rig_post(e->rig, &p);
}

static inline uint64_t rig_unix_ms(void *ctx)
{
    const struct rig_peer *e = ctx;
    return RIG_UNIX_MS + e->rig->now_us / 1000;
}

static inline void rig_state(void *ctx, uint32_t server)
{
    struct rig_peer *e = ctx;
    (void)server;
    e->states++;
}

static inline void rig_found(void *ctx, void *user, const struct presence_found *f)
{
    struct rig_peer *e = ctx;
    e->found++;
    e->last_found = *f;
    e->found_us = e->rig->now_us;
    e->user = user;
    if (f->record.n > 0)
        memcpy(e->found_record, f->record.p, f->record.n);
}

static inline void rig_called(void *ctx, void *user, uint64_t call, uint32_t server)
{
    struct rig_peer *e = ctx;
    (void)user, (void)call;
    e->called++;
    e->called_at = server;
}

static inline void rig_calling(void *ctx, void *user, const struct presence_calling *c)
{
    struct rig_peer *e = ctx;
    e->calling++;
    e->user = user;
    e->last_calling = *c;
    e->calling_us = e->rig->now_us;
}

static inline void rig_answered(void *ctx, void *user, const struct presence_answered *a)
{
    struct rig_peer *e = ctx;
    e->answered++;
    e->user = user;
    e->last_answered = *a;
    e->answered_us = e->rig->now_us;
}

static inline void rig_failed(void *ctx, void *user, uint64_t call, enum rdv_reason reason)
{
    struct rig_peer *e = ctx;
    (void)call;
    e->failed++;
    e->user = user;
    e->last_failed = reason;
    e->failed_us = e->rig->now_us;
}

static inline void rig_invited(void *ctx, const struct presence_invite *i)
{
    struct rig_peer *e = ctx;
    const struct offer mine = {.mapping = 7};
    e->invited++;
    e->last_invite = *i;
    if (!e->mute)
        CHECK_INT(presence_answer(e->presence, i, e->decline ? RDV_DECLINED : RDV_OK, &mine), 0);
}

static inline void rig_start(void *ctx, const struct presence_start *s)
{
    struct rig_peer *e = ctx;
    e->started++;
    e->last_start = *s;
    e->start_us = e->rig->now_us;
}

static inline void rig_channel(void *ctx, const struct presence_channel *c, bool open)
{
    struct rig_peer *e = ctx;
    (void)c;
    if (open)
        e->opened++;
    else
        e->closed++;
}

static const struct presence_host rig_host = {.send = rig_send,
                                              .unix_ms = rig_unix_ms,
                                              .state = rig_state,
                                              .found = rig_found,
                                              .called = rig_called,
                                              .calling = rig_calling,
                                              .answered = rig_answered,
                                              .failed = rig_failed,
                                              .invited = rig_invited,
                                              .start = rig_start,
                                              .channel = rig_channel};
