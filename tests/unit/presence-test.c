/* Presence at rendezvous servers, in simulated time. */
#include "rendezvous/presence.h"

#include "presence-time.h"

static struct record web(void)
{
    struct record r = {.relay = STR("")};
    r.services[r.service_count++] = (struct record_service){STR("web"), RECORD_TCP, 0};
    return r;
}

TEST("a peer is registered after two round trips, and its round trip is known")
{
    struct rig *g = rig_new(1);
    struct presence_server s;
    rig_run(g, 79 * RIG_MS);
    CHECK_INT(rig_state_of(g, HOME, 0), PRESENCE_LOGIN);
    rig_run(g, 2 * RIG_MS);
    presence_server(g->peers[HOME].presence, 0, &s);
    CHECK_INT(s.state, PRESENCE_REGISTERED);
    CHECK_INT(s.rtt_us, 40 * RIG_MS);
    CHECK_INT(s.lease_s, 90);
    CHECK(addr_equal(&s.seen, &g->peers[HOME].addr));
    CHECK(rig_is_there(g, HOME, 0));
    CHECK(g->peers[HOME].states > 0);
    rig_free(g);
}

TEST("the round trip is known where each question is asked again before its answer comes")
{
    struct rig *g = rig_new(2);
    struct presence_server s;
    g->servers[0].rtt_us = 900 * RIG_MS;
    g->loss = 30;
    rig_run(g, 60 * RIG_S);
    presence_server(g->peers[HOME].presence, 0, &s);
    CHECK_INT(s.state, PRESENCE_REGISTERED);
    CHECK_INT(s.rtt_us, 900 * RIG_MS);
    presence_server(g->peers[HOME].presence, 1, &s);
    CHECK_INT(s.rtt_us, 40 * RIG_MS);
    rig_free(g);
}

TEST("what waits somewhere on its way is no round trip")
{
    struct rig *g = rig_new(1);
    struct presence_server s;
    rig_run(g, 1 * RIG_S);
    g->jitter_us = 200 * RIG_MS;
    rig_run(g, 60 * RIG_S); /* two or three refreshes */
    presence_server(g->peers[HOME].presence, 0, &s);
    CHECK_INT(s.rtt_us, 40 * RIG_MS);
    /* Another network, of which the old one says nothing. */
    g->jitter_us = 0;
    g->servers[0].rtt_us = 90 * RIG_MS;
    presence_moved(g->peers[HOME].presence, 0, g->now_us);
    g->peers[HOME].tick_us = g->now_us;
    rig_run(g, 1 * RIG_S);
    presence_server(g->peers[HOME].presence, 0, &s);
    CHECK_INT(s.rtt_us, 90 * RIG_MS);
    rig_free(g);
}

TEST("a server cannot answer what has not come to it yet, and so seem near")
{
    for (uint64_t ahead = 1; ahead <= 2; ahead++) {
        struct rig *g = rig_new(1);
        struct presence_server s;
        g->servers[0].rtt_us = 900 * RIG_MS;
        g->servers[0].ahead = ahead;
        rig_run(g, 5 * RIG_S);
        presence_server(g->peers[HOME].presence, 0, &s);
        CHECK_INT(s.rtt_us, 0);
        CHECK_INT(s.heard_us, 0);
        rig_free(g);
    }
}

TEST("a lease is kept by refreshes, not by logins")
{
    struct rig *g = rig_new(1);
    rig_run(g, 600 * RIG_S);
    CHECK(rig_is_there(g, HOME, 0));
    CHECK_INT(g->servers[0].got[RDVMSG_REGISTER], 2); /* one for each peer */
    unsigned refreshes = g->servers[0].got[RDVMSG_REFRESH];
    CHECK(refreshes >= 46 && refreshes <= 66);
    rig_free(g);
}

static unsigned refreshes_in(struct rig *g, uint64_t for_us)
{
    unsigned before = g->servers[0].got[RDVMSG_REFRESH];
    rig_run(g, for_us);
    return g->servers[0].got[RDVMSG_REFRESH] - before;
}

TEST("refreshes come as often as the NAT wants them, and no more often than the server")
{
    struct rig *g = rig_new(1);
    rig_run(g, 60 * RIG_S);
    for (size_t i = 0; i < RIG_PEERS; i++)
        presence_keep(g->peers[i].presence, 5000);
    unsigned n = refreshes_in(g, 5 * RIG_S + 100 * RIG_MS);
    CHECK(n >= 2 && n <= 4);
    n = refreshes_in(g, 60 * RIG_S);
    CHECK(n >= 22 && n <= 34);
    for (size_t i = 0; i < RIG_PEERS; i++)
        presence_keep(g->peers[i].presence, 110000);
    rig_run(g, 60 * RIG_S);
    n = refreshes_in(g, 600 * RIG_S);
    CHECK(n >= 38 && n <= 60);
    rig_free(g);
}

