/* Pools with limits: who is least busy by what the kernel says, how many may be open and how many
 * may wait, and for how long. */
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "pool-rig.h"

static const struct dispatch_policy plain = {.state = DISPATCH_SERVE};

/* As pool_open(), with members that serve, and with the kernel's word for what is open. */
static void open_with(struct pool_rig *r, struct dispatch_policy policy, int members)
{
    int diag[2];
    pool_open(r, policy);
    for (int i = 0; i < 2; i++)
        diag[i] = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    CHECK_INT(rig_tell(r, &(struct dispatchmsg){.type = DISPATCH_DIAG}, diag, 2), 0);
    clients_close(diag, 2);
    for (int i = 0; i < members; i++)
        rig_member(r, i, DISPATCH_SERVE);
    rig_commit(r);
}

static int take_from(struct pool_rig *r, int n)
{
    struct passed got;
    CHECK(passed_take(r->member[n][1], &got));
    return got.fd;
}

/* The member that the next connection came to. */
static int taker(struct pool_rig *r, int members)
{
    struct pollfd p[MEMBERS];
    for (int i = 0; i < members; i++)
        p[i] = (struct pollfd){.fd = r->member[i][1], .events = POLLIN};
    CHECK(poll(p, (nfds_t)members, DEADLINE_MS) > 0);
    for (int i = 0; i < members; i++)
        if (p[i].revents)
            return i;
    return 0;
}

static bool is_from(int server, int client)
{
    struct addr want = rig_address(client), peer;
    socklen_t len = sizeof peer.un;
    if (getpeername(server, &peer.sa, &len) < 0)
        return false;
    peer = addr_from(&peer.sa, len);
    return addr_equal(&peer, &want);
}

TEST("nobody is given a connection while another member has nothing to do")
{
    enum { ROUNDS = 50 };
    struct pool_rig r;
    open_with(&r, plain, 3);
    int held[2], clients[2];
    for (int i = 0; i < 2; i++) {
        clients[i] = client_ask(&r.at, ASK);
        held[i] = take_from(&r, i);
    }
    /* Two keep theirs: all others go to the third, which closes them at once. The client sees the
     * end when dispatch has closed its copy, too. */
    for (int i = 0; i < ROUNDS; i++) {
        CLEANUP_FD int c = client_ask(&r.at, ASK);
        int n = taker(&r, 3), s = take_from(&r, n);
        CHECK(is_from(s, c));
        CHECK_INT(n, 2);
        (void)fd_close(s);
        client_expect_closed(c);
    }
    clients_close(held, 2);
    clients_close(clients, 2);
    EVENTUALLY(board_get(&pool_board(&r, 1)->open) == 0);
    EVENTUALLY(board_get(&pool_board(&r, 3)->open) == 0);
    pool_done(&r);
}

TEST("who comes while all have enough to take is parked, and goes to who takes first, in order")
{
    enum { EACH = 16, BOTH = 2 * EACH, CLIENTS = BOTH + 10 };
    struct pool_rig r;
    int clients[CLIENTS], held[CLIENTS];
    open_with(&r, plain, 2);
    for (size_t i = 0; i < BOTH; i++) {
        clients[i] = client_ask(&r.at, ASK);
        EVENTUALLY(board_get(&pool_board(&r, 1 + i % 2)->open) == i / 2 + 1);
    }
    pool_park(&r, clients + BOTH, CLIENTS - BOTH);
    /* The first member takes nothing: it keeps those that it was given, and gets no more. */
    for (int i = 1; i < CLIENTS; i += i < BOTH - 1 ? 2 : 1) {
        held[i] = take_from(&r, 1);
        CHECK(is_from(held[i], clients[i]));
    }
    EVENTUALLY(board_get(&pool_board(&r, 0)->parked) == 0);
    CHECK_INT(board_get(&pool_board(&r, 1)->open), EACH);
    for (int i = 0; i < BOTH; i += 2)
        held[i] = take_from(&r, 0);
    clients_close(held, CLIENTS);
    clients_close(clients, CLIENTS);
    pool_done(&r);
}

