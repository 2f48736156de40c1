/* Bytes through streams of a session: loss, slow readers, many streams, enemies. */
#include "session-rig.h"

#define MIB (1u << 20)

static uint64_t held_of(struct rig *r)
{
    struct endpoint_stats a, b;
    endpoint_stat(r->nodes[0].endpoint, &a);
    endpoint_stat(r->nodes[1].endpoint, &b);
    return a.held + a.unsent + b.held + b.unsent;
}

static void check_all_given_back(struct rig *r)
{
    struct endpoint_stats stats;
    rig_run(r, 2000, NULL);
    CHECK_INT(held_of(r), 0);
    for (int i = 0; i < 2; i++) {
        endpoint_stat(r->nodes[i].endpoint, &stats);
        CHECK_INT(stats.streams, 0);
    }
}

TEST("much goes both ways at once, and every byte is right")
{
    struct rig *r = rig_new();
    struct transfer t[2] = {{.size = 16 * MIB}, {.size = 16 * MIB}};
    r->delay_ns = RIG_MS;
    rig_transfer(r, rig_connect(r), t);
    CHECK(rig_run(r, 60000, rig_transferred));
    TRANSFER_CHECK(&t[0]);
    TRANSFER_CHECK(&t[1]);
    check_all_given_back(r);
    close(t[0].from);
    rig_free(r);
}

TEST("loss and packets out of order change nothing but the time")
{
    struct rig *r = rig_new();
    struct transfer t[2] = {{.size = 2 * MIB}, {.size = 2 * MIB}};
    r->loss_percent = 5;
    r->jitter_ns = 4 * RIG_MS;
    rig_transfer(r, rig_connect(r), t);
    CHECK(rig_run(r, 120000, rig_transferred));
    TRANSFER_CHECK(&t[0]);
    TRANSFER_CHECK(&t[1]);
    CHECK(r->lost > 0);
    close(t[0].from);
    rig_free(r);
}

TEST("a reader that is slow stops the writer, and memory stays bounded")
{
    struct rig *r = rig_new();
    struct transfer t[2] = {{.size = 16 * MIB, .paused = true}, {.size = 1}};
    rig_transfer(r, rig_connect(r), t);
    rig_run(r, 10000, NULL);
    /* The stream's window, and what sockets and one turn of the writer hold. */
    CHECK(t[0].written < 2 * MIB);
    CHECK(held_of(r) < MIB);
    t[0].paused = false;
    CHECK(rig_run(r, 60000, rig_transferred));
    TRANSFER_CHECK(&t[0]);
    check_all_given_back(r);
    close(t[0].from);
    rig_free(r);
}

struct many {
    size_t count;
    struct transfer *t;
    size_t served;
};

static void serve_many(struct rig_node *n, struct session_stream *st, struct str service)
{
    struct many *m = n->rig->user;
    rig_take(n, st, service);
    m->t[m->served++].to = n->peer_fd;
    n->peer_fd = -EBADF;
}

static void many_programs(struct rig *r)
{
    struct many *m = r->user;
    for (size_t i = 0; i < m->count; i++) {
        transfer_write(&m->t[i]);
        transfer_read(&m->t[i]);
    }
}

static void many_begin(struct rig *r, struct session *s, struct many *m, uint64_t size)
{
    m->t = calloc(m->count, sizeof *m->t);
    r->user = m;
    r->nodes[1].serve = serve_many;
    for (size_t i = 0; i < m->count; i++) {
        m->t[i] = (struct transfer){.from = rig_dial(s, "web"), .to = -EBADF, .size = size};
        if (m->t[i].from < 0)
            test_fail(__FILE__, __LINE__, "a socket", "none", "one");
        /* In the order in which they arrive they are served. */
    }
    r->each = many_programs;
}

static void many_end(struct many *m)
{
    for (size_t i = 0; i < m->count; i++) {
        fd_close(m->t[i].from);
        fd_close(m->t[i].to);
    }
    free(m->t);
}

TEST("a hundred readers that never read do not stop another stream")
{
    struct rig *r = rig_new();
    struct many m = {.count = 101};
    struct session *s = rig_connect(r);
    r->delay_ns = RIG_MS;
    many_begin(r, s, &m, MIB / 4);
    for (size_t i = 0; i < 100; i++)
        m.t[i].paused = true;
    rig_run(r, 5000, NULL);
    CHECK_INT(m.served, 101);
    CHECK_INT(m.t[100].read, MIB / 4);
    CHECK(m.t[100].ended);
    CHECK(held_of(r) <= 101 * (128u << 10));
    for (size_t i = 0; i < 100; i++)
        m.t[i].paused = false;
    rig_run(r, 20000, NULL);
    uint64_t sum = 0;
    for (size_t i = 0; i < m.count; i++)
        sum += m.t[i].read - m.t[i].wrong;
    CHECK_INT(sum, 101 * (MIB / 4));
    many_end(&m);
    rig_free(r);
}

TEST("streams share the connection: none waits for all of another")
{
    struct rig *r = rig_new();
    struct many m = {.count = 8};
    struct session *s = rig_connect(r);
    r->rate[0] = 4 * MIB;
    many_begin(r, s, &m, 4 * MIB);
    rig_run(r, 4000, NULL);
    uint64_t least = UINT64_MAX, most = 0;
    for (size_t i = 0; i < m.count; i++) {
        least = m.t[i].read < least ? m.t[i].read : least;
        most = m.t[i].read > most ? m.t[i].read : most;
    }
    CHECK(least > MIB / 2);
    CHECK(most < 2 * least);
    many_end(&m);
    rig_free(r);
}

