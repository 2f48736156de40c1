/* The endpoint below sessions: first packets, versions, Retry, resets, too many at once, and the
 * names of connections. Packets are caught and looked at. */
#include <stdlib.h>

#include "quic/quic.h"
#include "test.h"

#define CAUGHT 4096

struct packet {
    struct quic_path path;
    size_t n;
    uint8_t bytes[QUIC_PACKET_MAX];
};

/* One endpoint and what it has sent. */
struct end {
    struct quic *quic;
    struct identity id;
    uint64_t now_ns, timer_ns;
    struct packet *sent;
    size_t count;
    unsigned accepted, confirmed, closed;
    struct quic_conn *conn;
    char reason[128];
};

static uint64_t on_now(void *ctx)
{
    return ((struct end *)ctx)->now_ns;
}

static bool on_send(void *ctx, const struct quic_path *path, const void *bytes, size_t n,
                    size_t segment)
{
    struct end *e = ctx;
    for (struct str left = {bytes, n}; left.n > 0 && e->count < CAUGHT;
         left = str_skip(left, segment)) {
        struct packet *p = &e->sent[e->count++];
        p->path = *path;
        p->n = left.n < segment ? left.n : segment;
        memcpy(p->bytes, left.p, p->n);
    }
    return true;
}

static void on_timer(void *ctx, uint64_t at_ns)
{
    ((struct end *)ctx)->timer_ns = at_ns;
}

static bool on_may_connect(void *ctx, const struct key *peer)
{
    (void)ctx, (void)peer;
    return true;
}

static void on_accepted(void *ctx, struct quic_conn *c)
{
    struct end *e = ctx;
    e->accepted++;
    e->conn = c;
}

static void on_confirmed(void *ctx, struct quic_conn *c)
{
    struct end *e = ctx;
    e->confirmed++;
    e->conn = c;
}

static void on_closed(void *ctx, struct quic_conn *c, const char *reason)
{
    struct end *e = ctx;
    (void)c;
    e->closed++;
    e->conn = NULL;
    (void)snprintf(e->reason, sizeof e->reason, "%s", reason);
}

static void on_nothing(void *ctx, struct quic_conn *c)
{
    (void)ctx, (void)c;
}

static void on_path(void *ctx, struct quic_conn *c, const struct quic_path *path, bool ok)
{
    (void)ctx, (void)c, (void)path, (void)ok;
}

static struct quic_data on_next(void *ctx, struct quic_conn *c)
{
    (void)ctx, (void)c;
    return (struct quic_data){.stream = -1};
}

static const struct quic_hooks hooks = {
    .now = on_now,
    .send = on_send,
    .timer = on_timer,
    .may_connect = on_may_connect,
    .accepted = on_accepted,
    .confirmed = on_confirmed,
    .closed = on_closed,
    .path_proven = on_path,
    .streams = on_nothing,
    .next = on_next,
    .read = on_nothing,
};

static struct end *end_new(void)
{
    struct end *e = calloc(1, sizeof *e);
    CHECK_INT(keys_init(), 0);
    e->now_ns = 1000000000000;
    e->timer_ns = UINT64_MAX;
    e->sent = calloc(CAUGHT, sizeof *e->sent);
    identity_make(&e->id);
    CHECK_INT(quic_new(&hooks, e, &e->id, &e->quic), 0);
    return e;
}

static void end_free(struct end *e)
{
    quic_free(e->quic);
    free(e->sent);
    free(e);
}

static struct quic_path path_of(unsigned who, unsigned port)
{
    uint8_t ip[4] = {192, 0, (uint8_t)(who >> 8), (uint8_t)who};
    return (struct quic_path){0, addr_make(AF_INET, ip, (uint16_t)port)};
}

/* What one has sent comes to the other, from this path; nothing is left to deliver after it. */
static void deliver(struct end *from, struct end *to, const struct quic_path *as)
{
    size_t count = from->count;
    struct packet *packets = malloc((count + 1) * sizeof *packets);
    memcpy(packets, from->sent, count * sizeof *packets);
    from->count = 0;
    for (size_t i = 0; i < count; i++)
        quic_input(to->quic, as, packets[i].bytes, packets[i].n, packets[i].n);
    free(packets);
}