TEST("a server that was restarted has the peer again within one refresh")
{
    struct rig *g = rig_new(1);
    rig_run(g, 10 * RIG_S);
    rig_restart(g, 0);
    CHECK(!rig_is_there(g, HOME, 0));
    rig_run(g, 25 * RIG_S);
    CHECK(rig_is_there(g, HOME, 0));
    CHECK_INT(rig_state_of(g, HOME, 0), PRESENCE_REGISTERED);
    rig_free(g);
}

TEST("a dead server does not stop the other, is asked ever less, and comes back")
{
    struct rig *g = rig_new(2);
    struct presence_server s;
    g->servers[1].dead = true;
    rig_run(g, 10 * RIG_S);
    CHECK_INT(rig_state_of(g, HOME, 0), PRESENCE_REGISTERED);
    presence_server(g->peers[HOME].presence, 1, &s);
    CHECK(s.state != PRESENCE_REGISTERED);
    CHECK(s.silent);
    rig_run(g, 600 * RIG_S);
    unsigned before = g->peers[HOME].sent;
    rig_run(g, 600 * RIG_S);
    CHECK(g->peers[HOME].sent - before < 24 + 6 * 14);
    g->servers[1].dead = false;
    rig_run(g, 70 * RIG_S);
    CHECK_INT(rig_state_of(g, HOME, 1), PRESENCE_REGISTERED);
    rig_free(g);
}

TEST("with a third of all packets lost and others doubled and late, a peer stays registered")
{
    struct rig *g = rig_new(2);
    g->loss = 33;
    g->twice = 20;
    g->jitter_us = 300 * RIG_MS;
    rig_run(g, 30 * RIG_S);
    unsigned there = 0;
    for (int i = 0; i < 40; i++) {
        rig_run(g, 20 * RIG_S);
        there += rig_is_there(g, HOME, 0) && rig_is_there(g, HOME, 1);
    }
    CHECK(there >= 39);
    rig_free(g);
}

TEST("when a NAT gives it another address, a peer registers anew within one refresh")
{
    struct rig *g = rig_new(1);
    struct presence_server s;
    rig_run(g, 10 * RIG_S);
    addr_set_port(&g->peers[HOME].addr, 2002);
    rig_run(g, 26 * RIG_S);
    presence_server(g->peers[HOME].presence, 0, &s);
    CHECK_INT(s.state, PRESENCE_REGISTERED);
    CHECK_INT(addr_port(&s.seen), 2002);
    CHECK_INT(addr_port(&g->servers[0].leases[HOME].addr), 2002);
    rig_free(g);
}

TEST("a change of the network registers at once")
{
    struct rig *g = rig_new(2);
    rig_run(g, 10 * RIG_S);
    addr_set_port(&g->peers[HOME].addr, 2002);
    presence_network_changed(g->peers[HOME].presence, g->now_us);
    rig_run(g, 85 * RIG_MS);
    CHECK_INT(addr_port(&g->servers[0].leases[HOME].addr), 2002);
    CHECK_INT(addr_port(&g->servers[1].leases[HOME].addr), 2002);
    rig_free(g);
}

TEST("a record that changes is registered at once, everywhere")
{
    struct rig *g = rig_new(2);
    struct record r = web(), back;
    rig_run(g, 1 * RIG_S);
    uint64_t before = g->servers[0].leases[HOME].sequence;
    CHECK_INT(presence_record(g->peers[HOME].presence, &r), 0);
    rig_run(g, 100 * RIG_MS);
    for (uint32_t i = 0; i < 2; i++) {
        struct rig_lease *l = &g->servers[i].leases[HOME];
        CHECK(l->sequence > before);
        CHECK_INT(signed_record_decode((struct str){(char *)l->record, l->record_n}, &back), 0);
        CHECK_INT(back.service_count, 1);
        CHECK_STR(back.services[0].name, "web");
    }
    rig_free(g);
}

TEST("a record is signed anew before it ends")
{
    struct rig *g = rig_new(1);
    struct record back;
    rig_run(g, 3 * 24 * 3600 * RIG_S);
    struct rig_lease *l = &g->servers[0].leases[HOME];
    CHECK_INT(signed_record_decode((struct str){(char *)l->record, l->record_n}, &back), 0);
    CHECK(back.not_after > (RIG_UNIX_MS + g->now_us / 1000) / 1000 + 11 * 3600);
    rig_free(g);
}

TEST("a server that knows a later record gets one that is later still")
{
    struct rig *g = rig_new(1);
    g->servers[0].leases[HOME].sequence = RIG_UNIX_MS + 3600 * 1000;
    rig_run(g, 1 * RIG_S);
    CHECK_INT(rig_state_of(g, HOME, 0), PRESENCE_REGISTERED);
    CHECK_INT(g->servers[0].leases[HOME].sequence, RIG_UNIX_MS + 3600 * 1000 + 1);
    rig_free(g);
}

