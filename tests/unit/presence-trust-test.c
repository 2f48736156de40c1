/* Whom a peer believes what about calls, in simulated time. */
#include "presence-time.h"

static void input(struct rig *g, unsigned peer, const struct rdvmsg *m)
{
    const struct presence_way way = {.server = 0};
    uint8_t buf[RDVMSG_MAX];
    int n = rdvmsg_encode(m, buf, sizeof buf);
    CHECK(n > 0);
    presence_input(g->peers[peer].presence, &way, buf, (size_t)n, g->now_us);
}

static uint64_t word_of(const struct rig *g, unsigned peer)
{
    return rig_word(&g->servers[0], &g->servers[0].leases[peer]);
}

static uint64_t passed_over(const struct rig *g, unsigned peer)
{
    struct presence_server s;
    presence_server(g->peers[peer].presence, 0, &s);
    return s.passed_over;
}

TEST("an invitation counts only with the word that the server has told")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *h = &g->peers[HOME], *e = &g->peers[LAPTOP];
    uint8_t sealed[SEALED_OFFER_MAX];
    struct offer o = {.call = 9, .unix_ms = rig_unix_ms(h)};
    int n = sealed_offer_make(&e->id, &h->id.key, &o, sealed);
    struct rdvmsg m = {.type = RDVMSG_INVITE, .call = 9, .offer = {(char *)sealed, (size_t)n}};
    m.addr = e->addr;
    memcpy(m.peer, e->id.key.b, sizeof m.peer);
    m.transaction = word_of(g, LAPTOP); /* the caller's own, which it knows */
    input(g, HOME, &m);
    m.transaction = 0;
    input(g, HOME, &m);
    CHECK_INT(h->invited, 0);
    CHECK_INT(passed_over(g, HOME), 2);
    m.transaction = word_of(g, HOME);
    input(g, HOME, &m);
    CHECK_INT(h->invited, 1);
    CHECK_INT(passed_over(g, HOME), 2);
    rig_free(g);
}

TEST("nobody but the server answers a call, or ends it")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *h = &g->peers[HOME], *e = &g->peers[LAPTOP];
    uint8_t sealed[SEALED_OFFER_MAX];
    h->mute = true;
    uint64_t call = rig_dial(g);
    rig_run(g, 100 * RIG_MS);
    struct offer o = {.call = call, .unix_ms = rig_unix_ms(h)};
    int n = sealed_offer_make(&h->id, &e->id.key, &o, sealed);
    struct rdvmsg m = {.type = RDVMSG_ANSWERED, .call = call, .offer = {(char *)sealed, (size_t)n}};
    m.addr = h->addr;
    memcpy(m.peer, h->id.key.b, sizeof m.peer);
    m.transaction = word_of(g, HOME);
    input(g, LAPTOP, &m);
    m.reason = RDV_DECLINED;
    input(g, LAPTOP, &m);
    CHECK_INT(e->answered + e->failed, 0);
    CHECK_INT(passed_over(g, LAPTOP), 2);
    m.transaction = word_of(g, LAPTOP);
    m.reason = RDV_OK;
    input(g, LAPTOP, &m);
    CHECK_INT(e->answered, 1);
    rig_free(g);
}

TEST("a start counts only as the answer to what the callee has answered")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *h = &g->peers[HOME];
    uint64_t call = rig_dial(g);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(h->started, 1);
    struct rdvmsg m = {.type = RDVMSG_START, .call = call, .addr = g->peers[LAPTOP].addr};
    const uint64_t known[] = {0, 1, word_of(g, LAPTOP), word_of(g, HOME)};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        m.transaction = known[i];
        input(g, HOME, &m);
    }
    CHECK_INT(h->started, 1);
    CHECK_INT(passed_over(g, HOME), 4);
    rig_free(g);
}

TEST("an invitation that overtakes the server's word comes again")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *h = &g->peers[HOME];
    /* Its login at the new address has come, the answer was lost. */
    CHECK_INT(addr_parse("198.51.100.77:77", &h->addr), 0);
    g->servers[0].leases[HOME].addr = h->addr;
    (void)rig_dial(g);
    rig_run(g, 100 * RIG_MS);
    CHECK_INT(passed_over(g, HOME), 1);
    CHECK_INT(h->invited, 0);
    presence_network_changed(h->presence, g->now_us);
    h->tick_us = 0;
    rig_run(g, 1 * RIG_S);
    CHECK_INT(h->invited, 1);
    CHECK_INT(g->peers[LAPTOP].answered, 1);
    CHECK_INT(h->started, 1);
    rig_free(g);
}

TEST("a forged invitation is ignored, whatever else it says")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *h = &g->peers[HOME];
    uint8_t sealed[SEALED_OFFER_MAX];
    struct offer o = {.call = 9, .unix_ms = rig_unix_ms(h)};
    struct identity stranger;
    identity_make(&stranger);
    int n = sealed_offer_make(&stranger, &h->id.key, &o, sealed);
    struct rdvmsg m = {.type = RDVMSG_INVITE, .call = 9, .offer = {(char *)sealed, (size_t)n}};
    m.addr = h->addr;
    m.transaction = word_of(g, HOME);
    memcpy(m.peer, g->peers[LAPTOP].id.key.b, sizeof m.peer); /* not who sealed it */
    unsigned before = h->sent;
    input(g, HOME, &m);
    memcpy(m.peer, stranger.key.b, sizeof m.peer);
    m.call = 10; /* another attempt's offer */
    input(g, HOME, &m);
    CHECK_INT(h->invited, 0);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(h->sent, before);
    rig_free(g);
}

TEST("a flood of invitations takes bounded time and memory")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *h = &g->peers[HOME], *e = &g->peers[LAPTOP];
    uint8_t sealed[SEALED_OFFER_MAX];
    h->mute = true;
    for (unsigned i = 0; i < 1000; i++) {
        struct offer o = {.call = i, .unix_ms = rig_unix_ms(h)};
        int n = sealed_offer_make(&e->id, &h->id.key, &o, sealed);
        struct rdvmsg m = {.type = RDVMSG_INVITE, .call = i, .channel = 1000 + i};
        m.offer = (struct str){(char *)sealed, (size_t)n};
        m.addr = h->addr;
        m.transaction = word_of(g, HOME);
        memcpy(m.peer, e->id.key.b, sizeof m.peer);
        input(g, HOME, &m);
    }
    CHECK_INT(h->invited, 200);
    rig_free(g);
}

TEST("a call that was ended has no more events, and its channel stays")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP];
    g->peers[HOME].mute = true;
    uint64_t call = rig_dial(g);
    rig_run(g, 200 * RIG_MS);
    presence_call_end(e->presence, call);
    rig_run(g, 20 * RIG_S);
    CHECK_INT(e->failed + e->answered, 0);
    CHECK_INT(e->opened, 1);
    CHECK_INT(e->closed, 0);
    rig_free(g);
}

TEST("nothing is sealed to what is no key")
{
    static const struct key none;
    struct rig *g = rig_ready(1);
    uint64_t call;
    CHECK_INT(presence_call(g->peers[LAPTOP].presence, &none, 0, &RIG_OFFER, NULL, &call), -EINVAL);
    rig_free(g);
}
