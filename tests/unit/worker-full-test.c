/* One worker when a queue has no room, goes away, or when what is served changes. */
#include "worker-rig.h"

#define ASK_A "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"

/* An application whose queue is full after a few connections, and another one. */
struct tight {
    struct rig rig;
    struct queue *a, *b;
    uint64_t fit; /* connections that the queue took */
};

static void tight_open(struct tight *t, uint32_t flags)
{
    int small = 1;
    rig_open(&t->rig, patient);
    t->a = rig_queue(1, flags);
    t->b = rig_queue(2, 0);
    t->fit = 0;
    CHECK_INT(setsockopt(t->a->write_fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    struct served s[] = {{"http://a.test/", 1, t->a}, {"http://b.test/", 2, t->b}};
    rig_publish(&t->rig, true, s, 2);
}

static void tight_close(struct tight *t, int *clients, size_t count)
{
    for (size_t i = 0; i < count; i++)
        (void)fd_close(clients[i]);
    rig_close(&t->rig);
    queue_unref(t->a);
    queue_unref(t->b);
}

/* Clients of the full queue, each taken up before the next one comes. */
static void tight_fill(struct tight *t, int *clients, size_t count)
{
    struct board *b = t->rig.board;
    for (size_t i = 0; i < count; i++) {
        uint64_t before = board_get(&b->delivered[0]) + board_get(&b->waiting);
        clients[i] = client_ask(&t->rig.at, ASK_A);
        EVENTUALLY(board_get(&b->delivered[0]) + board_get(&b->waiting) == before + 1);
    }
    t->fit = board_get(&b->delivered[0]);
    CHECK(t->fit > 0 && t->fit < count);
}

TEST("a full queue keeps those who wait in order, and they go on when there is room")
{
    enum { CLIENTS = 40 };
    struct tight t;
    int clients[CLIENTS];
    tight_open(&t, 0);
    tight_fill(&t, clients, CLIENTS);
    for (size_t i = 0; i < CLIENTS; i++)
        passed_expect(t.a, clients[i], STR(ASK_A));
    EVENTUALLY(board_get(&t.rig.board->waiting) == 0);
    CHECK_INT(board_get(&t.rig.board->delivered[0]), CLIENTS);
    CHECK_INT(atomic_load(&t.a->waiting), 0);
    tight_close(&t, clients, CLIENTS);
}

TEST("a full queue holds up nobody else")
{
    enum { CLIENTS = 20 };
    static const char ask_b[] = "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n";
    struct tight t;
    int clients[CLIENTS];
    tight_open(&t, 0);
    tight_fill(&t, clients, CLIENTS);
    CLEANUP_FD int other = client_ask(&t.rig.at, ask_b);
    passed_expect(t.b, other, STR(ask_b));
    tight_close(&t, clients, CLIENTS);
}

TEST("beyond the limit of those who wait a client is told 503")
{
    enum { CLIENTS = 20 };
    struct tight t;
    int clients[CLIENTS];
    tight_open(&t, 0);
    tight_fill(&t, clients, CLIENTS);
    unsigned others = QUEUE_WAITING_MAX - atomic_load(&t.a->waiting);
    (void)atomic_fetch_add(&t.a->waiting, others);
    CLEANUP_FD int refused = client_ask(&t.rig.at, ASK_A);
    client_expect(refused, "HTTP/1.1 503 ");
    (void)atomic_fetch_sub(&t.a->waiting, others);
    for (size_t i = 0; i < CLIENTS; i++)
        passed_expect(t.a, clients[i], STR(ASK_A));
    tight_close(&t, clients, CLIENTS);
}

TEST("who had to wait comes with what was sniffed of it, like everybody else")
{
    enum { CLIENTS = 20 };
    struct tight t;
    int clients[CLIENTS];
    tight_open(&t, DISPATCH_RICH);
    tight_fill(&t, clients, CLIENTS);
    for (size_t i = 0; i < CLIENTS; i++) {
        struct passed got;
        CHECK(passed_take(t.a->read_fd, &got));
        CHECK_INT(got.msg.proto, PROTO_HTTP);
        CHECK_STR(got.msg.host, "a.test");
        CHECK_STR(got.msg.path, "/");
        CHECK(addr_equal(&got.msg.local, &t.rig.at));
        (void)fd_close(got.fd);
    }
    tight_close(&t, clients, CLIENTS);
}

TEST("when a queue is gone for good, all who waited in it and for it are told 503")
{
    enum { CLIENTS = 20 };
    struct tight t;
    int clients[CLIENTS];
    tight_open(&t, 0);
    tight_fill(&t, clients, CLIENTS);
    atomic_store(&t.a->dropped, true);
    rig_publish(&t.rig, true, &(struct served){"http://b.test/", 2, t.b}, 1);
    for (size_t i = t.fit; i < CLIENTS; i++)
        client_expect(clients[i], "HTTP/1.1 503 ");
    CHECK_INT(board_get(&t.rig.board->waiting), 0);
    for (size_t i = 0; i < t.fit; i++)
        CHECK(is_quiet(clients[i]));
    worker_drain(t.rig.worker, t.a);
    for (size_t i = 0; i < t.fit; i++)
        client_expect(clients[i], "HTTP/1.1 503 ");
    CHECK(is_quiet(t.a->read_fd));
    tight_close(&t, clients, CLIENTS);
}

TEST("a client that waits and goes away does no harm")
{
    enum { CLIENTS = 20 };
    struct tight t;
    int clients[CLIENTS];
    tight_open(&t, 0);
    tight_fill(&t, clients, CLIENTS);
    for (size_t i = 0; i < CLIENTS; i++)
        clients[i] = fd_close(clients[i]);
    for (size_t i = 0; i < CLIENTS; i++) {
        struct passed got;
        CHECK(passed_take(t.a->read_fd, &got));
        (void)fd_close(got.fd);
    }
    EVENTUALLY(board_get(&t.rig.board->sniffing) == 0);
    tight_close(&t, clients, CLIENTS);
}

TEST("a listener that goes leaves nobody behind in its backlog")
{
    enum { CLIENTS = 200 };
    struct rig r;
    int clients[CLIENTS];
    bool found[CLIENTS] = {false};
    rig_open(&r, patient);
    struct queue *q = rig_queue(1, 0);
    struct served s = {"http://a.test/", 1, q};
    /* They are all in the backlog before the worker knows of the listener. */
    for (size_t i = 0; i < CLIENTS; i++)
        clients[i] = client_open(&r.at);
    rig_publish(&r, true, &s, 1);
    rig_publish(&r, false, &s, 1);
    for (size_t i = 0; i < CLIENTS; i++) {
        struct passed got;
        CHECK(passed_take(q->read_fd, &got));
        for (size_t k = 0; k < CLIENTS; k++) {
            struct addr peer = rig_address(clients[k]);
            if (addr_equal(&peer, &got.msg.addr))
                found[k] = true;
        }
        (void)fd_close(got.fd);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        CHECK(found[i]);
        (void)fd_close(clients[i]);
    }
    rig_close(&r);
    queue_unref(q);
}

TEST("a connection that is being sniffed is judged by the newest snapshot")
{
    struct rig r;
    rig_open(&r, patient);
    struct queue *old = rig_queue(1, 0), *fresh = rig_queue(2, 0), *b = rig_queue(3, 0);
    struct served before[] = {{"http://a.test/", 1, old}, {"http://b.test/", 3, b}};
    struct served after[] = {{"http://a.test/", 2, fresh}, {"http://b.test/", 3, b}};
    rig_publish(&r, true, before, 2);
    CLEANUP_FD int c = client_ask(&r.at, "GET / HTTP/1.1\r\n");
    EVENTUALLY(board_get(&r.board->sniffing) == 1);
    rig_publish(&r, true, after, 2);
    client_say(c, STR("Host: a.test\r\n\r\n"));
    passed_expect(fresh, c, STR(ASK_A));
    CHECK(is_quiet(old->read_fd));
    rig_close(&r);
    queue_unref(old);
    queue_unref(fresh);
    queue_unref(b);
}
