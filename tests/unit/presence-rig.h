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
    uint32_t rtt_us;        /* of this server: its packets take half of it each way */
    enum rdv_reason refuse; /* everything of the type below, so often */
    enum rdvmsg_type refuse_type;
    unsigned refuse_times;
    uint64_t refuse_number;
    uint8_t wrong_name_key[RDVMSG_KEY]; /* what it says the name "home" is; zero: nothing */
    unsigned got[RDVMSG_TYPE_COUNT];
    uint32_t channel; /* base of its channel numbers */
    struct addr opened[2];
};

struct rig_peer {
    struct rig *rig;
    struct presence *presence;
    struct identity id;
    struct addr addr; /* where the servers see it */
    uint64_t tick_us;
    unsigned sent;
    /* events */
    unsigned states, found, calling, answered, failed, invited, started, opened, closed;
    struct presence_found last_found;
    uint8_t found_record[RECORD_MAX];
    void *user;
    struct presence_calling last_calling;
    struct presence_answered last_answered;
    struct presence_invite last_invite;
    struct presence_start last_start;
    enum rdv_reason last_failed;
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
    p->at_us = g->now_us + g->servers[p->server].rtt_us / 2 + late;
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
                                              .calling = rig_calling,
                                              .answered = rig_answered,
                                              .failed = rig_failed,
                                              .invited = rig_invited,
                                              .start = rig_start,
                                              .channel = rig_channel};

/* ---- the servers ---- */

static inline void rig_mac(const struct rig_server *s, const struct addr *a, const uint8_t *key,
                           uint8_t ret[RDVMSG_COOKIE])
{
    uint8_t bytes[64] = {0};
    memcpy(bytes, &a->v4.sin_addr, 4);
    memcpy(bytes + 4, &a->v4.sin_port, 2);
    if (key)
        memcpy(bytes + 6, key, RDVMSG_KEY);
    siphash128(s->secret, bytes, sizeof bytes, ret);
}

static inline struct rig_lease *rig_lease(struct rig *g, struct rig_server *s, const uint8_t *key)
{
    for (size_t i = 0; i < RIG_PEERS; i++)
        if (s->leases[i].there && s->leases[i].until_us > g->now_us &&
            memcmp(s->leases[i].key, key, RDVMSG_KEY) == 0)
            return &s->leases[i];
    return NULL;
}

static inline uint32_t rig_peer_of(const struct rig *g, const uint8_t *key)
{
    return memcmp(g->peers[HOME].id.key.b, key, RDVMSG_KEY) == 0 ? HOME : LAPTOP;
}

static inline void rig_push(struct rig *g, uint32_t server, uint32_t peer, struct rdvmsg *m)
{
    struct rig_packet p = {.server = server, .peer = peer};
    const struct rig_lease *l = &g->servers[server].leases[peer];
    int n = rdvmsg_encode(m, p.bytes, sizeof p.bytes);
    CHECK(n > 0);
    p.n = (size_t)n;
    /* To where the peer was when it came last; a NAT drops what comes for an old mapping. */
    if (addr_equal(&l->addr, &g->peers[peer].addr))
        rig_post(g, &p);
}

static inline bool rig_cookie_good(const struct rig_server *s, const struct addr *from,
                                   const struct rdvmsg *m, struct rdvmsg *answer)
{
    uint8_t right[RDVMSG_COOKIE];
    rig_mac(s, from, NULL, right);
    if (memcmp(right, m->cookie, sizeof right) == 0)
        return true;
    answer->type = RDVMSG_COOKIE_IS;
    answer->lifetime_s = 120;
    answer->addr = *from;
    memcpy(answer->cookie, right, sizeof right);
    return false;
}

