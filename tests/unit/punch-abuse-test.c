/* The check machine against a network and a peer that mean it ill: what is forged, replayed or
 * answered from elsewhere changes nothing, and nobody can make it send more than its bounds. */
#include "../sim/net.h"
#include "test.h"

#include <errno.h>

#define MS 1000u

/* A machine that waits for its peer, alone. */
static struct punch *alone(struct punch_config *c)
{
    c->mac = sim_mac;
    c->attempt = 5;
    c->start_us = 1000 * MS;
    c->seed = 99;
    memset(c->own_key, 'o', PUNCH_KEY);
    memset(c->peer_key, 'p', PUNCH_KEY);
    struct addr local;
    if (addr_parse("10.0.0.1:7", &local) == 0)
        (void)candidates_add(&c->local, CANDIDATE_HOST, CANDIDATE_UDP, &local);
    return punch_new(c);
}

static struct addr address(const char *text)
{
    struct addr a = {.len = 0};
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

static int probe_in(struct punch *p, enum probe_type type, const char *key, bool from_caller,
                    uint64_t attempt)
{
    uint8_t bytes[PROBE_SIZE];
    struct addr from = address("11.9.9.9:999");
    struct probe probe = {type, from_caller, attempt, 1, {0}};
    CHECK_INT(probe_encode(&probe, bytes, sizeof bytes), PROBE_SIZE);
    sim_mac((const uint8_t *)key, bytes, PROBE_SIGNED, bytes + PROBE_SIGNED);
    return punch_input(p, 0, &from, (struct str){(char *)bytes, sizeof bytes}, 1100 * MS);
}

TEST("a forged probe changes nothing and is not answered")
{
    struct punch_config c = {.caller = true};
    struct punch *p = alone(&c);
    struct punch_action a;
    CHECK_INT(probe_in(p, PROBE_PING, "xxxxxxxxxxxxxxxx", false, 5), -EACCES);
    CHECK_INT(probe_in(p, PROBE_PING, "pppppppppppppppp", true, 5),
              -EACCES); /* our own, sent back */
    CHECK_INT(probe_in(p, PROBE_PING, "oooooooooooooooo", true, 5), -EACCES);
    CHECK_INT(probe_in(p, PROBE_PING, "oooooooooooooooo", false, 6), -ENOENT);
    CHECK_INT(probe_in(p, PROBE_PONG, "oooooooooooooooo", false, 5), 0); /* nobody has asked */
    CHECK(!punch_poll(p, 1000 * MS, &a));
    CHECK(!punch_best(p));
    CHECK_INT(probe_in(p, PROBE_PING, "oooooooooooooooo", false, 5), 0);
    CHECK(punch_poll(p, 1100 * MS, &a) && a.type == PUNCH_SEND);
    punch_free(p);
}

/* All that a machine sends to an address in the time that it has. */
static unsigned sent_to(struct punch *p, struct addr victim)
{
    unsigned sent = 0;
    struct punch_action a;
    for (uint64_t now_us = 900 * MS; now_us < 6000 * MS; now_us += 500)
        while (punch_poll(p, now_us, &a))
            sent += a.type == PUNCH_SEND && candidate_same_ip(&a.to, &victim);
    CHECK_INT(a.type, PUNCH_FAILED);
    return sent;
}

TEST("a stranger's address that a peer lists gets ten probes, and forty with all its ports")
{
    struct punch_config c = {.caller = true, .may_guess = true, .again = true};
    struct addr victim = address("11.66.6.6:1000");
    (void)candidates_add(&c.remote, CANDIDATE_HOST, CANDIDATE_UDP, &victim);
    struct punch *p = alone(&c);
    CHECK_INT(sent_to(p, victim), PUNCH_PROBES_MAX);
    punch_free(p);
    for (uint16_t port = 1001; port < 1040; port++) {
        addr_set_port(&victim, port);
        (void)candidates_add(&c.remote, CANDIDATE_HOST, CANDIDATE_UDP, &victim);
    }
    p = alone(&c);
    CHECK_INT(sent_to(p, victim), PUNCH_PROBES_IP);
    punch_free(p);
}

TEST("nobody is guessed at whom no server has seen, or without consent")
{
    struct punch_config c = {.caller = true, .may_guess = true, .again = true};
    struct addr victim = address("11.66.6.6:1000");
    c.own = (struct nat){NAT_MAPPING_EIM, NAT_FILTERING_APDF, NAT_ALLOCATION_KEEP, 0, 0};
    c.peer = (struct nat){NAT_MAPPING_APDM, NAT_FILTERING_APDF, NAT_ALLOCATION_RANDOM, 0, 0};
    (void)candidates_add(&c.remote, CANDIDATE_REFLEXIVE, CANDIDATE_UDP, &victim);
    struct punch *p = alone(&c);
    CHECK_INT(sent_to(p, victim), PUNCH_PROBES_MAX);
    punch_free(p);
    c.peer_seen = address("11.7.7.7:77");
    p = alone(&c);
    CHECK_INT(sent_to(p, victim), PUNCH_PROBES_MAX);
    punch_free(p);
    c.may_guess = false;
    p = alone(&c);
    CHECK_INT(sent_to(p, c.peer_seen), 0);
    punch_free(p);
}

TEST("a peer that pings from everywhere gets answers, and few questions")
{
    struct punch_config c = {.caller = true};
    struct punch *p = alone(&c);
    struct punch_action a;
    unsigned sent = 0, answered = 0;
    CHECK(!punch_poll(p, 1000 * MS, &a));
    for (uint16_t port = 1; port < 1000; port++) {
        uint8_t bytes[PROBE_SIZE];
        struct addr from = address("11.66.6.6:1");
        struct probe probe = {PROBE_PING, false, 5, port, {0}};
        addr_set_port(&from, port);
        CHECK_INT(probe_encode(&probe, bytes, sizeof bytes), PROBE_SIZE);
        sim_mac(c.own_key, bytes, PROBE_SIGNED, bytes + PROBE_SIGNED);
        CHECK_INT(
            punch_input(p, 0, &from, (struct str){(char *)bytes, sizeof bytes}, (1000 + port) * MS),
            0);
        while (punch_poll(p, (1000 + port) * MS, &a)) {
            answered += a.bytes[2] == PROBE_PONG;
            sent += a.bytes[2] == PROBE_PING;
        }
    }
    CHECK_INT(answered, 999);
    CHECK(sent <= PUNCH_PROBES_IP); /* it need not be there itself */
    punch_free(p);
}
/* What the peer would answer to this probe of ours. */
static int pong_in(struct punch *p, const struct punch_config *c, const struct punch_action *a,
                   unsigned socket, const struct addr *from, uint64_t now_us)
{
    uint8_t bytes[PROBE_SIZE];
    struct probe probe;
    CHECK_INT(probe_decode(&probe, a->bytes, PROBE_SIZE), 0);
    probe.type = PROBE_PONG;
    probe.from_caller = !c->caller;
    CHECK_INT(probe_encode(&probe, bytes, sizeof bytes), PROBE_SIZE);
    sim_mac(c->own_key, bytes, PROBE_SIGNED, bytes + PROBE_SIGNED);
    return punch_input(p, socket, from, (struct str){(char *)bytes, sizeof bytes}, now_us);
}

TEST("an answer from elsewhere, to another socket or to what was never asked proves nothing")
{
    struct punch_config c = {.caller = true};
    struct addr there = address("11.1.1.1:11"), elsewhere = address("11.1.1.1:12");
    (void)candidates_add(&c.remote, CANDIDATE_HOST, CANDIDATE_UDP, &there);
    struct punch *p = alone(&c);
    struct punch_action a;
    CHECK(punch_poll(p, 1000 * MS, &a) && a.type == PUNCH_SEND);
    CHECK_INT(pong_in(p, &c, &a, 0, &elsewhere, 1010 * MS), 0);
    CHECK_INT(pong_in(p, &c, &a, 3, &there, 1010 * MS), 0);
    CHECK(!punch_best(p));
    struct punch_action other = a;
    other.bytes[12] ^= 1; /* a sequence that was not used */
    CHECK_INT(pong_in(p, &c, &other, 0, &there, 1010 * MS), 0);
    CHECK(!punch_best(p));
    CHECK_INT(pong_in(p, &c, &a, 0, &there, 1040 * MS), 0);
    CHECK(punch_best(p) && addr_equal(&punch_best(p)->remote, &there));
    CHECK_INT(punch_best(p)->rtt_us, 40 * MS);
    punch_free(p);
}

TEST("what was recorded in one attempt is nothing in the next")
{
    struct punch_config first = {.caller = true}, second;
    struct addr there = address("11.1.1.1:11");
    (void)candidates_add(&first.remote, CANDIDATE_HOST, CANDIDATE_UDP, &there);
    struct punch *p = alone(&first);
    struct punch_action a;
    CHECK(punch_poll(p, 1000 * MS, &a) && a.type == PUNCH_SEND);
    second = first;
    second.attempt++;
    memset(second.own_key, 'q', PUNCH_KEY);
    struct punch *q = punch_new(&second);
    struct punch_action b;
    CHECK(punch_poll(q, 1000 * MS, &b) && b.type == PUNCH_SEND);
    CHECK_INT(pong_in(q, &first, &a, 0, &there, 1040 * MS), -ENOENT);
    struct punch_action renumbered = b; /* the new number, under the old secret */
    CHECK_INT(pong_in(q, &first, &renumbered, 0, &there, 1040 * MS), -EACCES);
    CHECK(!punch_best(q));
    CHECK_INT(pong_in(p, &first, &a, 0, &there, 1040 * MS), 0);
    CHECK(punch_best(p));
    punch_free(p);
    punch_free(q);
}

TEST("a peer that answers everything, and asks from everywhere, is not sent more than its share")
{
    for (unsigned kind = 0; kind < 4; kind++) {
        struct punch_config c = {.caller = true, .may_guess = true, .again = kind & 1};
        struct addr at = address("11.7.0.1:1000");
        c.peer_seen = address("11.8.8.8:1000");
        c.own = (struct nat){NAT_MAPPING_EIM, NAT_FILTERING_APDF, NAT_ALLOCATION_KEEP, 0, 0};
        c.peer = (struct nat){NAT_MAPPING_APDM, NAT_FILTERING_APDF,
                              kind & 2 ? NAT_ALLOCATION_SEQUENCE : NAT_ALLOCATION_RANDOM, 1, 0};
        for (uint16_t i = 0; i < CANDIDATES_MAX; i++) {
            addr_set_port(&at, (uint16_t)(1000 + i));
            (void)candidates_add(&c.remote, CANDIDATE_HOST, CANDIDATE_UDP, &at);
        }
        struct punch *p = alone(&c);
        struct punch_action a;
        unsigned pings = 0, pongs = 0, asked = 0;
        for (uint64_t now_us = 1000 * MS; now_us < 6000 * MS; now_us += 500) {
            while (punch_poll(p, now_us, &a)) {
                struct addr from = a.to;
                pings += a.type == PUNCH_SEND && a.bytes[2] == PROBE_PING;
                pongs += a.type == PUNCH_SEND && a.bytes[2] == PROBE_PONG;
                if (a.type != PUNCH_SEND || a.bytes[2] != PROBE_PING)
                    continue;
                addr_set_port(&from, (uint16_t)(addr_port(&a.to) + 1));
                (void)!pong_in(p, &c, &a, 0, &from, now_us);
            }
            if (now_us % (5 * MS) == 0 && asked < 800) {
                uint8_t bytes[PROBE_SIZE];
                struct probe probe = {PROBE_PING, false, 5, ++asked, {0}};
                addr_set_port(&at, (uint16_t)(2000 + asked));
                CHECK_INT(probe_encode(&probe, bytes, sizeof bytes), PROBE_SIZE);
                sim_mac(c.own_key, bytes, PROBE_SIGNED, bytes + PROBE_SIGNED);
                CHECK_INT(punch_input(p, 0, &at, (struct str){(char *)bytes, sizeof bytes}, now_us),
                          0);
            }
        }
        CHECK(pongs <= asked);
        CHECK(pings <= PUNCH_PROBES_IP + GUESS_PROBES_MAX + 2 * PUNCH_PROBES_MAX);
        CHECK(!punch_best(p));
        punch_free(p);
    }
}
