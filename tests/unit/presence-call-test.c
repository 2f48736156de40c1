/* Lookups, calls and channels at rendezvous servers, in simulated time. */
#include "presence-time.h"

TEST("a lookup by name finds the key, its record and where it is registered")
{
    struct rig *g = rig_ready(2);
    struct rig_peer *e = &g->peers[LAPTOP];
    int user;
    CHECK_INT(presence_lookup(e->presence, STR("home"), NULL, &user), 0);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(e->found, 1);
    CHECK(e->user == &user);
    CHECK_INT(e->last_found.reason, RDV_OK);
    CHECK(key_equal(&e->last_found.key, &g->peers[HOME].id.key));
    CHECK_INT(e->last_found.servers, 3);
    CHECK_INT(e->last_found.claimed, 1234);
    CHECK_INT(signed_record_check((struct str){(char *)e->found_record, e->last_found.record.n}),
              RDV_OK);
    rig_free(g);
}

TEST("a lookup does not wait for a server that is dead")
{
    struct rig *g = rig_new(2);
    struct rig_peer *e = &g->peers[LAPTOP];
    g->servers[0].dead = true;
    rig_run(g, 9 * RIG_S);
    uint64_t begin = g->now_us;
    CHECK_INT(presence_lookup(e->presence, STR(""), &g->peers[HOME].id.key, e), 0);
    rig_run(g, 2 * RIG_S);
    CHECK_INT(e->last_found.reason, RDV_OK);
    CHECK_INT(e->last_found.servers, 2);
    CHECK(e->found_us - begin < 45 * RIG_MS);
    rig_free(g);
}

TEST("a lookup waits a little for servers that live, not for long")
{
    struct rig *g = rig_ready(2);
    struct rig_peer *e = &g->peers[LAPTOP];
    g->servers[1].dead = true; /* just now: nobody knows */
    uint64_t begin = g->now_us;
    CHECK_INT(presence_lookup(e->presence, STR("home"), NULL, e), 0);
    rig_run(g, 2 * RIG_S);
    CHECK_INT(e->last_found.servers, 1);
    CHECK(e->found_us - begin < 100 * RIG_MS);
    rig_free(g);
}

TEST("a lookup that no server answers ends, and so does one of what is not there")
{
    struct rig *g = rig_ready(2);
    struct rig_peer *e = &g->peers[LAPTOP];
    CHECK_INT(presence_lookup(e->presence, STR("nobody"), NULL, e), 0);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(e->found, 1);
    CHECK_INT(e->last_found.reason, RDV_UNKNOWN_NAME);
    g->servers[0].dead = g->servers[1].dead = true;
    CHECK_INT(presence_lookup(e->presence, STR("home"), NULL, e), 0);
    rig_run(g, 6 * RIG_S);
    CHECK_INT(e->found, 2);
    CHECK_INT(e->last_found.reason, RDV_BUSY);
    rig_free(g);
}

TEST("a name that is held by a peer that is away has a key and no record")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP];
    g->servers[0].leases[HOME].there = false;
    CHECK_INT(presence_lookup(e->presence, STR("home"), NULL, e), 0);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(e->last_found.reason, RDV_OK);
    CHECK_INT(e->last_found.servers, 0);
    CHECK_INT(e->last_found.record.n, 0);
    CHECK(key_equal(&e->last_found.key, &g->peers[HOME].id.key));
    rig_free(g);
}

TEST("a record that a server has changed is not believed; the other server's is")
{
    struct rig *g = rig_ready(2);
    struct rig_peer *e = &g->peers[LAPTOP];
    struct rig_lease *l = &g->servers[0].leases[HOME];
    l->record[40]++;
    CHECK_INT(presence_lookup(e->presence, STR(""), &g->peers[HOME].id.key, e), 0);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(e->last_found.reason, RDV_OK);
    CHECK_INT(e->last_found.servers, 2);
    g->servers[1].leases[HOME].record[l->record_n - 1]++;
    CHECK_INT(presence_lookup(e->presence, STR(""), &g->peers[HOME].id.key, e), 0);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(e->last_found.reason, RDV_FORGED);
    rig_free(g);
}