static inline enum rdv_reason rig_register(struct rig *g, uint32_t server, const struct addr *from,
                                           const struct rdvmsg *m, struct rdvmsg *answer)
{
    struct rig_server *s = &g->servers[server];
    struct record r;
    if (!rig_cookie_good(s, from, m, answer))
        return RDV_OK;
    if (signed_record_check(m->record) != RDV_OK || signed_record_decode(m->record, &r) != RDV_OK ||
        !signed_request_check(r.key, KEY_LOGIN, m, m->record))
        return RDV_FORGED;
    uint32_t peer = rig_peer_of(g, r.key);
    struct rig_lease *l = &s->leases[peer];
    answer->number = l->sequence;
    if (r.sequence < l->sequence)
        return RDV_REPLAYED;
    bool fresh = !rig_lease(g, s, r.key);
    if (fresh)
        l->allowed_n = l->anyone = 0;
    l->there = true;
    memcpy(l->key, r.key, sizeof l->key);
    memcpy(l->record, m->record.p, m->record.n);
    l->record_n = m->record.n;
    l->sequence = r.sequence;
    l->addr = *from;
    l->until_us = g->now_us + 90 * RIG_S;
    answer->type = RDVMSG_REGISTERED;
    answer->lifetime_s = 90;
    answer->refresh_s = 25;
    answer->number = r.sequence;
    rig_mac(s, from, r.key, answer->token);
    return RDV_OK;
}

static inline enum rdv_reason rig_lookup(struct rig *g, uint32_t server, const struct addr *from,
                                         const struct rdvmsg *m, struct rdvmsg *answer)
{
    static const uint8_t zero[RDVMSG_KEY];
    struct rig_server *s = &g->servers[server];
    const uint8_t *key = m->key;
    if (m->pad_to == 0 && !rig_cookie_good(s, from, m, answer))
        return RDV_OK;
    if (m->name.n > 0 && !str_eq(m->name, STR("home")))
        return RDV_UNKNOWN_NAME;
    if (m->name.n > 0)
        key = memcmp(s->wrong_name_key, zero, sizeof zero) ? s->wrong_name_key
                                                           : g->peers[HOME].id.key.b;
    struct rig_lease *l = rig_lease(g, s, key);
    if (!l && m->name.n == 0)
        return RDV_NOT_REGISTERED;
    answer->type = RDVMSG_FOUND;
    memcpy(answer->key, key, sizeof answer->key);
    answer->number = m->name.n ? 1234 : 0;
    answer->age_s = 1;
    if (l)
        answer->record = (struct str){(const char *)l->record, l->record_n};
    return RDV_OK;
}

static inline bool rig_lets_in(const struct rig_lease *l, const uint8_t *key)
{
    for (size_t i = 0; i < l->allowed_n; i += RDVMSG_ALLOWED)
        if (memcmp(l->allowed + i, key, RDVMSG_ALLOWED) == 0)
            return true;
    return l->anyone;
}

static inline enum rdv_reason rig_call(struct rig *g, uint32_t server, const struct rdvmsg *m,
                                       struct rdvmsg *answer)
{
    struct rig_server *s = &g->servers[server];
    struct rig_lease *callee = rig_lease(g, s, m->peer), *caller = rig_lease(g, s, m->key);
    if (!callee)
        return RDV_NOT_REGISTERED;
    if (!rig_lets_in(callee, m->key))
        return RDV_NOT_ALLOWED;
    struct rdvmsg invite = {.type = RDVMSG_INVITE,
                            .transaction = 1,
                            .call = m->call,
                            .channel = s->channel + 1,
                            .offer = m->offer};
    memcpy(invite.peer, m->key, sizeof invite.peer);
    invite.addr = caller ? caller->addr : callee->addr;
    rig_push(g, server, rig_peer_of(g, m->peer), &invite);
    answer->type = RDVMSG_CALLING;
    answer->call = m->call;
    answer->channel = s->channel;
    return RDV_OK;
}

static inline enum rdv_reason rig_answer(struct rig *g, uint32_t server, const struct rdvmsg *m,
                                         struct rdvmsg *answer)
{
    struct rig_server *s = &g->servers[server];
    struct rig_lease *callee = rig_lease(g, s, m->key), *caller = rig_lease(g, s, m->peer);
    if (!callee || !caller)
        return RDV_UNKNOWN_CALL;
    struct rdvmsg a = {.type = RDVMSG_ANSWERED,
                       .transaction = 2,
                       .call = m->call,
                       .reason = m->reason,
                       .wait_us = 20000,
                       .addr = callee->addr,
                       .offer = m->offer};
    memcpy(a.peer, m->key, sizeof a.peer);
    rig_push(g, server, rig_peer_of(g, m->peer), &a);
    answer->type = RDVMSG_START;
    answer->call = m->call;
    answer->wait_us = 21000;
    answer->addr = caller->addr;
    return RDV_OK;
}

