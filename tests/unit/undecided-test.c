/* LIMITS of connections whose name is not known, and the lines of LOG. */
#include "pool-rig.h"

static const struct dispatch_policy plain = {.state = DISPATCH_SERVE};

static void limits_tell(struct pool_rig *r, struct dispatch_limits limits)
{
    struct dispatchmsg m = {.type = DISPATCH_LIMITS, .limits = limits};
    CHECK_INT(rig_tell(r, &m, NULL, 0), 0);
    rig_commit(r);
}

static uint64_t refusals(struct pool_rig *r, enum reason reason)
{
    return board_get(&state_board(r->state)->reasons[reason]);
}

TEST("new times hold for those who wait already, too")
{
    struct pool_rig r;
    pool_open(&r, plain);
    CLEANUP_FD int silent = client_open(&r.at);
    CLEANUP_FD int begun = client_ask(&r.at, "GET / HT");
    EVENTUALLY(board_get(&state_board(r.state)->sniffing) == 2);
    limits_tell(&r, (struct dispatch_limits){.silence_ms = 50, .header_wait_ms = 50});
    client_expect_closed(silent);
    client_expect_closed(begun);
    limits_tell(&r, (struct dispatch_limits){0});
    pool_done(&r);
}

TEST("one address may hold only so many, and another one still gets in")
{
    struct pool_rig r;
    int clients[3];
    pool_open(&r, plain);
    rig_member(&r, 0, DISPATCH_SERVE);
    limits_tell(&r, (struct dispatch_limits){.per_source = 3});
    uint64_t before = refusals(&r, REASON_SOURCE_LIMIT);
    for (int i = 0; i < 3; i++)
        clients[i] = client_ask(&r.at, "GET");
    EVENTUALLY(board_get(&state_board(r.state)->sniffing) == 3);
    CLEANUP_FD int more = client_ask(&r.at, "GET");
    client_expect_closed(more);
    CHECK_INT(refusals(&r, REASON_SOURCE_LIMIT), before + 1);
    struct addr from;
    CHECK_INT(addr_parse("127.0.0.9:0", &from), 0);
    CLEANUP_FD int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(other, &from.sa, from.len), 0);
    CHECK_INT(connect(other, &r.at.sa, r.at.len), 0);
    client_say(other, STR(ASK));
    member_expect(&r, 0, other);
    /* Who is through counts no more. */
    clients_close(clients, 3);
    EVENTUALLY(board_get(&state_board(r.state)->sniffing) == 0);
    CLEANUP_FD int again = client_ask(&r.at, ASK);
    member_expect(&r, 0, again);
    limits_tell(&r, (struct dispatch_limits){0});
    pool_done(&r);
}

TEST("who needs more bytes than are looked at is told so")
{
    struct pool_rig r;
    pool_open(&r, plain);
    limits_tell(&r, (struct dispatch_limits){.sniff_bytes = 40});
    CLEANUP_FD int c = client_ask(&r.at, "GET / HTTP/1.1\r\nX: 012345678901234567890123456789");
    client_expect(c, "HTTP/1.1 431 ");
    limits_tell(&r, (struct dispatch_limits){0});
    pool_done(&r);
}

TEST("who speaks too slowly is let go, and who is fast enough is not")
{
    static const char start[] = "GET / HTTP/1.1\r\nX: ";
    static char much[4096];
    struct pool_rig r;
    memset(much, 'x', sizeof much);
    pool_open(&r, plain);
    limits_tell(&r, (struct dispatch_limits){.min_rate = 100});
    uint64_t before = refusals(&r, REASON_SLOW_HEADER);
    CLEANUP_FD int slow = client_ask(&r.at, start);
    CLEANUP_FD int fast = client_ask(&r.at, start);
    client_say(fast, (struct str){much, sizeof much});
    client_expect_closed(slow);
    CHECK_INT(refusals(&r, REASON_SLOW_HEADER), before + 1);
    CHECK(is_quiet(fast));
    limits_tell(&r, (struct dispatch_limits){0});
    pool_done(&r);
}

