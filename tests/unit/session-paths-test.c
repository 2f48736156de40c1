/* A session that moves: between the relay and a direct path, from dead ones, behind a NAT that
 * gives it another port. Not a byte may be lost. */
#include "session-rig.h"

#define MIB    (1u << 20)
#define RELAY  1
#define DIRECT 0

static struct session *connect_over(struct rig *r, uint32_t id)
{
    struct session *s = NULL;
    struct quic_path path = rig_path(&r->nodes[1], id);
    CHECK_INT(session_connect(r->nodes[0].endpoint, &r->nodes[1].id.key, &path, &s), 0);
    CHECK(rig_run(r, 5000, rig_both_up));
    /* So that transfers last. */
    for (int i = 0; i < RIG_PATHS; i++)
        r->rate[i] = 4 * MIB;
    return s;
}

static int move_to(struct rig *r, struct session *s, uint32_t id, bool at_once)
{
    struct quic_path path = rig_path(&r->nodes[1], id);
    return session_move(s, &path, at_once);
}

static uint32_t way_of(const struct session *s)
{
    struct session_stats stats;
    session_stat(s, &stats);
    return stats.quic.path.id;
}

static bool proven_0(struct rig *r)
{
    return r->nodes[0].proven > 0;
}

TEST("relay, direct and relay again in mid-transfer, with every byte intact")
{
    struct rig *r = rig_new();
    struct transfer t[2] = {{.size = 8 * MIB}, {.size = 8 * MIB}};
    struct session *s = connect_over(r, RELAY);
    rig_transfer(r, s, t);
    for (int i = 0; i < 6; i++) {
        rig_run(r, 300, NULL);
        uint32_t to = i % 2 ? RELAY : DIRECT;
        CHECK_INT(move_to(r, s, to, false), 0);
        r->nodes[0].proven = 0;
        CHECK(rig_run(r, 2000, proven_0));
        rig_run(r, 500, NULL);
        CHECK_INT(way_of(s), to);
        CHECK_INT(way_of(r->nodes[1].session), to);
    }
    CHECK(rig_run(r, 60000, rig_transferred));
    TRANSFER_CHECK(&t[0]);
    TRANSFER_CHECK(&t[1]);
    close(t[0].from);
    rig_free(r);
}

TEST("a path that has died is left at once, and nothing is lost")
{
    struct rig *r = rig_new();
    struct transfer t[2] = {{.size = 8 * MIB}, {.size = 8 * MIB}};
    struct session *s = connect_over(r, DIRECT);
    rig_transfer(r, s, t);
    rig_run(r, 200, NULL);
    r->dead[DIRECT] = true;
    rig_run(r, 3000, NULL); /* until it was noticed */
    uint64_t before = t[0].read;
    CHECK_INT(move_to(r, s, RELAY, true), 0);
    rig_run(r, 1500, NULL);
    CHECK(t[0].read > before);
    CHECK_INT(way_of(s), RELAY);
    CHECK_INT(way_of(r->nodes[1].session), RELAY);
    CHECK(rig_run(r, 60000, rig_transferred));
    TRANSFER_CHECK(&t[0]);
    TRANSFER_CHECK(&t[1]);
    close(t[0].from);
    rig_free(r);
}

static bool unproven_0(struct rig *r)
{
    return r->nodes[0].unproven > 0;
}

TEST("nobody moves while the library tells that a path has failed; later it is possible")
{
    struct rig *r = rig_new();
    struct session *s = connect_over(r, RELAY);
    r->nodes[0].flees = true;
    r->dead[DIRECT] = true;
    CHECK_INT(move_to(r, s, DIRECT, true), 0);
    CHECK(rig_run(r, 20000, unproven_0));
    CHECK_INT(r->nodes[0].fled, -EAGAIN);
    CHECK_INT(move_to(r, s, RELAY, true), 0);
    rig_run(r, 1500, NULL);
    CHECK_INT(way_of(r->nodes[1].session), RELAY);
    rig_free(r);
}

TEST("a dead path is left without at_once, too")
{
    struct rig *r = rig_new();
    struct transfer t[2] = {{.size = 4 * MIB}, {.size = 4 * MIB}};
    struct session *s = connect_over(r, DIRECT);
    rig_transfer(r, s, t);
    rig_run(r, 100, NULL);
    r->dead[DIRECT] = true;
    rig_run(r, 1000, NULL);
    CHECK_INT(move_to(r, s, RELAY, false), 0);
    CHECK(rig_run(r, 60000, rig_transferred));
    TRANSFER_CHECK(&t[0]);
    TRANSFER_CHECK(&t[1]);
    close(t[0].from);
    rig_free(r);
}