static inline enum rdv_reason rig_open_channel(struct rig_server *s, const struct addr *from,
                                               const struct rdvmsg *m, struct rdvmsg *answer)
{
    uint32_t side = m->channel - s->channel;
    if (!rig_cookie_good(s, from, m, answer))
        return RDV_OK;
    if (side > 1)
        return RDV_UNKNOWN_CHANNEL;
    s->opened[side] = *from;
    answer->type = RDVMSG_OPENED;
    answer->channel = m->channel;
    return RDV_OK;
}

static inline enum rdv_reason rig_with_token(struct rig *g, uint32_t server,
                                             const struct addr *from, const struct rdvmsg *m,
                                             struct rdvmsg *answer)
{
    struct rig_server *s = &g->servers[server];
    uint8_t right[RDVMSG_COOKIE];
    rig_mac(s, from, m->key, right);
    if (memcmp(right, m->token, sizeof right) != 0)
        return RDV_BAD_TOKEN;
    struct rig_lease *l = rig_lease(g, s, m->key);
    if (!l)
        return RDV_NOT_REGISTERED;
    switch (m->type) {
    case RDVMSG_REFRESH:
        l->until_us = g->now_us + 90 * RIG_S;
        answer->type = RDVMSG_REFRESHED;
        answer->lifetime_s = 90;
        answer->refresh_s = 25;
        memcpy(answer->token, right, sizeof right);
        return RDV_OK;
    case RDVMSG_ALLOW:
        memcpy(l->allowed, m->allowed.p, m->allowed.n);
        l->allowed_n = m->allowed.n;
        l->anyone = m->flags & RDVMSG_ANYONE;
        answer->type = RDVMSG_ALLOWED_IS;
        return RDV_OK;
    case RDVMSG_CALL:
        return rig_call(g, server, m, answer);
    default:
        return rig_answer(g, server, m, answer);
    }
}

static inline enum rdv_reason rig_handle(struct rig *g, uint32_t server, const struct addr *from,
                                         const struct rdvmsg *m, struct rdvmsg *answer)
{
    struct rig_server *s = &g->servers[server];
    if (s->refuse_times > 0 && s->refuse_type == m->type) {
        s->refuse_times--;
        answer->number = s->refuse_number;
        return s->refuse;
    }
    switch (m->type) {
    case RDVMSG_HELLO:
        (void)rig_cookie_good(s, from, m, answer);
        answer->type = RDVMSG_COOKIE_IS;
        return RDV_OK;
    case RDVMSG_REGISTER:
        return rig_register(g, server, from, m, answer);
    case RDVMSG_LOOKUP:
        return rig_lookup(g, server, from, m, answer);
    case RDVMSG_OPEN:
        return rig_open_channel(s, from, m, answer);
    default:
        return rig_with_token(g, server, from, m, answer);
    }
}

static inline void rig_server_input(struct rig *g, const struct rig_packet *p)
{
    struct rig_server *s = &g->servers[p->server];
    struct rdvmsg m = {.cookie = {0}}, a = {.type = RDVMSG_ERROR};
    if (s->dead)
        return;
    int e = rdvmsg_decode(&m, p->bytes, p->n);
    CHECK_INT(e, 0);
    if (e < 0)
        return;
    m.pad_to = m.type == RDVMSG_LOOKUP && p->n > 1000; /* padded: needs no cookie */
    s->got[m.type]++;
    enum rdv_reason reason = rig_handle(g, p->server, &p->from, &m, &a);
    if (reason != RDV_OK) {
        a.type = RDVMSG_ERROR;
        a.reason = reason;
    }
    a.transaction = m.transaction;
    struct rig_packet out = {.server = p->server, .peer = p->peer};
    int n = rdvmsg_encode(&a, out.bytes, sizeof out.bytes);
    CHECK(n > 0);
    out.n = (size_t)n;
    if (addr_equal(&p->from, &g->peers[p->peer].addr))
        rig_post(g, &out);
}

/* ---- time ---- */

