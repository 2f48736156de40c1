/* Sessions and streams over a network in memory: who gets in, and how streams begin and end. */
#include "session-rig.h"

#include <netinet/in.h>
#include <sys/ioctl.h>

static bool down_0(struct rig *r)
{
    return r->nodes[0].downs > 0;
}

/* What can be read now, as text. */
static const char *read_text(int fd)
{
    static char text[256];
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    if (n < 0)
        (void)snprintf(text, sizeof text, "errno %d", errno);
    return text;
}

static void put(int fd, const char *text)
{
    CHECK_INT(write(fd, text, strlen(text)), strlen(text));
}

TEST("two who know each other's key get a session, and both know whose it is")
{
    struct rig *r = rig_new();
    struct session *s = rig_connect(r);
    CHECK(session_is_up(s) && session_is_client(s));
    CHECK(key_equal(session_peer(s), &r->nodes[1].id.key));
    struct session *other = r->nodes[1].session;
    CHECK(other && !session_is_client(other));
    CHECK(other && key_equal(session_peer(other), &r->nodes[0].id.key));
    CHECK(endpoint_find(r->nodes[1].endpoint, &r->nodes[0].id.key) == other);
    CHECK(endpoint_next(r->nodes[0].endpoint, NULL) == s);
    CHECK(endpoint_next(r->nodes[0].endpoint, s) == NULL);
    rig_free(r);
}

TEST("a server with another key than the one that was wanted is refused")
{
    struct rig *r = rig_new();
    struct identity other;
    struct session *s;
    struct quic_path path = rig_path(&r->nodes[1], 0);
    identity_make(&other);
    CHECK_INT(session_connect(r->nodes[0].endpoint, &other.key, &path, &s), 0);
    CHECK(rig_run(r, 5000, down_0));
    CHECK_TEXT(r->nodes[0].reason, "WrongKey");
    CHECK_INT(r->nodes[0].ups, 0);
    rig_run(r, 5000, NULL);
    CHECK_INT(r->nodes[1].ups, 0);
    CHECK_INT(r->nodes[1].downs, 0);
    rig_free(r);
}

TEST("a client whose key is not let in hears so, and never has a session")
{
    struct rig *r = rig_new();
    struct endpoint_stats stats;
    struct session *s;
    struct quic_path path = rig_path(&r->nodes[1], 0);
    r->nodes[1].refuses = true;
    CHECK_INT(session_connect(r->nodes[0].endpoint, &r->nodes[1].id.key, &path, &s), 0);
    int fd = rig_dial(s, "web");
    CHECK(rig_run(r, 5000, down_0));
    CHECK_TEXT(r->nodes[0].reason, "peer closed: NotAllowed");
    CHECK_INT(r->nodes[0].ups + r->nodes[1].ups, 0);
    CHECK_INT(r->nodes[0].answers, 1);
    CHECK_INT(r->nodes[0].last_answer, STREAM_LOST);
    endpoint_stat(r->nodes[1].endpoint, &stats);
    CHECK_INT(stats.quic.key_refused, 1);
    CHECK_INT(stats.quic.connections, 0);
    CHECK_INT(stats.quic.half_open, 0);
    close(fd);
    rig_free(r);
}

TEST("bytes go both ways through a stream that was dialled before the session was up")
{
    struct rig *r = rig_new();
    struct session *s;
    struct quic_path path = rig_path(&r->nodes[1], 0);
    CHECK_INT(session_connect(r->nodes[0].endpoint, &r->nodes[1].id.key, &path, &s), 0);
    int fd = rig_dial(s, "web");
    put(fd, "hello");
    CHECK(rig_run(r, 5000, rig_answered_one));
    CHECK_INT(r->nodes[0].last_answer, STREAM_TAKEN);
    rig_run(r, 100, NULL);
    CHECK_TEXT(read_text(r->nodes[1].peer_fd), "hello");
    put(r->nodes[1].peer_fd, "good day");
    rig_run(r, 100, NULL);
    CHECK_TEXT(read_text(fd), "good day");
    close(fd);
    rig_free(r);
}

TEST("the called side can dial, too")
{
    struct rig *r = rig_new();
    rig_connect(r);
    struct rig_node *b = &r->nodes[1];
    int fd = rig_dial(b->session, "back");
    put(fd, "hello");
    rig_run(r, 200, NULL);
    CHECK_INT(b->last_answer, STREAM_TAKEN);
    CHECK_TEXT(read_text(r->nodes[0].peer_fd), "hello");
    close(fd);
    rig_free(r);
}

