/* Probes a server that runs on the same loop, and does what each test wants. */
#include "launch/probe.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

#define LIMIT_MS 5000

enum server { SERVER_ANSWERS, SERVER_CLOSES, SERVER_HOLDS };

struct rig {
    struct loop loop;
    struct probe probe;
    struct watch listener, conn;
    struct timer stop;
    struct addr at;
    enum server server;
    const char *answer;
    char request[2048];
    int calls;
    bool healthy, reset;
    char sentence[PROBE_SENTENCE_MAX];
};

static void done(struct probe *p, bool healthy, const char *sentence)
{
    struct rig *r = container_of(p, struct rig, probe);
    CHECK_INT(p->state, PROBE_IDLE);
    r->calls++;
    r->healthy = healthy;
    (void)snprintf(r->sentence, sizeof r->sentence, "%s", sentence);
    /* One turn more, in which a second answer would show. */
    loop_timer(&r->loop, &r->stop, 10);
}

static void stop(struct timer *t)
{
    loop_stop(&container_of(t, struct rig, stop)->loop);
}

static void conn_close(struct rig *r)
{
    int fd = r->conn.fd;
    loop_unwatch(&r->loop, &r->conn);
    (void)close(fd);
}

/* The head of a request comes in one piece here. */
static void conn_ready(struct watch *w, uint32_t events)
{
    struct rig *r = container_of(w, struct rig, conn);
    (void)events;
    ssize_t n = recv(w->fd, r->request, sizeof r->request - 1, 0);
    r->reset |= n < 0;
    if (n <= 0 || r->server == SERVER_CLOSES) {
        conn_close(r);
        return;
    }
    r->request[n] = 0;
    if (r->server == SERVER_HOLDS && !r->answer)
        return;
    CHECK_INT(send(w->fd, r->answer, strlen(r->answer), MSG_NOSIGNAL), strlen(r->answer));
    if (r->server == SERVER_ANSWERS)
        conn_close(r);
}

static void conn_serve(struct rig *r, int fd)
{
    r->conn = (struct watch){.fd = -EBADF, .ready = conn_ready};
    CHECK_INT(loop_watch(&r->loop, &r->conn, fd, EPOLLIN), 0);
}

static void listener_ready(struct watch *w, uint32_t events)
{
    (void)events;
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);
    CHECK(fd >= 0);
    conn_serve(container_of(w, struct rig, listener), fd);
}

static void rig_init(struct rig *r, const char *address)
{
    *r = (struct rig){
        .stop.fire = stop, .conn.fd = -EBADF, .answer = "HTTP/1.1 200 OK\r\n\r\nhello"};
    CHECK_INT(loop_init(&r->loop), 0);
    CHECK_INT(addr_parse(address, &r->at), 0);
    int fd = socket(r->at.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(fd, &r->at.sa, r->at.len), 0);
    CHECK_INT(listen(fd, 8), 0);
    r->at.len = sizeof r->at.un;
    CHECK_INT(getsockname(fd, &r->at.sa, &r->at.len), 0);
    r->listener = (struct watch){.fd = -EBADF, .ready = listener_ready};
    CHECK_INT(loop_watch(&r->loop, &r->listener, fd, EPOLLIN), 0);
}

static void rig_done(struct rig *r)
{
    probe_stop(&r->probe);
    (void)(r->conn.fd >= 0 && close(r->conn.fd));
    (void)close(r->listener.fd);
    loop_done(&r->loop);
}

static const char *rig_probe(struct rig *r, const char *path, uint32_t limit_ms)
{
    struct probe_ask ask = {.path = path, .limit_ms = limit_ms, .done = done};
    CHECK_INT(probe_start(&r->probe, &r->loop, &r->at, &ask), 0);
    CHECK_INT(r->calls, 0);
    loop_run(&r->loop);
    CHECK_INT(r->calls, 1);
    return r->sentence;
}

static void expect(enum server server, const char *answer, bool healthy, const char *sentence)
{
    struct rig r;
    rig_init(&r, "127.0.0.1:0");
    r.server = server;
    r.answer = answer;
    CHECK_TEXT(rig_probe(&r, "/healthz", LIMIT_MS), sentence);
    CHECK_INT(r.healthy, healthy);
    rig_done(&r);
}