TEST("a server cannot use up the sequence numbers")
{
    struct rig *g = rig_new(2);
    struct presence_server s;
    g->servers[0].leases[HOME].sequence = UINT64_MAX - 1;
    rig_run(g, 5 * RIG_S);
    presence_server(g->peers[HOME].presence, 0, &s);
    CHECK_INT(s.state, PRESENCE_WAITING);
    CHECK_INT(s.reason, RDV_REPLAYED);
    CHECK_INT(rig_state_of(g, HOME, 1), PRESENCE_REGISTERED);
    CHECK(g->servers[1].leases[HOME].sequence < RIG_UNIX_MS + 3600 * 1000);
    rig_free(g);
}

TEST("who is refused for its rate waits as long as it is told to")
{
    struct rig *g = rig_new(1);
    struct presence_server s;
    g->servers[0].refuse = RDV_RATE_LIMITED;
    g->servers[0].refuse_type = RDVMSG_REGISTER;
    g->servers[0].refuse_times = 2; /* one for each peer */
    g->servers[0].refuse_number = 30;
    rig_run(g, 29 * RIG_S);
    presence_server(g->peers[HOME].presence, 0, &s);
    CHECK_INT(s.state, PRESENCE_WAITING);
    CHECK_INT(s.reason, RDV_RATE_LIMITED);
    CHECK_INT(g->servers[0].got[RDVMSG_REGISTER], 2);
    rig_run(g, 3 * RIG_S);
    CHECK_INT(rig_state_of(g, HOME, 0), PRESENCE_REGISTERED);
    rig_free(g);
}

TEST("a server that always wants another cookie is not asked without end")
{
    struct rig *g = rig_new(1);
    for (int i = 0; i < 300; i++) {
        g->servers[0].secret[2]++;
        rig_run(g, 40 * RIG_MS);
    }
    CHECK(g->servers[0].got[RDVMSG_REGISTER] < 60);
    rig_free(g);
}

TEST("a server that takes the login but never the token is not asked without end")
{
    struct rig *g = rig_new(1);
    CHECK_INT(presence_allow(g->peers[HOME].presence, NULL, 0, true), 0);
    g->servers[0].refuse = RDV_BAD_TOKEN;
    g->servers[0].refuse_type = RDVMSG_ALLOW;
    g->servers[0].refuse_times = 1000000;
    rig_run(g, 60 * RIG_S);
    CHECK(g->servers[0].got[RDVMSG_REGISTER] < 70);
    rig_free(g);
}

TEST("the list of who may call is told after each login, and when it changes")
{
    struct rig *g = rig_new(1);
    struct rig_lease *l = &g->servers[0].leases[HOME];
    struct presence_server s;
    struct key keys[2] = {g->peers[LAPTOP].id.key, g->peers[HOME].id.key};
    CHECK_INT(presence_allow(g->peers[HOME].presence, keys, 1, false), 0);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(l->allowed_n, RDVMSG_ALLOWED);
    CHECK_INT(memcmp(l->allowed, keys[0].b, RDVMSG_ALLOWED), 0);
    presence_server(g->peers[HOME].presence, 0, &s);
    CHECK(s.allow_known);
    CHECK_INT(presence_allow(g->peers[HOME].presence, keys, 2, true), 0);
    presence_server(g->peers[HOME].presence, 0, &s);
    CHECK(!s.allow_known);
    rig_run(g, 100 * RIG_MS);
    CHECK_INT(l->allowed_n, 2 * RDVMSG_ALLOWED);
    CHECK(l->anyone);
    rig_restart(g, 0);
    rig_run(g, 26 * RIG_S);
    CHECK_INT(l->allowed_n, 2 * RDVMSG_ALLOWED);
    CHECK_INT(g->servers[0].got[RDVMSG_ALLOW], 3);
    rig_free(g);
}

TEST("answers to nothing that was asked change nothing")
{
    struct rig *g = rig_new(1);
    struct presence_way way = {.server = 0};
    uint8_t buf[RDVMSG_MAX];
    rig_run(g, 1 * RIG_S);
    for (unsigned type = 1; type < RDVMSG_TYPE_COUNT; type++) {
        struct rdvmsg m = {.type = type, .transaction = 4711, .reason = RDV_BAD_TOKEN};
        CHECK_INT(addr_parse("203.0.113.9:9", &m.addr), 0);
        int n = rdvmsg_encode(&m, buf, sizeof buf);
        CHECK(n > 0);
        presence_input(g->peers[HOME].presence, &way, buf, (size_t)n, g->now_us);
        for (int cut = 0; cut < n; cut++)
            presence_input(g->peers[HOME].presence, &way, buf, (size_t)cut, g->now_us);
    }
    way.server = 7;
    presence_input(g->peers[HOME].presence, &way, buf, 12, g->now_us);
    CHECK_INT(rig_state_of(g, HOME, 0), PRESENCE_REGISTERED);
    CHECK_INT(g->peers[HOME].invited + g->peers[HOME].started + g->peers[HOME].answered, 0);
    rig_run(g, 100 * RIG_S);
    CHECK_INT(g->servers[0].got[RDVMSG_REGISTER], 2);
    rig_free(g);
}