TEST("a member alone is given all that come")
{
    enum { CLIENTS = 12 };
    struct pool_rig r;
    int clients[CLIENTS];
    open_with(&r, plain, 1);
    for (size_t i = 0; i < CLIENTS; i++)
        clients[i] = client_ask(&r.at, ASK);
    EVENTUALLY(board_get(&pool_board(&r, 1)->open) == CLIENTS);
    CHECK_INT(board_get(&pool_board(&r, 0)->parked), 0);
    for (size_t i = 0; i < CLIENTS; i++)
        (void)fd_close(take_from(&r, 0));
    clients_close(clients, CLIENTS);
    pool_done(&r);
}

TEST("what was open before this dispatch began is counted when berthd tells of it")
{
    struct pool_rig r;
    open_with(&r, plain, 2);
    /* A connection that is the first member's, from elsewhere. */
    struct addr at;
    CLEANUP_FD int l = rig_socket(&at);
    CLEANUP_FD int c = client_open(&at);
    CHECK(waits(l));
    int s = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    struct dispatchmsg m = {.type = DISPATCH_OPEN, .queue = 1, .addr = at, .peer = rig_address(c)};
    socklen_t len = sizeof m.cookie;
    CHECK_INT(getsockopt(s, SOL_SOCKET, SO_COOKIE, &m.cookie, &len), 0);
    CHECK_INT(rig_tell(&r, &m, NULL, 0), 0);
    CHECK_INT(board_get(&pool_board(&r, 1)->open), 1);
    for (int i = 0; i < 10; i++) {
        CLEANUP_FD int client = client_ask(&r.at, ASK);
        (void)fd_close(take_from(&r, 1));
        client_expect_closed(client);
    }
    CHECK_INT(board_get(&pool_board(&r, 1)->open), 1);
    (void)fd_close(s);
    EVENTUALLY(board_get(&pool_board(&r, 1)->open) == 0);
    pool_done(&r);
}

TEST("what is taken back is no longer counted to who had it")
{
    struct pool_rig r;
    open_with(&r, plain, 1);
    CLEANUP_FD int c = client_ask(&r.at, ASK);
    CHECK(waits(r.member[0][1]));
    EVENTUALLY(board_get(&pool_board(&r, 1)->open) == 1);
    rig_member(&r, 1, DISPATCH_SERVE);
    rig_member(&r, 0, DISPATCH_HOLD);
    rig_commit(&r);
    CHECK_INT(board_get(&pool_board(&r, 1)->open), 0);
    CHECK_INT(board_get(&pool_board(&r, 2)->open), 1);
    (void)fd_close(take_from(&r, 1));
    EVENTUALLY(board_get(&pool_board(&r, 2)->open) == 0);
    pool_done(&r);
}

TEST("beyond its limit of open connections a pool pauses, and goes on when one is closed")
{
    struct pool_rig r;
    int clients[4], held[4];
    open_with(&r, (struct dispatch_policy){.connections = 2}, 2);
    for (int i = 0; i < 2; i++) {
        clients[i] = client_ask(&r.at, ASK);
        held[i] = take_from(&r, i);
    }
    pool_park(&r, clients + 2, 2);
    CHECK(is_quiet(r.member[0][1]) && is_quiet(r.member[1][1]));
    for (int i = 0; i < 2; i++) {
        (void)fd_close(held[i]);
        held[2 + i] = take_from(&r, i);
        CHECK(is_from(held[2 + i], clients[2 + i]));
    }
    clients_close(held + 2, 2);
    clients_close(clients, 4);
    pool_done(&r);
}

