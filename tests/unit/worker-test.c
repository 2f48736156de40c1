/* A connection's way through one worker: who gets it, with which bytes, and who is sent away. */
#include "worker-rig.h"

#include <fcntl.h>

#define ASK_A "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
#define ASK_B "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n"
#define ASK_C "GET / HTTP/1.1\r\nHost: c.test\r\n\r\n"

/* Two applications, told apart by Host. */
struct two {
    struct rig rig;
    struct queue *a, *b;
};

static void two_open(struct two *t, struct worker_limits limits)
{
    rig_open(&t->rig, limits);
    t->a = rig_queue(1, 0);
    t->b = rig_queue(2, 0);
    struct served s[] = {{"http://a.test/", 1, t->a}, {"http://b.test/", 2, t->b}};
    rig_publish(&t->rig, true, s, 2);
}

static void two_close(struct two *t)
{
    rig_close(&t->rig);
    queue_unref(t->a);
    queue_unref(t->b);
}

TEST("one application alone gets a silent connection at once")
{
    struct rig r;
    rig_open(&r, patient);
    struct queue *q = rig_queue(1, 0);
    rig_publish(&r, true, &(struct served){"http://a.test/", 1, q}, 1);
    CLEANUP_FD int c = client_open(&r.at);
    passed_expect(q, c, STR(""));
    EVENTUALLY(board_get(&r.board->delivered[0]) == 1);
    CHECK_INT(board_get(&r.board->accepted), 1);
    CHECK_INT(board_get(&r.board->sniffing), 0);
    rig_close(&r);
    queue_unref(q);
}

TEST("two applications are told apart by Host")
{
    struct two t;
    two_open(&t, patient);
    CLEANUP_FD int b = client_ask(&t.rig.at, ASK_B);
    CLEANUP_FD int a = client_ask(&t.rig.at, ASK_A);
    passed_expect(t.a, a, STR(ASK_A));
    passed_expect(t.b, b, STR(ASK_B));
    CHECK(is_quiet(t.a->read_fd));
    CHECK(is_quiet(t.b->read_fd));
    two_close(&t);
}

TEST("a request in two pieces is delivered after the second one, with both")
{
    struct two t;
    two_open(&t, patient);
    CLEANUP_FD int c = client_ask(&t.rig.at, "GET / HTTP/1.1\r\nHo");
    EVENTUALLY(board_get(&t.rig.board->sniffing) == 1);
    CHECK(is_quiet(t.a->read_fd));
    client_say(c, STR("st: a.test\r\n\r\n"));
    passed_expect(t.a, c, STR(ASK_A));
    two_close(&t);
}

TEST("the passed socket is as the program would have accepted it")
{
    struct two t;
    two_open(&t, patient);
    struct option_value o = {.level = IPPROTO_TCP, .name = TCP_NODELAY, .len = 4, .value = {1}};
    CHECK_INT(queue_add_option(t.a, &o), 0);
    o.level = SOL_SOCKET;
    o.name = SO_KEEPALIVE;
    CHECK_INT(queue_add_option(t.a, &o), 0);
    /* Pipelined, so that there is more than was looked at. */
    CLEANUP_FD int c = client_ask(&t.rig.at, "GET / HTTP/1.1\r\nHost: a.test\r\n");
    EVENTUALLY(board_get(&t.rig.board->sniffing) == 1);
    client_say(c, STR("\r\n" ASK_B ASK_C "rest"));
    struct passed got;
    CHECK(passed_take(t.a->read_fd, &got));
    CHECK_INT(fcntl(got.fd, F_GETFL) & O_NONBLOCK, 0);
    int value = 0;
    socklen_t len = sizeof value;
    CHECK_INT(getsockopt(got.fd, SOL_SOCKET, SO_RCVLOWAT, &value, &len), 0);
    CHECK_INT(value, 1);
    CHECK_INT(getsockopt(got.fd, IPPROTO_TCP, TCP_NODELAY, &value, &len), 0);
    CHECK_INT(value, 1);
    CHECK_INT(getsockopt(got.fd, SOL_SOCKET, SO_KEEPALIVE, &value, &len), 0);
    CHECK_INT(value, 1);
    CHECK_INT(got.msg.proto, PROTO_HTTP);
    static const char want[] = ASK_A ASK_B ASK_C "rest";
    char buf[sizeof want] = "";
    int err;
    CHECK_INT(read_all(got.fd, buf, sizeof want - 1, &err), sizeof want - 1);
    CHECK_TEXT(buf, want);
    /* Our copy is gone from the worker: the program's close is the client's end. */
    (void)fd_close(got.fd);
    client_expect_closed(c);
    two_close(&t);
}

TEST("a silent client goes to ssh after the time for it, not before")
{
    struct rig r;
    rig_open(&r, (struct worker_limits){50, 60000, 1000});
    struct queue *http = rig_queue(1, 0), *ssh = rig_queue(2, 0);
    struct served s[] = {{"http://a.test/", 1, http}, {"ssh://", 2, ssh}};
    rig_publish(&r, true, s, 2);
    uint64_t start = clock_now_ms();
    CLEANUP_FD int c = client_open(&r.at);
    passed_expect(ssh, c, STR(""));
    CHECK(clock_now_ms() >= start + 50);
    rig_close(&r);
    queue_unref(http);
    queue_unref(ssh);
}

TEST("a silent client is closed when nobody takes silent ones")
{
    struct two t;
    two_open(&t, (struct worker_limits){50, 60000, 1000});
    CLEANUP_FD int c = client_open(&t.rig.at);
    char byte;
    CHECK_INT(recv(c, &byte, 1, 0), 0);
    EVENTUALLY(board_get(&t.rig.board->refused) == 1);
    two_close(&t);
}