TEST("when servers disagree about a name, the first one's word counts")
{
    struct rig *g = rig_ready(2);
    struct rig_peer *e = &g->peers[LAPTOP];
    g->servers[0].rtt_us = 80 * RIG_MS; /* answers last */
    memcpy(g->servers[1].wrong_name_key, g->peers[LAPTOP].id.key.b, RDVMSG_KEY);
    CHECK_INT(presence_lookup(e->presence, STR("home"), NULL, e), 0);
    rig_run(g, 1 * RIG_S);
    CHECK(key_equal(&e->last_found.key, &g->peers[HOME].id.key));
    CHECK_INT(e->last_found.servers, 1);
    rig_free(g);
}

TEST("there is no room for more than so many lookups and calls, and each ends")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP];
    uint64_t call;
    g->servers[0].dead = true;
    for (int i = 0; i < PRESENCE_LOOKUPS_MAX; i++)
        CHECK_INT(presence_lookup(e->presence, STR("home"), NULL, e), 0);
    CHECK_INT(presence_lookup(e->presence, STR("home"), NULL, e), -EAGAIN);
    for (int i = 0; i < PRESENCE_CALLS_MAX; i++)
        (void)rig_dial(g);
    CHECK_INT(presence_call(e->presence, &g->peers[HOME].id.key, 0, &RIG_OFFER, e, &call), -EAGAIN);
    rig_run(g, 13 * RIG_S);
    CHECK_INT(e->found, PRESENCE_LOOKUPS_MAX);
    CHECK_INT(e->failed, PRESENCE_CALLS_MAX);
    CHECK_INT(presence_lookup(e->presence, STR("home"), NULL, e), 0);
    rig_free(g);
}

TEST("a call reaches the callee in one round trip, and both fire together")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP], *h = &g->peers[HOME];
    uint64_t begin = g->now_us, call = rig_dial(g);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(e->calling, 1);
    CHECK_INT(e->answered, 1);
    CHECK_INT(h->invited, 1);
    CHECK_INT(h->started, 1);
    CHECK(e->last_calling.call == call && e->last_answered.call == call);
    CHECK(h->last_invite.call == call && h->last_start.call == call);
    CHECK_INT(e->called, 1);
    CHECK_INT(e->calling_us - begin, 40 * RIG_MS);
    CHECK_INT(e->answered_us - begin, 80 * RIG_MS);
    CHECK_INT(e->last_calling.channel.number, 100);
    CHECK_INT(h->last_invite.channel.number, 101);
    CHECK(key_equal(&h->last_invite.caller, &e->id.key));
    CHECK_INT(h->last_invite.offer.mapping, 5);
    CHECK_INT(e->last_answered.offer.mapping, 7);
    CHECK(addr_equal(&e->last_answered.seen, &h->addr));
    CHECK_INT(h->last_start.wait_us, 21000);
    CHECK_INT(e->failed, 0);
    rig_free(g);
}

TEST("a callee that is not told when to fire asks again, and its caller does not begin anew")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP], *h = &g->peers[HOME];
    g->servers[0].lost[RDVMSG_START] = 1;
    (void)rig_dial(g);
    rig_run(g, 300 * RIG_MS);
    CHECK_INT(h->invited, 1);
    CHECK_INT(h->started, 1);
    CHECK_INT(e->answered, 1);
    CHECK_INT(g->servers[0].got[RDVMSG_ANSWER], 2);
    g->servers[0].lost[RDVMSG_START] = 99;
    (void)rig_dial(g);
    rig_run(g, 5 * RIG_S);
    CHECK_INT(h->started, 1);
    CHECK_INT(g->servers[0].got[RDVMSG_ANSWER], 5); /* and leaves it at that */
    rig_free(g);
}

