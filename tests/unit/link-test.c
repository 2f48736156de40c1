/* The way to a server: UDP while it answers, else TLS, and back. A server of a few lines runs on
 * the same loop, on a port of loopback. */
#include "peerd/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "guard.h"
#include "peerd/link-internal.h"
#include "rendezvousd/thread.h"
#include "test.h"

struct rig {
    struct loop loop;
    struct timer end;
    struct link *link;
    struct watch client, udp, listener, conn;
    int client_fd, udp_fd, listen_fd, conn_fd;
    struct addr addr;
    struct identity id;
    struct tls_server *server;
    struct tls *tls;
    bool udp_answers, lost;
    bool tls_waits; /* who connects gets no answer, and the loop ends */
    unsigned messages, data, moves, udp_got, tls_got, accepted;
    uint32_t channel;
    char text[64], known[128];
    size_t want; /* messages + data after which the loop ends; moves count, too, if below */
    unsigned want_moves;
};

static char folder[] = "/tmp/berth-link-XXXXXX";

__attribute__((constructor)) static void prepare(void)
{
    if (keys_init() < 0 || !mkdtemp(folder))
        abort();
}

__attribute__((destructor)) static void clean(void)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/known_servers", folder);
    (void)unlink(path);
    (void)rmdir(folder);
}

static void maybe_end(struct rig *g)
{
    if (g->messages + g->data >= g->want && g->moves >= g->want_moves)
        loop_stop(&g->loop);
}

static void udp_send_out(void *ctx, const struct addr *to, const void *bytes, size_t n)
{
    struct rig *g = ctx;
    (void)!sendto(g->client_fd, bytes, n, 0, &to->sa, to->len);
}

static void on_message(void *ctx, const struct presence_way *way, const void *bytes, size_t n)
{
    struct rig *g = ctx;
    struct rdvmsg m;
    CHECK_INT(way->server, 0);
    CHECK_INT(rdvmsg_decode(&m, bytes, n), 0);
    g->messages++;
    maybe_end(g);
}

static void on_data(void *ctx, const struct presence_way *way, uint32_t channel, const void *bytes,
                    size_t n)
{
    struct rig *g = ctx;
    (void)way;
    g->channel = channel;
    (void)snprintf(g->text, sizeof g->text, "%.*s", (int)n, (const char *)bytes);
    g->data++;
    maybe_end(g);
}

static void on_moved(void *ctx, uint32_t server)
{
    struct rig *g = ctx;
    CHECK_INT(server, 0);
    g->moves++;
    maybe_end(g);
}

static void on_status(void *ctx, uint32_t server)
{
    (void)ctx;
    (void)server;
}

static const struct link_host host = {.udp_send = udp_send_out,
                                      .message = on_message,
                                      .data = on_data,
                                      .moved = on_moved,
                                      .status = on_status};

/* The server: COOKIE to HELLO, and relay packets back as they came. */
static size_t answer(const uint8_t *in, size_t n, uint8_t out[RELAY_MAX])
{
    struct rdvmsg m, a = {.type = RDVMSG_COOKIE_IS, .addr = {.len = 0}};
    if (relay_looks(in, n)) {
        memcpy(out, in, n);
        return n;
    }
    CHECK_INT(rdvmsg_decode(&m, in, n), 0);
    a.transaction = m.transaction;
    CHECK_INT(addr_parse("127.0.0.1:9", &a.addr), 0);
    return (size_t)rdvmsg_encode(&a, out, RELAY_MAX);
}

static void client_ready(struct watch *w, uint32_t events)
{
    struct rig *g = container_of(w, struct rig, client);
    uint8_t buf[2048];
    struct addr from = {.len = sizeof from.un};
    (void)events;
    ssize_t n = recvfrom(g->client_fd, buf, sizeof buf, MSG_DONTWAIT, &from.sa, &from.len);
    if (n > 0)
        CHECK(link_input(g->link, &from, buf, (size_t)n));
}

static void server_udp_ready(struct watch *w, uint32_t events)
{
    struct rig *g = container_of(w, struct rig, udp);
    uint8_t buf[2048], out[RELAY_MAX];
    struct addr from = {.len = sizeof from.un};
    (void)events;
    ssize_t n = recvfrom(g->udp_fd, buf, sizeof buf, MSG_DONTWAIT, &from.sa, &from.len);
    if (n <= 0)
        return;
    g->udp_got++;
    if (g->udp_answers)
        (void)!sendto(g->udp_fd, out, answer(buf, (size_t)n, out), 0, &from.sa, from.len);
}

static void conn_close(struct rig *g)
{
    loop_unwatch(&g->loop, &g->conn);
    tls_free(g->tls);
    g->tls = NULL;
    g->conn_fd = fd_close(g->conn_fd);
}