/* A client with an address of its own in 127.0.0.0/8. */
static int client_from(const struct addr *to, const char *source)
{
    struct addr a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(addr_parse(source, &a), 0);
    CHECK_INT(bind(fd, &a.sa, a.len), 0);
    CHECK_INT(connect(fd, &to->sa, to->len), 0);
    client_say(fd, STR(ASK));
    return fd;
}

TEST("who has as many open as one address may holds up nobody else")
{
    struct pool_rig r;
    open_with(&r, (struct dispatch_policy){.per_source = 1}, 1);
    CLEANUP_FD int a = client_from(&r.at, "127.0.0.11:0");
    int held = take_from(&r, 0);
    CLEANUP_FD int again = client_from(&r.at, "127.0.0.11:0");
    EVENTUALLY(board_get(&pool_board(&r, 0)->parked) == 1);
    for (int i = 0; i < 3; i++) {
        CLEANUP_FD int other = client_from(&r.at, "127.0.0.12:0");
        CLEANUP_FD int s = take_from(&r, 0);
        CHECK(is_from(s, other));
        (void)fd_close(fd_take(&s));
        EVENTUALLY(board_get(&pool_board(&r, 1)->open) == 1);
    }
    CHECK_INT(board_get(&pool_board(&r, 0)->parked), 1);
    (void)fd_close(held);
    CLEANUP_FD int s = take_from(&r, 0);
    CHECK(is_from(s, again));
    EVENTUALLY(board_get(&pool_board(&r, 0)->parked) == 0);
    pool_done(&r);
}

TEST("beyond the length of the queue a client is told 503, or reset")
{
    struct pool_rig r;
    int clients[3];
    open_with(&r, (struct dispatch_policy){.length = 3, .retry_s = 9}, 0);
    pool_park(&r, clients, 3);
    CLEANUP_FD int c = client_ask(&r.at, ASK);
    char buf[1024] = "";
    int err;
    (void)read_all(c, buf, sizeof buf - 1, &err);
    CHECK(strstr(buf, "HTTP/1.1 503 ") == buf && strstr(buf, "\r\nRetry-After: 9\r\n"));
    CHECK(strstr(buf, "QueueFull") != NULL);
    rig_base(&r, (struct dispatch_policy){.length = 3, .overflow = DISPATCH_RESET_TCP}, false);
    rig_commit(&r);
    CLEANUP_FD int reset = client_ask(&r.at, ASK);
    CHECK_INT(recv(reset, buf, 1, 0), -1);
    CHECK_INT(errno, ECONNRESET);
    clients_close(clients, 3);
    pool_done(&r);
}

TEST("those count as waiting that a member has not taken")
{
    struct pool_rig r;
    int clients[3];
    open_with(&r, (struct dispatch_policy){.length = 3}, 1);
    for (int i = 0; i < 3; i++) {
        clients[i] = client_ask(&r.at, ASK);
        EVENTUALLY(board_get(&pool_board(&r, 1)->open) == (uint64_t)i + 1);
    }
    CLEANUP_FD int c = client_ask(&r.at, ASK);
    client_expect(c, "HTTP/1.1 503 ");
    (void)fd_close(take_from(&r, 0));
    CLEANUP_FD int again = client_ask(&r.at, ASK);
    for (int i = 0; i < 3; i++)
        (void)fd_close(take_from(&r, 0));
    clients_close(clients, 3);
    pool_done(&r);
}