static uint64_t answered_after(enum rdvmsg_type lost)
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP], *h = &g->peers[HOME];
    g->servers[0].lost[lost] = 1;
    uint64_t begin = g->now_us;
    (void)rig_dial(g);
    rig_run(g, 2 * RIG_S);
    CHECK_INT(e->calling, 1);
    CHECK_INT(e->answered, 1);
    CHECK_INT(h->started, 1);
    CHECK_INT(g->servers[0].got[RDVMSG_CALL], 2);
    uint64_t both_us = e->calling_us > e->answered_us ? e->calling_us : e->answered_us;
    rig_free(g);
    return both_us - begin;
}

TEST("what a call loses costs little more than a round trip")
{
    /* 40 ms: CALLING after one of them, ANSWERED after two. */
    CHECK(answered_after(RDVMSG_CALLING) <= 130 * RIG_MS);
    CHECK(answered_after(RDVMSG_INVITE) <= 210 * RIG_MS);
    CHECK(answered_after(RDVMSG_ANSWERED) <= 210 * RIG_MS);
}

TEST("a callee that is far away is not disturbed by a caller that cannot wait")
{
    struct rig *g = rig_new(1);
    struct rig_peer *e = &g->peers[LAPTOP], *h = &g->peers[HOME];
    h->away_us = 150 * RIG_MS;
    CHECK_INT(presence_allow(h->presence, NULL, 0, true), 0);
    rig_run(g, 3 * RIG_S);
    (void)rig_dial(g);
    rig_run(g, 5 * RIG_S);
    CHECK_INT(e->answered, 1);
    CHECK_INT(h->invited, 1);
    CHECK_INT(h->started, 1);
    CHECK_INT(g->servers[0].got[RDVMSG_ANSWER], 1);
    CHECK(g->servers[0].got[RDVMSG_CALL] <= 4);
    rig_free(g);
}

TEST("a callee that is silent is not called more and more often")
{
    struct rig *g = rig_ready(1);
    g->peers[HOME].mute = true;
    (void)rig_dial(g);
    rig_run(g, 13 * RIG_S);
    CHECK(g->servers[0].got[RDVMSG_CALL] <= 14);
    CHECK_INT(g->peers[LAPTOP].failed, 1);
    rig_free(g);
}

TEST("how both NATs behave goes with the call, a hint comes back, and what worked is told")
{
    struct rig *g = rig_ready(2);
    struct rig_peer *e = &g->peers[LAPTOP], *h = &g->peers[HOME];
    const struct nat_print prints[2] = {{4, 3, 2, 1}, {2, 2, 1, 0}};
    g->servers[0].rtt_us = 400 * RIG_MS; /* so the other one is called through */
    presence_nat(e->presence, &prints[0]);
    presence_nat(h->presence, &prints[1]);
    rig_run(g, 120 * RIG_S); /* four refreshes */
    g->servers[1].hint = TECHNIQUE_PREDICTED;
    uint64_t call = rig_dial(g);
    rig_run(g, 1 * RIG_S);
    CHECK(nat_print_equal(&g->servers[1].prints[0], &prints[0]));
    CHECK(nat_print_equal(&g->servers[1].prints[1], &prints[1]));
    CHECK_INT(e->last_answered.hint, TECHNIQUE_PREDICTED);
    CHECK_INT(h->last_start.hint, TECHNIQUE_PREDICTED);
    presence_worked(e->presence, call, TECHNIQUE_TCP);
    presence_worked(e->presence, call + 1, TECHNIQUE_GUESSED); /* none of ours */
    presence_worked(h->presence, call, TECHNIQUE_GUESSED);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(g->servers[0].got[RDVMSG_WORKED], 0);
    CHECK_INT(g->servers[1].got[RDVMSG_WORKED], 1);
    CHECK_INT(g->servers[1].worked, TECHNIQUE_TCP);
    CHECK(g->servers[1].worked_call == call);
    CHECK_INT(memcmp(g->servers[1].worked_peer, h->id.key.b, RDVMSG_KEY), 0);
    /* Another network, and a server that says nonsense. */
    presence_nat(e->presence, &prints[1]);
    g->servers[1].hint = 200;
    (void)rig_dial(g);
    rig_run(g, 1 * RIG_S);
    CHECK(nat_print_equal(&g->servers[1].prints[0], &prints[1]));
    CHECK_INT(e->last_answered.hint, TECHNIQUE_UNKNOWN);
    rig_free(g);
}