static void log_tell(struct pool_rig *r, enum dispatch_log kind, const int *fd)
{
    struct dispatchmsg m = {.type = DISPATCH_LOG, .id = kind};
    CHECK_INT(rig_tell(r, &m, fd, fd ? 1 : 0), 0);
    rig_commit(r);
}

static void line_read(int fd, char *buf, size_t size)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ssize_t n = poll(&p, 1, DEADLINE_MS) == 1 ? read(fd, buf, size - 1) : 0;
    buf[n > 0 ? n : 0] = 0;
}

TEST("each delivered connection is one line of the access log")
{
    struct pool_rig r;
    int pipe_fds[2];
    char line[1024], want[256], text[ADDR_TEXT_MAX];
    pool_open(&r, plain);
    CHECK_INT(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    log_tell(&r, DISPATCH_LOG_ACCESS, &pipe_fds[1]);
    CLEANUP_FD int parked = client_ask(&r.at, ASK);
    EVENTUALLY(board_get(&pool_board(&r, 0)->parked) == 1);
    CHECK(is_quiet(pipe_fds[0]));
    rig_member(&r, 0, DISPATCH_SERVE);
    rig_commit(&r);
    member_expect(&r, 0, parked);
    line_read(pipe_fds[0], line, sizeof line);
    struct addr peer = rig_address(parked);
    (void)snprintf(want, sizeof want, "app=shop peer=%s ", addr_format(&peer, text));
    CHECK(strstr(line, want) == line + 25);
    CHECK(strstr(line, " proto=http host=a.test bytes=- ms=") && strstr(line, " outcome=parked\n"));
    CLEANUP_FD int direct = client_ask(&r.at, ASK);
    member_expect(&r, 0, direct);
    line_read(pipe_fds[0], line, sizeof line);
    CHECK(strstr(line, " queue=1 outcome=delivered\n") != NULL);
    log_tell(&r, DISPATCH_LOG_ACCESS, NULL);
    clients_close(pipe_fds, 2);
    pool_done(&r);
}

TEST("each refused connection is one line of the refusal log, its reason first")
{
    struct pool_rig r;
    int pipe_fds[2];
    char line[1024];
    pool_open(&r, (struct dispatch_policy){.state = DISPATCH_REFUSE, .reason = REASON_RAPID_FAIL});
    CHECK_INT(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    log_tell(&r, DISPATCH_LOG_REFUSAL, &pipe_fds[1]);
    CLEANUP_FD int c = client_ask(&r.at, ASK);
    client_expect(c, "HTTP/1.1 503 ");
    line_read(pipe_fds[0], line, sizeof line);
    CHECK(strstr(line, "Z reason=RapidFail peer=127.0.0.1:") == line + 23);
    CHECK(strstr(line, " host=a.test app=shop\n") != NULL);
    log_tell(&r, DISPATCH_LOG_REFUSAL, NULL);
    clients_close(pipe_fds, 2);
    pool_done(&r);
}

TEST("a log that nobody reads loses lines and no connection")
{
    enum { COUNT = 1500 };
    struct pool_rig r;
    int pipe_fds[2];
    pool_open(&r, plain);
    rig_member(&r, 0, DISPATCH_SERVE);
    CHECK_INT(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    CHECK(fcntl(pipe_fds[1], F_SETPIPE_SZ, 4096) > 0);
    log_tell(&r, DISPATCH_LOG_ACCESS, &pipe_fds[1]);
    for (int i = 0; i < COUNT; i++) {
        CLEANUP_FD int c = client_ask(&r.at, ASK);
        struct passed got;
        CHECK(passed_take(r.member[0][1], &got));
        (void)fd_close(got.fd);
    }
    CHECK(board_get(&state_board(r.state)->lines_lost) > 0);
    log_tell(&r, DISPATCH_LOG_ACCESS, NULL);
    clients_close(pipe_fds, 2);
    pool_done(&r);
}