static inline void rig_deliver(struct rig *g, struct rig_packet *at)
{
    struct rig_packet p = *at;
    struct rig_peer *e = &g->peers[p.peer];
    at->at_us = 0;
    if (p.to_server) {
        rig_server_input(g, &p);
    } else if (e->presence) {
        const struct presence_way way = {.server = p.server};
        presence_input(e->presence, &way, p.bytes, p.n, g->now_us);
        e->tick_us = g->now_us;
    }
}

static inline struct rig_packet *rig_next_packet(struct rig *g)
{
    struct rig_packet *first = NULL;
    for (size_t i = 0; i < RIG_PACKETS; i++)
        if (g->packets[i].at_us && (!first || g->packets[i].at_us < first->at_us))
            first = &g->packets[i];
    return first;
}

static inline struct rig_peer *rig_next_peer(struct rig *g)
{
    struct rig_peer *first = NULL;
    for (size_t i = 0; i < RIG_PEERS; i++)
        if (g->peers[i].presence && (!first || g->peers[i].tick_us < first->tick_us))
            first = &g->peers[i];
    return first;
}

/* One step no later than `until`; false when there is none. */
static inline bool rig_step(struct rig *g, uint64_t until_us)
{
    struct rig_packet *p = rig_next_packet(g);
    struct rig_peer *e = rig_next_peer(g);
    uint64_t packet_us = p ? p->at_us : PRESENCE_NEVER, peer_us = e ? e->tick_us : PRESENCE_NEVER;
    uint64_t at = packet_us < peer_us ? packet_us : peer_us;
    if (at > until_us)
        return false;
    g->now_us = at > g->now_us ? at : g->now_us;
    if (packet_us <= peer_us)
        rig_deliver(g, p);
    else
        e->tick_us = presence_tick(e->presence, g->now_us);
    return true;
}

static inline void rig_run(struct rig *g, uint64_t for_us)
{
    uint64_t until = g->now_us + for_us;
    unsigned steps = 0;
    for (size_t i = 0; i < RIG_PEERS; i++)
        g->peers[i].tick_us = g->now_us; /* a test may have called something */
    while (rig_step(g, until) && steps < 200000)
        steps++;
    CHECK(steps < 200000);
    g->now_us = until;
}

static inline void rig_peer_new(struct rig *g, uint32_t i)
{
    struct rig_peer *e = &g->peers[i];
    e->presence = presence_new(&rig_host, e, &e->id, g->server_count);
    CHECK(e->presence != NULL);
    e->tick_us = g->now_us;
}

static inline struct rig *rig_new(uint32_t servers)
{
    static const char *const addrs[RIG_PEERS] = {"192.0.2.1:1001", "198.51.100.2:1002"};
    struct rig *g = calloc(1, sizeof *g);
    CHECK_INT(keys_init(), 0);
    g->now_us = 5 * RIG_S;
    g->random = 88172645463325252ull;
    g->server_count = servers;
    for (uint32_t i = 0; i < servers; i++) {
        g->servers[i].rtt_us = 40 * RIG_MS;
        g->servers[i].secret[0] = (uint8_t)(i + 1);
        g->servers[i].channel = 100 * (i + 1);
    }
    for (uint32_t i = 0; i < RIG_PEERS; i++) {
        g->peers[i].rig = g;
        CHECK_INT(addr_parse(addrs[i], &g->peers[i].addr), 0);
        identity_make(&g->peers[i].id);
        rig_peer_new(g, i);
    }
    return g;
}

static inline void rig_free(struct rig *g)
{
    CHECK_INT(g->overflow, 0);
    for (size_t i = 0; i < RIG_PEERS; i++)
        presence_free(g->peers[i].presence);
    free(g);
}

/* The server was killed and started anew: other secrets, no leases. */
static inline void rig_restart(struct rig *g, uint32_t server)
{
    struct rig_server *s = &g->servers[server];
    s->secret[1]++;
    memset(s->leases, 0, sizeof s->leases);
    s->dead = false;
}

static inline enum presence_state rig_state_of(struct rig *g, uint32_t peer, uint32_t server)
{
    struct presence_server s;
    presence_server(g->peers[peer].presence, server, &s);
    return s.state;
}

static inline bool rig_is_there(struct rig *g, uint32_t peer, uint32_t server)
{
    return rig_lease(g, &g->servers[server], g->peers[peer].id.key.b) != NULL;
}