TEST("who has waited too long is told to come again, if that can be told")
{
    struct pool_rig r;
    open_with(&r, plain, 0);
    rig_claim(&r, 2, "redis://", 0);
    struct dispatchmsg m = {
        .type = DISPATCH_CLAIM, .id = 2, .queue = 0, .addr = r.at, .route = STR("redis://")};
    CHECK_INT(rig_tell(&r, &m, NULL, 0), 0);
    rig_base(&r, (struct dispatch_policy){.patience_ms = 300, .retry_s = 5}, false);
    rig_commit(&r);
    CLEANUP_FD int redis = client_ask(&r.at, "*1\r\n$4\r\nPING\r\n");
    EVENTUALLY(board_get(&pool_board(&r, 0)->parked) == 1);
    uint64_t start = clock_now_ms();
    CLEANUP_FD int http = client_ask(&r.at, ASK);
    char buf[1024] = "";
    int err;
    (void)read_all(http, buf, sizeof buf - 1, &err);
    CHECK(clock_now_ms() >= start + 290);
    CHECK(strstr(buf, "HTTP/1.1 503 ") == buf && strstr(buf, "\r\nRetry-After: 5\r\n"));
    CHECK(strstr(buf, "Patience") != NULL);
    CHECK_INT(board_get(&pool_board(&r, 0)->parked), 1);
    CHECK(is_quiet(redis));
    rig_member(&r, 0, DISPATCH_SERVE);
    rig_commit(&r);
    CLEANUP_FD int s = take_from(&r, 0);
    CHECK(is_from(s, redis));
    pool_done(&r);
}

TEST("patience ends for the early ones, and the others keep their order")
{
    enum { EARLY = 3, LATE = 3 };
    struct pool_rig r;
    int clients[EARLY + LATE];
    open_with(&r, (struct dispatch_policy){.patience_ms = 400}, 0);
    rig_claim(&r, 2, "redis://", 0);
    rig_commit(&r);
    pool_park(&r, clients, EARLY);
    uint64_t start = clock_now_ms();
    EVENTUALLY(clock_now_ms() >= start + 250);
    pool_park(&r, clients + EARLY, LATE);
    for (int i = 0; i < EARLY; i++)
        client_expect(clients[i], "HTTP/1.1 503 ");
    CHECK_INT(board_get(&pool_board(&r, 0)->parked), LATE);
    rig_base(&r, plain, false);
    rig_member(&r, 0, DISPATCH_SERVE);
    rig_commit(&r);
    for (int i = 0; i < LATE; i++)
        member_expect(&r, 0, clients[EARLY + i]);
    clients_close(clients, EARLY + LATE);
    pool_done(&r);
}

TEST("who came alone to its port and was parked unheard is heard when patience ends")
{
    struct pool_rig r;
    open_with(&r, (struct dispatch_policy){.patience_ms = 200}, 0);
    rig_drop(&r, DISPATCH_DROP_CLAIM, 1);
    rig_commit(&r);
    CLEANUP_FD int c = client_ask(&r.at, ASK);
    client_expect(c, "HTTP/1.1 503 ");
    pool_done(&r);
}

TEST("a queue of its own with a limit lets wait, too")
{
    struct pool_rig r;
    int pair[2];
    open_with(&r, plain, 0);
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    struct dispatchmsg m = {
        .type = DISPATCH_QUEUE, .id = 10, .policy = {.connections = 1}, .note = STR("")};
    CHECK_INT(rig_tell(&r, &m, pair, 2), 0);
    m = (struct dispatchmsg){
        .type = DISPATCH_CLAIM, .id = 5, .queue = 10, .addr = r.at, .route = STR("http://s.test/")};
    CHECK_INT(rig_tell(&r, &m, NULL, 0), 0);
    rig_commit(&r);
    static const char ask[] = "GET / HTTP/1.1\r\nHost: s.test\r\n\r\n";
    struct passed got;
    CLEANUP_FD int a = client_ask(&r.at, ask);
    CHECK(passed_take(pair[1], &got));
    CLEANUP_FD int b = client_ask(&r.at, ask);
    EVENTUALLY(board_get(&state_board(r.state)->waiting) == 1);
    CHECK(is_quiet(pair[1]));
    (void)fd_close(got.fd);
    CHECK(passed_take(pair[1], &got));
    CHECK(is_from(got.fd, b));
    (void)fd_close(got.fd);
    rig_drop(&r, DISPATCH_DROP_QUEUE, 10);
    clients_close(pair, 2);
    pool_done(&r);
}