TEST("a refused stream says why, and its socket is closed")
{
    struct rig *r = rig_new();
    struct session *s = rig_connect(r);
    r->nodes[1].serve = rig_refuse;
    int fd = rig_dial(s, "nothing");
    CHECK(rig_run(r, 5000, rig_answered_one));
    CHECK_INT(r->nodes[0].last_answer, STREAM_NO_SERVICE);
    CHECK_INT(read(fd, (char[1]){0}, 1), 0);
    rig_run(r, 1000, NULL);
    struct session_stats stats;
    session_stat(s, &stats);
    CHECK_INT(stats.streams, 0);
    session_stat(r->nodes[1].session, &stats);
    CHECK_INT(stats.streams, 0);
    close(fd);
    rig_free(r);
}

TEST("a service's name that is none is refused at once, and the socket closed")
{
    struct rig *r = rig_new();
    struct session *s = rig_connect(r);
    char name[SESSION_SERVICE_MAX + 1];
    memset(name, 'x', sizeof name);
    struct str bad[] = {STR(""), STR("a b"), STR("a\n"), {name, sizeof name}};
    for (size_t i = 0; i < 4; i++) {
        int fds[2];
        CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        CHECK_INT(session_dial(s, bad[i], fds[0], NULL), -EINVAL);
        CHECK_INT(read(fds[1], (char[1]){0}, 1), 0);
        close(fds[1]);
    }
    rig_free(r);
}

TEST("each direction ends by itself")
{
    struct rig *r = rig_new();
    struct session *s = rig_connect(r);
    int fd = rig_dial(s, "web");
    put(fd, "question");
    (void)shutdown(fd, SHUT_WR);
    rig_run(r, 200, NULL);
    int server = r->nodes[1].peer_fd;
    CHECK_TEXT(read_text(server), "question");
    CHECK_INT(read(server, (char[1]){0}, 1), 0);
    put(server, "answer");
    rig_run(r, 200, NULL);
    CHECK_TEXT(read_text(fd), "answer");
    CHECK_INT(read(fd, (char[1]){0}, 1), -1);
    (void)shutdown(server, SHUT_WR);
    rig_run(r, 200, NULL);
    CHECK_INT(read(fd, (char[1]){0}, 1), 0);
    rig_run(r, 200, NULL);
    struct session_stats stats;
    session_stat(s, &stats);
    CHECK_INT(stats.streams, 0);
    close(fd);
    rig_free(r);
}

/* A connected pair over loopback TCP, both ends non-blocking. */
static void tcp_pair(int fds[2])
{
    struct addr any = addr_make(AF_INET, (uint8_t[]){127, 0, 0, 1}, 0);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(listener, &any.sa, any.len), 0);
    CHECK_INT(listen(listener, 1), 0);
    CHECK_INT(getsockname(listener, &any.sa, &any.len), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(connect(fds[0], &any.sa, any.len), 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    (void)fcntl(fds[0], F_SETFL, O_NONBLOCK);
    (void)fcntl(fds[1], F_SETFL, O_NONBLOCK);
    close(listener);
}

static void take_tcp(struct rig_node *n, struct session_stream *st, struct str service)
{
    int fds[2];
    (void)service;
    tcp_pair(fds);
    n->peer_fd = fds[1];
    session_take(st, fds[0]);
}

/* The pending error of a socket, after the loopback has had its time. */
static int error_of(int fd)
{
    struct pollfd p = {fd, 0, 0};
    (void)poll(&p, 1, 1000);
    int error = 0;
    socklen_t n = sizeof error;
    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n);
    return error;
}