TEST("idle streams hold no bytes, and thousands of them end in order")
{
    struct rig *r = rig_new();
    struct many m = {.count = 200};
    struct session *s = rig_connect(r);
    r->delay_ns = RIG_MS;
    many_begin(r, s, &m, 1000);
    rig_run(r, 3000, NULL);
    CHECK_INT(m.served, 200);
    CHECK_INT(held_of(r), 0);
    for (size_t i = 0; i < m.count; i++) {
        CHECK(m.t[i].ended);
        m.t[i].to = fd_close(m.t[i].to);
    }
    rig_run(r, 1000, NULL);
    struct session_stats stats;
    session_stat(s, &stats);
    CHECK_INT(stats.streams, 0);
    CHECK_INT(stats.streams_total, 200);
    many_end(&m);
    rig_free(r);
}

/* Streams without programs: the same two sockets' ends are duplicated for all of them. */
static void serve_shared(struct rig_node *n, struct session_stream *st, struct str service)
{
    int *shared = n->rig->user;
    (void)service;
    session_take(st, fcntl(*shared, F_DUPFD_CLOEXEC, 0));
}

TEST("ten thousand streams of one session, and no more than the limit at once")
{
    struct rig *r = rig_new();
    struct session *s = rig_connect(r);
    int a[2], b[2], bad = 0;
    struct endpoint_stats stats;
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
    r->user = &b[0];
    r->nodes[1].serve = serve_shared;
    r->delay_ns = RIG_MS;
    for (int i = 0; i < QUIC_STREAMS_MAX + SESSION_WAITING_MAX; i++) {
        int fd = fcntl(a[0], F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            bad = i;
            break;
        }
        if (session_dial(s, STR("web"), fd, NULL) < 0)
            bad = -1;
        if (i % 64 == 0)
            rig_run(r, 1, NULL);
    }
    rig_run(r, 3000, NULL);
    endpoint_stat(r->nodes[1].endpoint, &stats);
    /* Each takes two descriptors here; where fewer are allowed there are fewer. */
    if (bad == 0) {
        CHECK_INT(stats.streams, QUIC_STREAMS_MAX);
        CHECK_INT(session_dial(s, STR("web"), fcntl(a[0], F_DUPFD_CLOEXEC, 0), NULL), -ENOBUFS);
    }
    CHECK(bad >= 0);
    CHECK_INT(held_of(r), 0);
    session_close(s, "Test");
    rig_run(r, 1000, NULL);
    CHECK_INT(r->nodes[0].answers > 0, 1);
    endpoint_stat(r->nodes[1].endpoint, &stats);
    CHECK_INT(stats.streams, 0);
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
    rig_free(r);
}

TEST("packets that are nothing, cut or changed harm nobody")
{
    struct rig *r = rig_new();
    struct transfer t[2] = {{.size = MIB}, {.size = MIB}};
    struct session *s = rig_connect(r);
    rig_transfer(r, s, t);
    for (int i = 0; i < 3000; i++) {
        uint8_t bytes[1500];
        size_t n = 1 + rig_random(r, sizeof bytes - 1);
        for (size_t k = 0; k < n; k++)
            bytes[k] = (uint8_t)rig_random(r, 256);
        struct quic_path from = rig_path(&r->nodes[0], i % 2);
        /* A packet under way, changed or cut: a copy comes before it. */
        if (i % 3 == 0 && r->flight_count > 0) {
            const struct flight *f = r->flights[rig_random(r, (unsigned)r->flight_count)];
            n = f->n;
            memcpy(bytes, f->bytes, n);
            if (i % 2 == 0)
                bytes[rig_random(r, (unsigned)n)] ^= 1u << rig_random(r, 8);
            else
                n = 1 + rig_random(r, (unsigned)n);
        }
        endpoint_input(r->nodes[i % 2].endpoint, &from, bytes, n, n);
        rig_run(r, 1, NULL);
    }
    CHECK(rig_run(r, 60000, rig_transferred));
    TRANSFER_CHECK(&t[0]);
    TRANSFER_CHECK(&t[1]);
    CHECK_INT(r->nodes[0].downs + r->nodes[1].downs, 0);
    close(t[0].from);
    rig_free(r);
}

TEST("a way out that is full keeps the packets until it has room")
{
    struct rig *r = rig_new();
    struct transfer t[2] = {{.size = MIB}, {.size = MIB}};
    rig_transfer(r, rig_connect(r), t);
    for (int i = 0; i < 50; i++) {
        r->nodes[0].blocked = i % 2;
        rig_run(r, 7, NULL);
        if (i % 2)
            continue;
        endpoint_resume(r->nodes[0].endpoint, 0);
    }
    r->nodes[0].blocked = false;
    endpoint_resume(r->nodes[0].endpoint, 0);
    CHECK(rig_run(r, 60000, rig_transferred));
    TRANSFER_CHECK(&t[0]);
    TRANSFER_CHECK(&t[1]);
    CHECK_INT(r->lost, 0);
    close(t[0].from);
    rig_free(r);
}
