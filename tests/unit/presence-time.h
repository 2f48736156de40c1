#pragma once
/* How time goes by in presence-rig.h: packets arrive, peers do what is due. */

#include "presence-server.h"

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

static const struct offer RIG_OFFER = {.secret = {1, 2, 3}, .mapping = 5};

/* Both are registered everywhere, and everybody may call. */
static inline struct rig *rig_ready(uint32_t servers)
{
    struct rig *g = rig_new(servers);
    for (size_t i = 0; i < RIG_PEERS; i++)
        CHECK_INT(presence_allow(g->peers[i].presence, NULL, 0, true), 0);
    rig_run(g, 1 * RIG_S);
    return g;
}

static inline uint64_t rig_dial(struct rig *g)
{
    uint64_t call = 0;
    CHECK_INT(presence_call(g->peers[LAPTOP].presence, &g->peers[HOME].id.key, 0, &RIG_OFFER, &call,
                            &call),
              0);
    return call;
}