TEST("both sides open their channel, and again, from wherever they are")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP], *h = &g->peers[HOME];
    (void)rig_dial(g);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(e->opened, 1);
    CHECK_INT(h->opened, 1);
    CHECK(addr_equal(&g->servers[0].opened[0], &e->addr));
    CHECK(addr_equal(&g->servers[0].opened[1], &h->addr));
    addr_set_port(&h->addr, 2002);
    rig_run(g, 21 * RIG_S);
    CHECK_INT(addr_port(&g->servers[0].opened[1]), 2002);
    addr_set_port(&h->addr, 2003);
    presence_moved(h->presence, 0, g->now_us);
    rig_run(g, 200 * RIG_MS);
    CHECK_INT(addr_port(&g->servers[0].opened[1]), 2003);
    CHECK_INT(e->closed + h->closed, 0);
    presence_channel_close(e->presence, &e->last_calling.channel);
    unsigned before = g->servers[0].got[RDVMSG_OPEN];
    rig_run(g, 100 * RIG_S);
    unsigned opens = g->servers[0].got[RDVMSG_OPEN] - before;
    CHECK(opens >= 5 && opens <= 7); /* one side's */
    rig_free(g);
}

TEST("a channel that the relay does not know any more is reported once")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP], *h = &g->peers[HOME];
    (void)rig_dial(g);
    rig_run(g, 1 * RIG_S);
    g->servers[0].channel = 500;
    rig_run(g, 60 * RIG_S);
    CHECK_INT(e->closed, 1);
    CHECK_INT(h->closed, 1);
    rig_free(g);
}

TEST("a relay that does not know where relay data is from is told at once")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP];
    const struct presence_way way = {.server = 0};
    uint8_t buf[RDVMSG_MAX];
    (void)rig_dial(g);
    rig_run(g, 1 * RIG_S);
    addr_set_port(&e->addr, 2002);
    struct rdvmsg m = {.type = RDVMSG_ERROR, .reason = RDV_UNKNOWN_CHANNEL, .number = 100};
    int n = rdvmsg_encode(&m, buf, sizeof buf);
    presence_input(e->presence, &way, buf, (size_t)n, g->now_us);
    rig_run(g, 100 * RIG_MS);
    CHECK_INT(addr_port(&g->servers[0].opened[0]), 2002);
    rig_free(g);
}

TEST("calls get through a network that loses, doubles and delays packets")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP], *h = &g->peers[HOME];
    g->loss = 20;
    g->twice = 20;
    g->jitter_us = 60 * RIG_MS;
    for (int i = 0; i < 40; i++) {
        (void)rig_dial(g);
        rig_run(g, 12500 * RIG_MS);
        presence_channel_close(e->presence, &e->last_calling.channel);
        presence_channel_close(h->presence, &h->last_invite.channel);
    }
    CHECK(e->answered >= 38);
    CHECK_INT(e->answered + e->failed, 40);
    CHECK(h->invited >= 38 && h->started >= 38 && e->calling >= 38);
    rig_free(g);
}

TEST("who is not allowed in is refused, and the callee hears nothing")
{
    struct rig *g = rig_new(2);
    struct rig_peer *e = &g->peers[LAPTOP];
    CHECK_INT(presence_allow(g->peers[HOME].presence, &g->peers[HOME].id.key, 1, false), 0);
    rig_run(g, 1 * RIG_S);
    (void)rig_dial(g);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(e->failed, 1);
    CHECK_INT(e->last_failed, RDV_NOT_ALLOWED);
    CHECK_INT(g->peers[HOME].invited, 0);
    CHECK_INT(g->servers[0].got[RDVMSG_CALL] + g->servers[1].got[RDVMSG_CALL], 2);
    rig_free(g);
}