/* Frames of one read come whole: the client writes them whole. */
static void conn_ready(struct watch *w, uint32_t events)
{
    struct rig *g = container_of(w, struct rig, conn);
    uint8_t buf[16384], out[2 + RELAY_MAX];
    (void)events;
    for (;;) {
        ssize_t n = tls_recv(g->tls, buf, sizeof buf);
        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            conn_close(g);
            return;
        }
        struct rd r = rd_init(buf, (size_t)n);
        while (r.left > 0) {
            struct str frame = rd_vec(&r, 2);
            CHECK(rd_ok(&r));
            if (!rd_ok(&r))
                return;
            g->tls_got++;
            size_t len = answer((const uint8_t *)frame.p, frame.n, out + 2);
            out[0] = (uint8_t)(len >> 8);
            out[1] = (uint8_t)len;
            CHECK_INT(tls_send(g->tls, out, len + 2), len + 2);
        }
    }
}

static void listener_ready(struct watch *w, uint32_t events)
{
    struct rig *g = container_of(w, struct rig, listener);
    (void)events;
    g->conn_fd = accept4(g->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    g->accepted++;
    g->tls = tls_new(g->server, g->conn_fd);
    if (g->tls_waits) {
        loop_stop(&g->loop);
        return;
    }
    CHECK_INT(loop_watch(&g->loop, &g->conn, g->conn_fd, EPOLLIN), 0);
}

static void too_late(struct timer *t)
{
    struct rig *g = container_of(t, struct rig, end);
    g->lost = true;
    loop_stop(&g->loop);
}

static void rig_open(struct rig *g)
{
    *g = (struct rig){.conn_fd = -EBADF, .udp_answers = true};
    CHECK_INT(loop_init(&g->loop), 0);
    g->end.fire = too_late;
    g->client.ready = client_ready;
    g->udp.ready = server_udp_ready;
    g->listener.ready = listener_ready;
    g->conn.ready = conn_ready;
    g->client.fd = g->udp.fd = g->listener.fd = g->conn.fd = -EBADF;
    identity_make(&g->id);
    g->server = tls_server_new(&g->id);
    CHECK_INT(addr_parse("127.0.0.1:0", &g->addr), 0);
    g->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK_INT(bind(g->listen_fd, &g->addr.sa, g->addr.len), 0);
    CHECK_INT(getsockname(g->listen_fd, &g->addr.sa, &g->addr.len), 0);
    CHECK_INT(listen(g->listen_fd, 5), 0);
    g->udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(g->udp_fd, &g->addr.sa, g->addr.len), 0);
    g->client_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK_INT(loop_watch(&g->loop, &g->client, g->client_fd, EPOLLIN), 0);
    CHECK_INT(loop_watch(&g->loop, &g->udp, g->udp_fd, EPOLLIN), 0);
    CHECK_INT(loop_watch(&g->loop, &g->listener, g->listen_fd, EPOLLIN), 0);
    (void)snprintf(g->known, sizeof g->known, "%s/known_servers", folder);
}

static void link_start(struct rig *g, const char *server, bool no_udp)
{
    char text[ADDR_TEXT_MAX];
    const char *servers[] = {server ? server : addr_format(&g->addr, text)};
    const struct link_config config = {.servers = servers,
                                       .count = 1,
                                       .known_servers = g->known,
                                       .no_udp = no_udp,
                                       .probe_ms = 50};
    CHECK_INT(link_new(&g->loop, &host, g, &config, &g->link), 0);
}

static void rig_close(struct rig *g)
{
    CHECK(!g->lost);
    link_free(g->link);
    if (g->conn_fd >= 0)
        conn_close(g);
    tls_server_free(g->server);
    loop_unwatch(&g->loop, &g->client);
    loop_unwatch(&g->loop, &g->udp);
    loop_unwatch(&g->loop, &g->listener);
    (void)fd_close(g->client_fd);
    (void)fd_close(g->udp_fd);
    (void)fd_close(g->listen_fd);
    loop_done(&g->loop);
    (void)unlink(g->known);
}

/* Runs until so much has come, or fails after seconds. */
static void run_until(struct rig *g, unsigned more, unsigned moves)
{
    g->want = g->messages + g->data + more;
    g->want_moves = g->moves + moves;
    loop_timer(&g->loop, &g->end, 8000);
    g->loop.stopped = false;
    loop_run(&g->loop);
    loop_untimer(&g->end);
}

