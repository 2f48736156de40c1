#pragma once
/* The fake rendezvous servers of presence-rig.h: they know cookies, tokens, leases, names and
 * calls, and can be told to refuse. */

#include "presence-rig.h"

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

static inline bool rig_loses(struct rig_server *s, enum rdvmsg_type type)
{
    if (s->lost[type] == 0)
        return false;
    s->lost[type]--;
    return true;
}

/* What shows that something comes from this server. */
static inline uint64_t rig_word(const struct rig_server *s, const struct rig_lease *l)
{
    uint8_t mac[RDVMSG_COOKIE];
    uint64_t word;
    rig_mac(s, &l->addr, l->key, mac);
    memcpy(&word, mac, sizeof word);
    return word ^ 1; /* not what the token begins with */
}

static inline void rig_push(struct rig *g, uint32_t server, uint32_t peer, struct rdvmsg *m)
{
    struct rig_packet p = {.server = server, .peer = peer};
    const struct rig_lease *l = &g->servers[server].leases[peer];
    m->transaction = rig_word(&g->servers[server], l);
    int n = rdvmsg_encode(m, p.bytes, sizeof p.bytes);
    CHECK(n > 0);
    p.n = (size_t)n;
    if (rig_loses(&g->servers[server], m->type))
        return;
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
    answer->word = rig_word(s, l);
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
    struct rdvmsg invite = {
        .type = RDVMSG_INVITE, .call = m->call, .channel = s->channel + 1, .offer = m->offer};
    memcpy(invite.peer, m->key, sizeof invite.peer);
    invite.addr = caller ? caller->addr : callee->addr;
    rig_push(g, server, rig_peer_of(g, m->peer), &invite);
    s->prints[0] = m->print;
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
                       .call = m->call,
                       .reason = m->reason,
                       .wait_us = 20000,
                       .technique = s->hint,
                       .addr = callee->addr,
                       .offer = m->offer};
    memcpy(a.peer, m->key, sizeof a.peer);
    rig_push(g, server, rig_peer_of(g, m->peer), &a);
    s->prints[1] = m->print;
    answer->type = RDVMSG_START;
    answer->technique = s->hint;
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
        answer->word = rig_word(&g->servers[server], l);
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

static inline void rig_worked(struct rig_server *s, const struct rdvmsg *m)
{
    s->worked_call = m->call;
    s->worked = m->technique;
    memcpy(s->worked_peer, m->peer, sizeof s->worked_peer);
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
    if (m.type == RDVMSG_WORKED) {
        rig_worked(s, &m);
        return;
    }
    enum rdv_reason reason = rig_handle(g, p->server, &p->from, &m, &a);
    if (reason != RDV_OK) {
        a.type = RDVMSG_ERROR;
        a.reason = reason;
    }
    if (rig_loses(s, a.type))
        return;
    a.transaction = m.transaction + s->ahead;
    struct rig_packet out = {.server = p->server, .peer = p->peer};
    int n = rdvmsg_encode(&a, out.bytes, sizeof out.bytes);
    CHECK(n > 0);
    out.n = (size_t)n;
    if (addr_equal(&p->from, &g->peers[p->peer].addr))
        rig_post(g, &out);
}