TEST("a call that the callee declines fails at once")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP];
    g->peers[HOME].decline = true;
    (void)rig_dial(g);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(e->failed, 1);
    CHECK_INT(e->last_failed, RDV_DECLINED);
    CHECK_INT(g->peers[HOME].started, 0);
    rig_free(g);
}

TEST("a callee that never answers is given up, and its channel closed")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP];
    g->peers[HOME].mute = true;
    (void)rig_dial(g);
    rig_run(g, 13 * RIG_S);
    CHECK_INT(e->calling, 1);
    CHECK_INT(e->failed, 1);
    CHECK_INT(e->last_failed, RDV_OK);
    CHECK_INT(g->peers[HOME].invited, 1);
    unsigned before = e->sent;
    rig_run(g, 20 * RIG_S);
    CHECK(e->sent - before <= 1); /* a refresh */
    rig_free(g);
}

TEST("a call goes to the nearest server, and on to the one where the callee is")
{
    struct rig *g = rig_ready(3);
    struct rig_peer *e = &g->peers[LAPTOP];
    g->servers[0].rtt_us = 100 * RIG_MS;
    g->servers[2].rtt_us = 10 * RIG_MS;
    presence_network_changed(e->presence, g->now_us);
    rig_run(g, 1 * RIG_S);
    g->servers[2].leases[HOME].there = false;
    (void)rig_dial(g);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(e->answered, 1);
    CHECK_INT(e->last_answered.server, 1);
    CHECK_INT(g->servers[2].got[RDVMSG_CALL], 1);
    CHECK_INT(g->servers[0].got[RDVMSG_CALL], 0);
    rig_free(g);
}

TEST("each copy of a call is told, to which server it goes, until there is a channel")
{
    struct rig *g = rig_ready(2);
    struct rig_peer *e = &g->peers[LAPTOP];
    g->servers[0].dead = true;
    (void)rig_dial(g);
    rig_run(g, 1 * RIG_MS);
    CHECK_INT(e->called, 1);
    CHECK_INT(e->called_at, 0);
    rig_run(g, 5 * RIG_S);
    CHECK_INT(e->called, 5);
    CHECK_INT(e->called_at, 1);
    CHECK_INT(e->calling, 1);
    rig_free(g);
}

TEST("a call leaves a server that falls silent")
{
    struct rig *g = rig_ready(2);
    struct rig_peer *e = &g->peers[LAPTOP];
    g->servers[1].rtt_us = 200 * RIG_MS;
    presence_network_changed(e->presence, g->now_us);
    rig_run(g, 1 * RIG_S);
    g->servers[0].dead = true;
    uint64_t begin = g->now_us;
    (void)rig_dial(g);
    rig_run(g, 4 * RIG_S);
    CHECK_INT(e->answered, 1);
    CHECK_INT(e->last_answered.server, 1);
    CHECK(e->answered_us - begin < 2500 * RIG_MS);
    rig_free(g);
}

TEST("a call gets through a server that was restarted just before")
{
    struct rig *g = rig_ready(1);
    struct rig_peer *e = &g->peers[LAPTOP];
    rig_run(g, 2 * RIG_S);
    rig_restart(g, 0);
    presence_network_changed(g->peers[HOME].presence, g->now_us);
    rig_run(g, 200 * RIG_MS);
    (void)rig_dial(g);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(e->answered, 1);
    CHECK_INT(e->failed, 0);
    rig_free(g);
}

TEST("a call that was made before the login waits for it")
{
    struct rig *g = rig_new(1);
    CHECK_INT(presence_allow(g->peers[HOME].presence, NULL, 0, true), 0);
    presence_free(g->peers[LAPTOP].presence);
    g->peers[LAPTOP].presence = NULL;
    rig_run(g, 1 * RIG_S);
    rig_peer_new(g, LAPTOP);
    (void)rig_dial(g);
    rig_run(g, 1 * RIG_S);
    CHECK_INT(g->peers[LAPTOP].answered, 1);
    rig_free(g);
}