static struct quic_conn *connect_to(struct end *client, const struct end *server)
{
    struct quic_conn *c = NULL;
    struct quic_path path = path_of(1, 1);
    CHECK_INT(quic_connect(client->quic, &server->id.key, &path, NULL, &c), 0);
    quic_expire(client->quic);
    return c;
}

static void shake(struct end *client, struct end *server, const struct quic_path *as)
{
    struct quic_path back = path_of(1, 1);
    for (int i = 0; i < 6; i++) {
        deliver(client, server, as);
        deliver(server, client, &back);
    }
}

static struct quic_counters counters_of(const struct end *e)
{
    struct quic_counters counters;
    quic_count(e->quic, &counters);
    return counters;
}

TEST("a handshake proves both keys and ends on both sides")
{
    struct end *client = end_new(), *server = end_new();
    struct quic_path as = path_of(2, 2);
    struct quic_conn *c = connect_to(client, server);
    shake(client, server, &as);
    CHECK_INT(client->confirmed, 1);
    CHECK_INT(server->accepted, 1);
    CHECK_INT(server->confirmed, 1);
    CHECK(server->conn && key_equal(quic_peer(server->conn), &client->id.key));
    CHECK(quic_is_client(c));
    CHECK_INT(counters_of(server).half_open, 0);
    quic_close(c, 0, "Done");
    CHECK_INT(client->closed, 1);
    deliver(client, server, &as);
    CHECK_TEXT(server->reason, "peer closed: Done");
    end_free(client);
    end_free(server);
}

TEST("each packet is QUIC by its first two bytes, also behind a grease bit")
{
    struct end *client = end_new(), *server = end_new();
    struct quic_path as = path_of(2, 2), back = path_of(1, 1);
    connect_to(client, server);
    for (int i = 0; i < 8; i++) {
        for (size_t k = 0; k < client->count; k++)
            CHECK(quic_is_quic(client->sent[k].bytes, client->sent[k].n));
        deliver(client, server, &as);
        for (size_t k = 0; k < server->count; k++)
            CHECK(quic_is_quic(server->sent[k].bytes, server->sent[k].n));
        deliver(server, client, &back);
    }
    CHECK(!quic_is_quic("\x05\x01", 2));
    CHECK(!quic_is_quic("\x06\x00", 2));
    CHECK(!quic_is_quic("\x00\x01\x00\x00\x21\x12\xa4\x42", 8));
    CHECK(!quic_is_quic("\xff", 1));
    end_free(client);
    end_free(server);
}

TEST("another version is answered with ours, in fewer bytes")
{
    struct end *client = end_new(), *server = end_new();
    struct quic_path as = path_of(2, 2);
    connect_to(client, server);
    memcpy(client->sent[0].bytes + 1, "\x1a\x2a\x3a\x4a", 4);
    deliver(client, server, &as);
    CHECK_INT(counters_of(server).versions, 1);
    CHECK_INT(server->count, 1);
    CHECK(server->count == 1 && server->sent[0].n < 100);
    /* A short packet gets no answer. */
    connect_to(client, server);
    memcpy(client->sent[0].bytes + 1, "\x1a\x2a\x3a\x4a", 4);
    client->sent[0].n = 300;
    server->count = 0;
    deliver(client, server, &as);
    CHECK_INT(server->count, 0);
    CHECK_INT(counters_of(server).garbage, 1);
    end_free(client);
    end_free(server);
}

/* First packets from `count` addresses, none of which goes on. */
static void flood(struct end *client, struct end *server, unsigned first, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct quic_path as = path_of(1000 + first + i, 7);
        struct quic_conn *c = connect_to(client, server);
        deliver(client, server, &as);
        quic_close(c, 0, "");
        client->count = 0;
    }
}