TEST("a new path that does not answer is not taken")
{
    struct rig *r = rig_new();
    struct transfer t[2] = {{.size = 4 * MIB}, {.size = 4 * MIB}};
    struct session *s = connect_over(r, RELAY);
    r->dead[DIRECT] = true;
    rig_transfer(r, s, t);
    rig_run(r, 100, NULL);
    CHECK_INT(move_to(r, s, DIRECT, false), 0);
    CHECK(rig_run(r, 60000, rig_transferred));
    rig_run(r, 20000, NULL);
    CHECK_INT(r->nodes[0].unproven, 1);
    CHECK_INT(way_of(s), RELAY);
    TRANSFER_CHECK(&t[0]);
    TRANSFER_CHECK(&t[1]);
    close(t[0].from);
    rig_free(r);
}

TEST("the client's NAT gives it another port, twice, and the transfer goes on")
{
    struct rig *r = rig_new();
    struct transfer t[2] = {{.size = 8 * MIB}, {.size = 8 * MIB}};
    struct session *s = connect_over(r, DIRECT);
    rig_transfer(r, s, t);
    for (uint16_t port = 5001; port < 5003; port++) {
        rig_run(r, 200, NULL);
        r->nodes[0].port = port;
        rig_run(r, 300, NULL);
        struct session_stats stats;
        session_stat(r->nodes[1].session, &stats);
        CHECK_INT(addr_port(&stats.quic.path.remote), port);
    }
    CHECK(rig_run(r, 60000, rig_transferred));
    TRANSFER_CHECK(&t[0]);
    TRANSFER_CHECK(&t[1]);
    close(t[0].from);
    rig_free(r);
}

TEST("the called side follows although nobody has anything to say")
{
    struct rig *r = rig_new();
    struct session *s = connect_over(r, RELAY);
    rig_run(r, 1000, NULL);
    CHECK_INT(move_to(r, s, DIRECT, false), 0);
    rig_run(r, 200, NULL);
    CHECK_INT(way_of(s), DIRECT);
    CHECK_INT(way_of(r->nodes[1].session), DIRECT);
    CHECK_INT(move_to(r, s, RELAY, true), 0);
    rig_run(r, 200, NULL);
    CHECK_INT(way_of(r->nodes[1].session), RELAY);
    rig_free(r);
}

TEST("who was connected to cannot move, and who is there need not")
{
    struct rig *r = rig_new();
    struct session *s = connect_over(r, DIRECT);
    CHECK_INT(move_to(r, r->nodes[1].session, RELAY, false), -EPERM);
    CHECK_INT(move_to(r, s, DIRECT, false), -EALREADY);
    struct session *early;
    struct quic_path path = rig_path(&r->nodes[1], DIRECT);
    CHECK_INT(session_connect(r->nodes[0].endpoint, &r->nodes[1].id.key, &path, &early), 0);
    CHECK_INT(move_to(r, early, RELAY, false), -EAGAIN);
    rig_free(r);
}

TEST("many moves in a row do not run out of connection IDs for long")
{
    struct rig *r = rig_new();
    struct session *s = connect_over(r, RELAY);
    unsigned moved = 0;
    for (int i = 0; i < 60; i++) {
        moved += move_to(r, s, i % 2 ? RELAY : DIRECT, false) == 0;
        rig_run(r, 500, NULL);
    }
    CHECK_INT(moved, 60);
    CHECK_INT(r->nodes[0].downs, 0);
    rig_free(r);
}

TEST("packets grow to what a path carries, and stay small where the host says so")
{
    struct rig *r = rig_new();
    struct transfer t[2] = {{.size = 4 * MIB}, {.size = 4 * MIB}};
    r->told_max[RELAY] = QUIC_PACKET_MIN;
    r->packet_max[DIRECT] = 1400;
    struct session *s = connect_over(r, RELAY);
    rig_transfer(r, s, t);
    rig_run(r, 500, NULL);
    CHECK_INT(r->largest[RELAY], QUIC_PACKET_MIN);
    CHECK_INT(move_to(r, s, DIRECT, false), 0);
    CHECK(rig_run(r, 60000, rig_transferred));
    struct session_stats stats;
    session_stat(s, &stats);
    CHECK(stats.quic.packet_size > QUIC_PACKET_MIN && stats.quic.packet_size <= 1400);
    TRANSFER_CHECK(&t[0]);
    TRANSFER_CHECK(&t[1]);
    close(t[0].from);
    rig_free(r);
}