TEST("a server that answers with 2xx or 3xx is healthy, with any other it is not")
{
    expect(SERVER_ANSWERS, "HTTP/1.1 200 OK\r\n\r\nhello", true, "GET /healthz: answered 200");
    expect(SERVER_ANSWERS, "HTTP/1.0 302 Found\r\n\r\n", true, "GET /healthz: answered 302");
    expect(SERVER_ANSWERS, "HTTP/1.1 404 No\r\n\r\n", false, "GET /healthz: answered 404");
    expect(SERVER_ANSWERS, "HTTP/1.1 503 Down\r\n\r\n", false, "GET /healthz: answered 503");
}

TEST("a server that answers something else, or nothing, is not healthy")
{
    expect(SERVER_ANSWERS, "SSH-2.0-x\r\n", false, "GET /healthz: the answer is not HTTP");
    expect(SERVER_ANSWERS, "HTTP/1.1 2", false,
           "GET /healthz: the connection was closed without an answer");
    expect(SERVER_CLOSES, NULL, false, "GET /healthz: the connection was closed without an answer");
}

TEST("the request is plain HTTP/1.1 that asks to be the last")
{
    struct rig r;
    rig_init(&r, "127.0.0.1:0");
    (void)rig_probe(&r, "/healthz?a=b", LIMIT_MS);
    CHECK_TEXT(r.request, "GET /healthz?a=b HTTP/1.1\r\nHost: localhost\r\nUser-Agent: berth\r\n"
                          "Accept: */*\r\nConnection: close\r\n\r\n");
    rig_done(&r);
}

TEST("a server that does not answer is given up in time")
{
    struct rig r;
    rig_init(&r, "127.0.0.1:0");
    r.server = SERVER_HOLDS;
    r.answer = NULL;
    CHECK_TEXT(rig_probe(&r, "/", 100), "GET /: no answer within 0.1 s");
    CHECK(!r.healthy);
    rig_done(&r);
}

TEST("a server that answered well and holds the connection is healthy all the same")
{
    struct rig r;
    rig_init(&r, "127.0.0.1:0");
    r.server = SERVER_HOLDS;
    CHECK_TEXT(rig_probe(&r, "/", LIMIT_MS), "GET /: answered 200");
    CHECK(r.healthy);
    rig_done(&r);
}