TEST("many begun handshakes: addresses are proven first, and who proves its own gets in")
{
    struct end *client = end_new(), *server = end_new();
    flood(client, server, 0, 200);
    CHECK_INT(counters_of(server).half_open, QUIC_RETRY_FROM);
    CHECK_INT(counters_of(server).retries, 200 - QUIC_RETRY_FROM);
    server->count = 0;
    struct end *honest = end_new();
    struct quic_path as = path_of(2, 2);
    connect_to(honest, server);
    shake(honest, server, &as);
    CHECK_INT(honest->confirmed, 1);
    CHECK_INT(server->confirmed, 1);
    /* What was begun is forgotten in time. */
    server->now_ns += 11000000000ull;
    quic_expire(server->quic);
    CHECK_INT(counters_of(server).half_open, 0);
    CHECK_INT(counters_of(server).connections, 1);
    end_free(client);
    end_free(honest);
    end_free(server);
}

TEST("one address begins only so many handshakes")
{
    struct end *client = end_new(), *server = end_new();
    struct quic_path as = path_of(3, 3);
    for (int i = 0; i < QUIC_HALF_OPEN_SOURCE + 4; i++) {
        struct quic_conn *c = connect_to(client, server);
        addr_set_port(&as.remote, (uint16_t)(100 + i));
        deliver(client, server, &as);
        quic_close(c, 0, "");
        client->count = 0;
    }
    CHECK_INT(counters_of(server).half_open, QUIC_HALF_OPEN_SOURCE);
    CHECK_INT(counters_of(server).half_open_full, 4);
    end_free(client);
    end_free(server);
}

TEST("a packet for a connection that is forgotten gets a reset that is smaller")
{
    struct end *client = end_new(), *server = end_new();
    struct quic_path as = path_of(2, 2), back = path_of(1, 1);
    struct quic_conn *c = connect_to(client, server);
    shake(client, server, &as);
    CHECK_INT(client->confirmed, 1);
    quic_free(server->quic);
    server->count = 0;
    CHECK_INT(quic_new(&hooks, server, &server->id, &server->quic), 0);
    /* A ping is the next thing that it says. */
    quic_keep_alive(c, 1);
    client->now_ns += 100000000;
    quic_expire(client->quic);
    CHECK(client->count > 0);
    size_t size = client->count > 0 ? client->sent[0].n : 0;
    deliver(client, server, &as);
    CHECK_INT(counters_of(server).resets, 1);
    CHECK(server->count > 0 && server->sent[0].n < size);
    deliver(server, client, &back);
    CHECK_INT(client->closed, 1);
    CHECK_TEXT(client->reason, "the peer has forgotten this session");
    end_free(client);
    end_free(server);
}

TEST("resets have an allowance for each second")
{
    struct end *server = end_new();
    struct quic_path as = path_of(2, 2);
    uint8_t bytes[100] = {0x40, 0x80};
    for (int i = 0; i < 1000; i++)
        quic_input(server->quic, &as, bytes, sizeof bytes, sizeof bytes);
    CHECK_INT(server->count, 200);
    server->now_ns += 1000000000;
    quic_input(server->quic, &as, bytes, sizeof bytes, sizeof bytes);
    CHECK_INT(server->count, 201);
    end_free(server);
}

TEST("a peer that does not hear the goodbye hears it again, but not for each packet")
{
    struct end *client = end_new(), *server = end_new();
    struct quic_path as = path_of(2, 2);
    connect_to(client, server);
    shake(client, server, &as);
    quic_keep_alive(client->conn, 1);
    client->now_ns += 100000000;
    quic_expire(client->quic);
    client->count = client->count > 0;
    CHECK_INT(client->count, 1);
    struct packet ping = client->sent[0];
    quic_close(server->conn, 0, "Done");
    server->count = 0;
    for (int i = 0; i < 16; i++)
        quic_input(server->quic, &as, ping.bytes, ping.n, ping.n);
    CHECK_INT(server->count, 5);
    end_free(client);
    end_free(server);
}

TEST("an address that is neither IPv4 nor IPv6 is nobody")
{
    struct end *server = end_new();
    struct quic_path as = {0};
    uint8_t bytes[100] = {0x40, 0x80};
    quic_input(server->quic, &as, bytes, sizeof bytes, sizeof bytes);
    as = path_of(1, 1);
    quic_input(server->quic, &as, bytes, sizeof bytes, 0);
    CHECK_INT(server->count, 0);
    end_free(server);
}