static void reset_close(int fd)
{
    struct linger at_once = {.l_onoff = 1};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

static struct session *tcp_stream(struct rig *r, int *ret_fd)
{
    struct session *s = rig_connect(r);
    int fds[2];
    r->nodes[1].serve = take_tcp;
    tcp_pair(fds);
    CHECK_INT(session_dial(s, STR("web"), fds[0], NULL), 0);
    CHECK(rig_run(r, 1000, rig_answered_one));
    *ret_fd = fds[1];
    return s;
}

TEST("a reset of the dialling socket is a reset of the other one")
{
    struct rig *r = rig_new();
    int fd;
    tcp_stream(r, &fd);
    reset_close(fd);
    rig_run(r, 200, NULL);
    CHECK_INT(error_of(r->nodes[1].peer_fd), ECONNRESET);
    rig_free(r);
}

TEST("a reset of the serving socket is a reset of the dialling one")
{
    struct rig *r = rig_new();
    int fd;
    struct session *s = tcp_stream(r, &fd);
    reset_close(r->nodes[1].peer_fd);
    r->nodes[1].peer_fd = -EBADF;
    rig_run(r, 200, NULL);
    CHECK_INT(error_of(fd), ECONNRESET);
    rig_run(r, 200, NULL);
    struct session_stats stats;
    session_stat(s, &stats);
    CHECK_INT(stats.streams, 0);
    close(fd);
    rig_free(r);
}

static bool may_not(void *ctx, const struct key *peer, struct str service)
{
    const struct key *expected = ctx;
    CHECK(key_equal(peer, expected));
    return !str_eq(service, STR("web"));
}

TEST("a stream that may be no more is a reset at both ends, and its session stays")
{
    struct rig *r = rig_new();
    int fd;
    struct session *s = tcp_stream(r, &fd);
    session_recheck(s, may_not, &r->nodes[1].id.key); /* it opened none */
    rig_run(r, 200, NULL);
    CHECK_INT(error_of(fd), 0);
    session_recheck(r->nodes[1].session, may_not, &r->nodes[0].id.key);
    rig_run(r, 400, NULL);
    CHECK_INT(error_of(fd), ECONNRESET);
    CHECK_INT(error_of(r->nodes[1].peer_fd), ECONNRESET);
    CHECK_INT(r->nodes[0].downs + r->nodes[1].downs, 0);
    struct session_stats stats;
    session_stat(s, &stats);
    CHECK_INT(stats.streams, 0);
    session_stat(r->nodes[1].session, &stats);
    CHECK_INT(stats.streams, 0);
    close(fd);
    rig_free(r);
}

TEST("who writes to a socket that was closed gets a reset, as without berth")
{
    struct rig *r = rig_new();
    int fd;
    tcp_stream(r, &fd);
    close(r->nodes[1].peer_fd);
    r->nodes[1].peer_fd = -EBADF;
    rig_run(r, 200, NULL);
    CHECK_INT(read(fd, (char[1]){0}, 1), 0);
    for (int i = 0; i < 5; i++) {
        (void)send(fd, "more", 4, MSG_NOSIGNAL);
        rig_run(r, 200, NULL);
    }
    CHECK(error_of(fd) != 0 || send(fd, "x", 1, MSG_NOSIGNAL) < 0);
    close(fd);
    rig_free(r);
}

TEST("a session that ends resets the sockets of its streams")
{
    struct rig *r = rig_new();
    int fd;
    struct session *s = tcp_stream(r, &fd);
    session_close(s, "Test");
    CHECK_INT(r->nodes[0].downs, 1);
    CHECK_INT(error_of(fd), ECONNRESET);
    rig_run(r, 200, NULL);
    CHECK_TEXT(r->nodes[1].reason, "peer closed: Test");
    CHECK_INT(error_of(r->nodes[1].peer_fd), ECONNRESET);
    close(fd);
    rig_free(r);
}

TEST("a stream that was offered may be answered after its session has ended")
{
    struct rig *r = rig_new();
    struct session *s = rig_connect(r);
    r->nodes[1].serve = rig_keep;
    int fd = rig_dial(s, "web");
    rig_run(r, 200, NULL);
    CHECK_INT(r->nodes[1].opens, 1);
    session_close(s, "Test");
    rig_run(r, 200, NULL);
    CHECK_INT(r->nodes[0].last_answer, STREAM_LOST);
    struct session_stream *st = r->nodes[1].offered;
    CHECK(session_of(st) == NULL);
    CHECK(key_equal(session_stream_peer(st), &r->nodes[0].id.key));
    rig_take(&r->nodes[1], st, STR(""));
    CHECK_INT(read(r->nodes[1].peer_fd, (char[1]){0}, 1), 0);
    close(fd);
    rig_free(r);
}

TEST("a stream that was offered and taken back by the peer may be answered")
{
    struct rig *r = rig_new();
    struct session *s = rig_connect(r);
    r->nodes[1].serve = rig_keep;
    int fds[2];
    tcp_pair(fds);
    CHECK_INT(session_dial(s, STR("web"), fds[0], NULL), 0);
    rig_run(r, 200, NULL);
    reset_close(fds[1]);
    rig_run(r, 200, NULL);
    CHECK_INT(r->nodes[0].last_answer, STREAM_GONE);
    session_refuse(r->nodes[1].offered, STREAM_UNREACHABLE);
    rig_run(r, 200, NULL);
    struct session_stats stats;
    session_stat(r->nodes[1].session, &stats);
    CHECK_INT(stats.streams, 0);
    rig_free(r);
}

TEST("an endpoint that goes away leaves nothing behind")
{
    struct rig *r = rig_new();
    struct session *s = rig_connect(r);
    r->nodes[1].serve = rig_keep;
    int fd = rig_dial(s, "web"), second = rig_dial(s, "web");
    rig_run(r, 200, NULL);
    endpoint_free(r->nodes[1].endpoint);
    r->nodes[1].endpoint = NULL;
    r->nodes[1].timer_ns = UINT64_MAX;
    CHECK_INT(read(fd, (char[1]){0}, 1), -1);
    rig_node_start(&r->nodes[1]);
    rig_run(r, 200, NULL);
    CHECK_TEXT(r->nodes[0].reason, "peer closed: Gone");
    close(fd);
    close(second);
    rig_free(r);
}

TEST("a peer that lost its memory says so, and the session ends at once")
{
    struct rig *r = rig_new();
    struct session *s = rig_connect(r);
    int fd = rig_dial(s, "web");
    rig_run(r, 200, NULL);
    /* Its goodbyes do not arrive: as after kill -9. */
    r->dead[0] = true;
    endpoint_free(r->nodes[1].endpoint);
    r->dead[0] = false;
    rig_node_start(&r->nodes[1]);
    put(fd, "are you there?");
    rig_run(r, 1000, NULL);
    CHECK_INT(r->nodes[0].downs, 1);
    CHECK_TEXT(r->nodes[0].reason, "the peer has forgotten this session");
    close(fd);
    rig_free(r);
}

TEST("a session without a word stays up by its pings, and ends when the path is dead")
{
    struct rig *r = rig_new();
    rig_connect(r);
    rig_run(r, 300000, NULL);
    CHECK_INT(r->nodes[0].downs, 0);
    r->dead[0] = true;
    rig_run(r, 200000, NULL);
    CHECK_INT(r->nodes[0].downs, 1);
    CHECK_INT(r->nodes[1].downs, 1);
    CHECK_TEXT(r->nodes[1].reason, "Silence");
    rig_free(r);
}

TEST("a session that is not kept alive ends by itself")
{
    struct rig *r = rig_new();
    struct session *s = rig_connect(r);
    session_keep_alive(s, 0);
    session_keep_alive(r->nodes[1].session, 0);
    rig_run(r, QUIC_IDLE_MS + 20000, NULL);
    CHECK_INT(r->nodes[0].downs, 1);
    CHECK_INT(r->nodes[1].downs, 1);
    rig_free(r);
}

TEST("nobody there: the session ends with a word after the time of a handshake")
{
    struct rig *r = rig_new();
    struct session *s;
    struct quic_path path = rig_path(&r->nodes[1], 0);
    r->dead[0] = true;
    CHECK_INT(session_connect(r->nodes[0].endpoint, &r->nodes[1].id.key, &path, &s), 0);
    CHECK(rig_run(r, 30000, down_0));
    CHECK_TEXT(r->nodes[0].reason, "no answer");
    rig_free(r);
}

TEST("a peer gets so many sessions and no more")
{
    struct rig *r = rig_new();
    struct quic_path path = rig_path(&r->nodes[1], 0);
    for (int i = 0; i < 18; i++) {
        struct session *s;
        CHECK_INT(session_connect(r->nodes[0].endpoint, &r->nodes[1].id.key, &path, &s), 0);
        rig_run(r, 200, NULL);
    }
    CHECK_INT(r->nodes[1].ups, 16);
    CHECK_INT(r->nodes[0].downs, 2);
    CHECK_TEXT(r->nodes[0].reason, "peer closed: Busy");
    rig_free(r);
}

TEST("every reason has its word")
{
    CHECK_TEXT(stream_reason_word(STREAM_TAKEN), "Taken");
    CHECK_TEXT(stream_reason_word(STREAM_MALFORMED), "Malformed");
    CHECK_TEXT(stream_reason_word(STREAM_LOST), "Lost");
    CHECK_TEXT(stream_reason_word(STREAM_RESET), "Reset");
    CHECK_TEXT(stream_reason_word(STREAM_GONE), "Gone");
    CHECK_TEXT(stream_reason_word(77), "Unknown");
}