static void hello(struct rig *g)
{
    const struct presence_way way = {.server = 0};
    struct rdvmsg m = {.type = RDVMSG_HELLO, .transaction = 7, .pad_to = RDVMSG_HELLO_MIN};
    uint8_t buf[RDVMSG_MAX];
    int n = rdvmsg_encode(&m, buf, sizeof buf);
    link_send(g->link, &way, buf, (size_t)n);
}

static enum link_transport transport(const struct rig *g)
{
    struct link_status s;
    link_status(g->link, 0, &s);
    return s.transport;
}

TEST("messages and relay data go over UDP while it answers")
{
    const struct presence_way way = {.server = 0};
    struct rig g;
    struct link_status s;
    rig_open(&g);
    link_start(&g, NULL, false);
    CHECK_INT(transport(&g), LINK_NONE);
    hello(&g);
    run_until(&g, 1, 0);
    CHECK_INT(transport(&g), LINK_UDP);
    CHECK_INT(link_send_data(g.link, &way, 0x01020304, "cipher", 6), 0);
    run_until(&g, 1, 0);
    CHECK_INT(g.channel, 0x01020304);
    CHECK_TEXT(g.text, "cipher");
    link_status(g.link, 0, &s);
    CHECK(addr_equal(&s.addr, &g.addr));
    CHECK_INT(g.accepted, 0);
    rig_close(&g);
}

TEST("a datagram that is not from a server is not the link's")
{
    struct rig g;
    struct addr other;
    rig_open(&g);
    link_start(&g, NULL, false);
    CHECK_INT(addr_parse("127.0.0.1:1", &other), 0);
    CHECK(!link_input(g.link, &other, "\5\1", 2));
    CHECK(!link_input(g.link, &g.addr, "\7\1", 2));
    CHECK(!link_input(g.link, &g.addr, "", 0));
    CHECK(link_input(g.link, &g.addr, "\6\0", 2));
    rig_close(&g);
}

TEST("where UDP is not answered, TLS is used, and UDP again when it is")
{
    const struct presence_way way = {.server = 0};
    struct rig g;
    rig_open(&g);
    g.udp_answers = false;
    link_start(&g, NULL, false);
    hello(&g);
    run_until(&g, 0, 1);
    CHECK_INT(transport(&g), LINK_TLS);
    hello(&g);
    CHECK_INT(link_send_data(g.link, &way, 9, "over TLS", 8), 0);
    run_until(&g, 2, 0);
    CHECK_TEXT(g.text, "over TLS");
    CHECK_INT(g.tls_got, 2);
    g.udp_answers = true;
    run_until(&g, 0, 1);
    CHECK_INT(transport(&g), LINK_UDP);
    hello(&g);
    run_until(&g, 1, 0);
    CHECK_INT(g.tls_got, 2);
    rig_close(&g);
}

TEST("TLS that is begun beside a slow UDP is given up when that answers")
{
    struct rig g;
    rig_open(&g);
    g.udp_answers = false;
    g.tls_waits = true;
    link_start(&g, NULL, false);
    hello(&g);
    run_until(&g, 1, 0);
    CHECK_INT(g.accepted, 1);
    CHECK_INT(transport(&g), LINK_NONE);
    g.udp_answers = true;
    hello(&g);
    run_until(&g, 1, 0);
    CHECK_INT(transport(&g), LINK_UDP);
    CHECK_INT(g.moves, 0);
    CHECK_INT(g.tls_got, 0);
    rig_close(&g);
}

TEST("thousands of relay packets over TLS come whole or not at all")
{
    const struct presence_way way = {.server = 0};
    char bytes[1400];
    unsigned sent = 0, full = 0;
    struct rig g;
    rig_open(&g);
    link_start(&g, NULL, true);
    hello(&g);
    run_until(&g, 0, 1);
    memset(bytes, 'x', sizeof bytes);
    for (int i = 0; i < 20; i++) {
        unsigned now = 0;
        for (int k = 0; k < 10; k++)
            now += link_send_data(g.link, &way, 9, bytes, sizeof bytes) == 0;
        run_until(&g, now, 0);
        sent += now;
    }
    CHECK_INT(sent, 200);
    CHECK_INT(g.data, 200);
    for (int k = 0; k < 1000; k++)
        full += link_send_data(g.link, &way, 9, bytes, sizeof bytes) == -EAGAIN;
    CHECK(full > 900);
    hello(&g); /* messages have room of their own */
    rig_close(&g);
}