TEST("a long answer is read to its end, so that the server sees no reset")
{
    struct rig r;
    size_t size = 300000;
    char *answer = malloc(size + 1);
    memset(answer, 'x', size);
    memcpy(answer, "HTTP/1.1 200 OK\r\n\r\n", 19);
    answer[size] = 0;
    rig_init(&r, "127.0.0.1:0");
    r.answer = answer;
    int room = 1 << 20;
    CHECK_INT(setsockopt(r.listener.fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    CHECK_TEXT(rig_probe(&r, "/", LIMIT_MS), "GET /: answered 200");
    CHECK(!r.reset);
    rig_done(&r);
    free(answer);
}

TEST("for a port, a connection is enough")
{
    struct rig r;
    rig_init(&r, "127.0.0.1:0");
    (void)rig_probe(&r, NULL, LIMIT_MS);
    CHECK(r.healthy);
    CHECK(strstr(r.sentence, ": connected") != NULL);
    rig_done(&r);
}

TEST("a port where nobody listens is not healthy")
{
    struct rig r;
    char want[PROBE_SENTENCE_MAX], text[ADDR_TEXT_MAX];
    rig_init(&r, "127.0.0.1:0");
    int fd = r.listener.fd;
    loop_unwatch(&r.loop, &r.listener);
    (void)close(fd);
    (void)snprintf(want, sizeof want, "%s: Connection refused", addr_format(&r.at, text));
    CHECK_TEXT(rig_probe(&r, NULL, LIMIT_MS), want);
    CHECK(!r.healthy);
    r.listener.fd = -EBADF;
    rig_done(&r);
}

TEST("a Unix socket is probed as a port is")
{
    struct rig r;
    char folder[] = "/tmp/berth-probe-XXXXXX", address[64];
    CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(address, sizeof address, "unix:%s/s", folder);
    rig_init(&r, address);
    CHECK_TEXT(rig_probe(&r, "/x", LIMIT_MS), "GET /x: answered 200");
    rig_done(&r);
    CHECK_INT(unlink(r.at.un.sun_path), 0);
    r.calls = 0;
    CHECK_INT(loop_init(&r.loop), 0);
    r.listener.fd = r.conn.fd = -EBADF;
    (void)rig_probe(&r, NULL, LIMIT_MS);
    CHECK(!r.healthy);
    CHECK(strstr(r.sentence, "No such file") != NULL);
    rig_done(&r);
    (void)rmdir(folder);
}

TEST("a pair is one connection of 127.0.0.1, and the server's end is as accept() gives it")
{
    int ours, theirs;
    struct addr a = {.len = sizeof a.un}, b = a;
    CHECK_INT(probe_tcp_pair(&ours, &theirs), 0);
    CHECK_INT(getsockname(ours, &a.sa, &a.len), 0);
    CHECK_INT(getpeername(theirs, &b.sa, &b.len), 0);
    CHECK(addr_equal(&a, &b));
    CHECK(addr_is_loopback(&a));
    CHECK_INT(fcntl(theirs, F_GETFL) & O_NONBLOCK, 0);
    CHECK_INT(fcntl(theirs, F_GETFD), FD_CLOEXEC);
    (void)(close(ours) + close(theirs));
}

TEST("a probe over a pair asks the server that has the other end")
{
    struct rig r;
    int ours, theirs;
    struct probe_ask ask = {
        .path = "/", .host = "blog.example", .limit_ms = LIMIT_MS, .done = done};
    rig_init(&r, "127.0.0.1:0");
    CHECK_INT(probe_tcp_pair(&ours, &theirs), 0);
    CHECK_INT(probe_start_consume(&r.probe, &r.loop, ours, &ask), 0);
    conn_serve(&r, theirs);
    loop_run(&r.loop);
    CHECK(r.healthy);
    CHECK(strstr(r.request, "Host: blog.example\r\n") != NULL);
    ask.path = NULL;
    CHECK_INT(probe_tcp_pair(&ours, &theirs), 0);
    CHECK_INT(probe_start_consume(&r.probe, &r.loop, ours, &ask), -EINVAL);
    CHECK_INT(fcntl(ours, F_GETFD), -1);
    (void)close(theirs);
    rig_done(&r);
}

TEST("a path or host that would be more than one is refused")
{
    struct rig r;
    struct probe_ask ask = {.limit_ms = LIMIT_MS, .done = done};
    char longest[PROBE_REQUEST_MAX + 1];
    memset(longest, '/', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    const char *bad[] = {"", "x", "/a b", "/a\r\nX: y", longest};
    rig_init(&r, "127.0.0.1:0");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ask.path = bad[i];
        CHECK_INT(probe_start(&r.probe, &r.loop, &r.at, &ask), -EINVAL);
    }
    ask.path = "/";
    ask.host = "a\r\nb";
    CHECK_INT(probe_start(&r.probe, &r.loop, &r.at, &ask), -EINVAL);
    rig_done(&r);
}

TEST("a stopped probe says nothing, and can be started again")
{
    struct rig r;
    struct probe_ask ask = {.path = "/", .limit_ms = LIMIT_MS, .done = done};
    rig_init(&r, "127.0.0.1:0");
    CHECK_INT(probe_start(&r.probe, &r.loop, &r.at, &ask), 0);
    probe_stop(&r.probe);
    loop_timer(&r.loop, &r.stop, 20);
    loop_run(&r.loop);
    CHECK_INT(r.calls, 0);
    r.loop.stopped = false;
    (void)(r.conn.fd >= 0 && (conn_close(&r), true));
    CHECK_TEXT(rig_probe(&r, "/", LIMIT_MS), "GET /: answered 200");
    rig_done(&r);
}