TEST("who never finishes the head of the request is closed")
{
    struct two t;
    two_open(&t, (struct worker_limits){60000, 50, 1000});
    CLEANUP_FD int c = client_ask(&t.rig.at, "GET / HTTP/1.1\r\nHost: a.te");
    client_expect_closed(c);
    EVENTUALLY(board_get(&t.rig.board->sniffing) == 0);
    CHECK(is_quiet(t.a->read_fd));
    two_close(&t);
}

TEST("a client that half-closes after its request is delivered with its end")
{
    struct two t;
    two_open(&t, patient);
    CLEANUP_FD int c = client_ask(&t.rig.at, ASK_A);
    CHECK_INT(shutdown(c, SHUT_WR), 0);
    struct passed got;
    char buf[256];
    int err;
    CHECK(passed_take(t.a->read_fd, &got));
    CHECK_INT(read_all(got.fd, buf, sizeof buf, &err), strlen(ASK_A));
    CHECK_INT(err, 0);
    CHECK_INT(send(got.fd, "answer", 6, MSG_NOSIGNAL), 6);
    (void)fd_close(got.fd);
    CHECK_INT(read_all(c, buf, sizeof buf, &err), 6);
    two_close(&t);
}

TEST("a client that half-closes with nothing, or in the middle, is closed at once")
{
    struct two t;
    two_open(&t, patient);
    CLEANUP_FD int nothing = client_open(&t.rig.at);
    CLEANUP_FD int middle = client_ask(&t.rig.at, "GET / HT");
    CHECK_INT(shutdown(nothing, SHUT_WR), 0);
    CHECK_INT(shutdown(middle, SHUT_WR), 0);
    client_expect_closed(nothing);
    client_expect_closed(middle);
    two_close(&t);
}

TEST("who asks for a name that is not here gets the whole answer, whatever it still sends")
{
    static char body[8 << 20];
    static const size_t sizes[] = {0, 1000, 40000, sizeof body};
    struct two t;
    two_open(&t, patient);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CLEANUP_FD int c = client_ask(&t.rig.at, ASK_C);
        client_say(c, (struct str){body, sizes[i]});
        client_expect(c, "HTTP/1.1 404 ");
    }
    two_close(&t);
}

TEST("a PROXY header is looked behind and stays")
{
    struct two t;
    two_open(&t, patient);
    struct rig *r = &t.rig;
    rig_publish(r, false, NULL, 0);
    int fd = rig_socket(&r->at);
    listener_unref(r->listener);
    r->listener = listener_new_consume(1, &fd, 1);
    r->listener->bound = r->at;
    r->listener->proxy = true;
    struct served s[] = {{"http://a.test/", 1, t.a}, {"http://b.test/", 2, t.b}};
    rig_publish(r, true, s, 2);
    static const char request[] = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n" ASK_B;
    CLEANUP_FD int c = client_ask(&r->at, request);
    passed_expect(t.b, c, STR(request));
    CLEANUP_FD int bad = client_ask(&r->at, ASK_B);
    client_expect_closed(bad);
    two_close(&t);
}

TEST("beyond its limit a worker lets the oldest silent client go")
{
    struct two t;
    int clients[5];
    two_open(&t, (struct worker_limits){60000, 60000, 4});
    clients[0] = client_ask(&t.rig.at, "GET");
    EVENTUALLY(board_get(&t.rig.board->sniffing) == 1);
    for (size_t i = 1; i < 4; i++)
        clients[i] = client_open(&t.rig.at);
    EVENTUALLY(board_get(&t.rig.board->sniffing) == 4);
    clients[4] = client_open(&t.rig.at);
    client_expect_closed(clients[1]);
    CHECK(is_quiet(clients[0]) && is_quiet(clients[2]));
    CHECK(is_quiet(clients[3]) && is_quiet(clients[4]));
    client_say(clients[0], STR(" / HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    passed_expect(t.a, clients[0], STR(ASK_A));
    for (size_t i = 0; i < 5; i++)
        (void)fd_close(clients[i]);
    two_close(&t);
}

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static size_t request_make(uint64_t *seed, bool to_a, char *buf, size_t size)
{
    size_t body = next_random(seed) % 4000, filler = next_random(seed) % 200;
    int n = snprintf(buf, size,
                     "POST /%zu HTTP/1.1\r\nX-Filler: %0*d\r\nHost: %s\r\nContent-Length: %zu\r\n"
                     "\r\n",
                     filler, (int)filler + 1, 0, to_a ? "a.test" : "b.test:80", body);
    for (size_t i = 0; i < body; i++)
        buf[n + (int)i] = (char)next_random(seed);
    return (size_t)n + body;
}

static void send_in_pieces(uint64_t *seed, int fd, struct str bytes)
{
    uint32_t largest = 1 + next_random(seed) % 2000;
    while (bytes.n > 0) {
        size_t n = 1 + next_random(seed) % largest;
        n = n < bytes.n ? n : bytes.n;
        client_say(fd, (struct str){bytes.p, n});
        bytes = str_skip(bytes, n);
    }
}

TEST("however a request is cut, the program reads every byte of it")
{
    static char request[8192];
    uint64_t seed = 20240607;
    struct two t;
    struct linger reset = {.l_onoff = 1};
    two_open(&t, patient);
    for (int i = 0; i < 2000 && !test_failed; i++) {
        bool to_a = next_random(&seed) & 1;
        struct str bytes = {request, request_make(&seed, to_a, request, sizeof request)};
        CLEANUP_FD int c = client_open(&t.rig.at);
        CHECK_INT(setsockopt(c, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
        send_in_pieces(&seed, c, bytes);
        passed_expect(to_a ? t.a : t.b, c, bytes);
    }
    CHECK_INT(board_get(&t.rig.board->refused), 0);
    two_close(&t);
}