TEST("a server's key is pinned when it is first seen, and another one refused")
{
    struct rig g;
    struct link_status s;
    struct identity other;
    char was[KEY_TEXT_MAX], now[KEY_TEXT_MAX], name[ADDR_TEXT_MAX];
    rig_open(&g);
    struct key key;
    identity_make(&other);
    (void)addr_format(&g.addr, name);
    CHECK_INT(known_server_check(g.known, name, &other.key, &key), 0);
    link_start(&g, NULL, true);
    hello(&g);
    loop_timer(&g.loop, &g.end, 700);
    loop_run(&g.loop);
    g.lost = false;
    link_status(g.link, 0, &s);
    CHECK_INT(s.transport, LINK_NONE);
    CHECK(s.trouble && strstr(s.trouble, key_format(&other.key, was)));
    CHECK(s.trouble && strstr(s.trouble, key_format(&g.id.key, now)));
    CHECK_INT(g.moves, 0);
    rig_close(&g);
}

TEST("known servers are kept in a file of one line each")
{
    struct identity a, b;
    struct key was;
    char path[128];
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/known_servers", folder);
    identity_make(&a);
    identity_make(&b);
    CHECK_INT(known_server_check(path, "a.example:3478", &a.key, &was), 0);
    CHECK_INT(known_server_check(path, "b.example:3478", &b.key, &was), 0);
    CHECK_INT(known_server_check(path, "a.example:3478", &a.key, &was), 0);
    CHECK_INT(known_server_check(path, "a.example:3478", &b.key, &was), -EKEYREJECTED);
    CHECK(key_equal(&was, &a.key));
    CHECK_INT(known_server_check(path, "a.example:3479", &b.key, &was), 0);
    CHECK_INT(stat(path, &st), 0);
    CHECK_INT(st.st_mode & 0777, 0600);
    (void)unlink(path);
}

TEST("when the connection ends, another is made")
{
    struct rig g;
    rig_open(&g);
    link_start(&g, NULL, true);
    hello(&g);
    run_until(&g, 0, 1);
    conn_close(&g);
    run_until(&g, 0, 2); /* down, and up */
    CHECK_INT(transport(&g), LINK_TLS);
    CHECK_INT(g.accepted, 2);
    hello(&g);
    run_until(&g, 1, 0);
    rig_close(&g);
}

TEST("a name is looked up without holding up the loop")
{
    char server[64];
    struct rig g;
    rig_open(&g);
    (void)snprintf(server, sizeof server, "localhost:%u", addr_port(&g.addr));
    link_start(&g, server, false);
    hello(&g); /* has nowhere to go yet */
    run_until(&g, 0, 1);
    hello(&g);
    run_until(&g, 1, 0);
    CHECK_INT(transport(&g), LINK_UDP);
    rig_close(&g);
}

TEST("a link may end while a name is looked up")
{
    for (int i = 0; i < 20; i++) {
        struct rig g;
        rig_open(&g);
        link_start(&g, "localhost:9", false);
        rig_close(&g);
    }
}

TEST("a server is named by host and port")
{
    struct server_name s;
    CHECK_INT(server_name_parse("rdv.example", &s), 0);
    CHECK_TEXT(s.host, "rdv.example");
    CHECK_TEXT(s.port, "3478");
    CHECK(!s.port_given);
    CHECK_INT(server_name_parse("[2001:db8::1]:99", &s), 0);
    CHECK_TEXT(s.host, "2001:db8::1");
    CHECK_TEXT(s.port, "99");
    CHECK(s.port_given);
    CHECK_INT(server_name_parse("[::1]", &s), 0);
    static const char *const bad[] = {"", ":1", "a:", "a:0", "a:65536", "a:1x", "[::1", "[::1]x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_INT(server_name_parse(bad[i], &s), -EINVAL);
}

/* An answer with three SRV records. */
static const char srv_answer[] = "\x12\x34\x81\x80\0\1\0\3\0\0\0\0"
                                 "\6_berth\0\0\x21\0\1"
                                 "\xc0\x0c\0\x21\0\1\0\0\0\x3c\0\x09\0\2\0\0\x0d\x96\1z\0"
                                 "\xc0\x0c\0\x21\0\1\0\0\0\x3c\0\x09\0\1\0\5\x0d\x97\1y\0"
                                 "\xc0\x0c\0\x21\0\1\0\0\0\x3c\0\x09\0\1\0\7\x0d\x98\1x\0";

TEST("of SRV records the lowest priority counts, then the most weight")
{
    const uint8_t *bytes = (const uint8_t *)srv_answer;
    struct server_name s;
    CHECK_INT(srv_parse(bytes, sizeof srv_answer - 1, &s), 0);
    CHECK_TEXT(s.host, "x");
    CHECK_TEXT(s.port, "3480");
    CHECK(s.port_given);
    for (size_t n = 0; n < sizeof srv_answer; n++) {
        const uint8_t *at = guard_copy(bytes, n);
        (void)!srv_parse(at, n, &s);
        guard_free(at, n);
    }
}
