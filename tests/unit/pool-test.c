/* Pools, as berthd tells of them: members that serve, hold and go, and what is parked meanwhile. */
#include "pool-rig.h"

static const struct dispatch_policy plain = {.state = DISPATCH_SERVE};

TEST("members of a pool take turns")
{
    struct pool_rig r;
    int clients[6];
    pool_open(&r, plain);
    for (int i = 0; i < 3; i++)
        rig_member(&r, i, DISPATCH_SERVE);
    rig_commit(&r);
    for (int i = 0; i < 6; i++)
        clients[i] = client_ask(&r.at, ASK);
    for (int i = 0; i < 6; i++) {
        struct passed got;
        CHECK(passed_take(r.member[i % 3][1], &got));
        CHECK_INT(got.msg.proto, PROTO_HTTP);
        (void)fd_close(got.fd);
    }
    clients_close(clients, 6);
    pool_done(&r);
}

TEST("without a member connections are parked where berthd sees them, and move on in order")
{
    enum { CLIENTS = 100 };
    struct pool_rig r;
    int clients[CLIENTS];
    pool_open(&r, plain);
    CHECK(is_quiet(r.base[1]));
    pool_park(&r, clients, CLIENTS);
    CHECK(!is_quiet(r.base[1]));
    CHECK_INT(board_get(&state_board(r.state)->sniffing), 0);
    rig_member(&r, 0, DISPATCH_SERVE);
    rig_commit(&r);
    for (size_t i = 0; i < CLIENTS; i++)
        member_expect(&r, 0, clients[i]);
    EVENTUALLY(board_get(&pool_board(&r, 0)->parked) == 0);
    CHECK(is_quiet(r.base[1]));
    clients_close(clients, CLIENTS);
    pool_done(&r);
}

TEST("more than fit into the base queue wait in dispatch, and none is lost")
{
    enum { CLIENTS = 60 };
    struct pool_rig r;
    int clients[CLIENTS], small = 1;
    pool_open(&r, plain);
    CHECK_INT(setsockopt(r.base[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    struct board *b = state_board(r.state);
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = client_ask(&r.at, ASK);
        EVENTUALLY(board_get(&pool_board(&r, 0)->parked) + board_get(&b->waiting) == i + 1);
    }
    CHECK(board_get(&b->waiting) > 0 && board_get(&pool_board(&r, 0)->parked) > 0);
    rig_member(&r, 0, DISPATCH_SERVE);
    rig_commit(&r);
    for (size_t i = 0; i < CLIENTS; i++) {
        struct passed got;
        CHECK(passed_take(r.member[0][1], &got));
        (void)fd_close(got.fd);
    }
    EVENTUALLY(board_get(&b->waiting) == 0);
    clients_close(clients, CLIENTS);
    pool_done(&r);
}

TEST("a member without room is passed over, and when none has room they are parked until one has")
{
    enum { CLIENTS = 60 };
    struct pool_rig r;
    int clients[CLIENTS], small = 1;
    pool_open(&r, plain);
    for (int i = 0; i < 2; i++) {
        rig_member(&r, i, DISPATCH_SERVE);
        CHECK_INT(setsockopt(r.member[i][0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small), 0);
    }
    rig_commit(&r);
    for (size_t i = 0; i < CLIENTS; i++) {
        struct board_queue *q = pool_board(&r, 0);
        uint64_t before = board_get(&q->parked) + board_get(&q->delivered);
        clients[i] = client_ask(&r.at, ASK);
        EVENTUALLY(board_get(&q->parked) + board_get(&q->delivered) > before);
    }
    CHECK(board_get(&pool_board(&r, 0)->parked) > 0);
    size_t came = 0;
    for (int turn = 0; came < CLIENTS && turn < 2 * CLIENTS; turn++) {
        struct passed got;
        if (is_quiet(r.member[turn % 2][1]) && !is_quiet(r.member[(turn + 1) % 2][1]))
            continue;
        if (!passed_take(r.member[turn % 2][1], &got))
            break;
        (void)fd_close(got.fd);
        came++;
    }
    CHECK_INT(came, CLIENTS);
    clients_close(clients, CLIENTS);
    pool_done(&r);
}

TEST("a member that holds gets nothing new, and what it has not taken goes to another")
{
    struct pool_rig r;
    int clients[3];
    pool_open(&r, plain);
    rig_member(&r, 0, DISPATCH_SERVE);
    rig_commit(&r);
    for (size_t i = 0; i < 2; i++) {
        clients[i] = client_ask(&r.at, ASK);
        EVENTUALLY(board_get(&pool_board(&r, 1)->delivered) >= i + 1);
    }
    CHECK(waits(r.member[0][1]));
    rig_member(&r, 1, DISPATCH_SERVE);
    rig_member(&r, 0, DISPATCH_HOLD);
    rig_commit(&r);
    CHECK(is_quiet(r.member[0][1]));
    clients[2] = client_ask(&r.at, ASK);
    for (size_t i = 0; i < 3; i++)
        member_expect(&r, 1, clients[i]);
    CHECK(is_quiet(r.member[0][1]));
    clients_close(clients, 3);
    pool_done(&r);
}

TEST("what a member leaves behind when it is dropped comes before those parked meanwhile")
{
    enum { EARLY = 5, LATE = 5 };
    struct pool_rig r;
    int clients[EARLY + LATE];
    pool_open(&r, plain);
    rig_member(&r, 0, DISPATCH_SERVE);
    rig_commit(&r);
    uint64_t delivered = board_get(&pool_board(&r, 1)->delivered);
    for (size_t i = 0; i < EARLY; i++) {
        clients[i] = client_ask(&r.at, ASK);
        EVENTUALLY(board_get(&pool_board(&r, 1)->delivered) == delivered + i + 1);
    }
    /* It serves no more in the snapshot, but keeps what it has: as if others were parked in the
     * moment before it is emptied. */
    rig_member(&r, 0, DISPATCH_HOLD);
    rig_commit(&r);
    CHECK_INT(board_get(&pool_board(&r, 0)->parked), EARLY);
    pool_park(&r, clients + EARLY, LATE);
    rig_drop(&r, DISPATCH_DROP_QUEUE, 1);
    rig_commit(&r);
    r.member[0][0] = fd_close(r.member[0][0]);
    r.member[0][1] = fd_close(r.member[0][1]);
    rig_member(&r, 1, DISPATCH_SERVE);
    rig_commit(&r);
    for (size_t i = 0; i < EARLY + LATE; i++)
        member_expect(&r, 1, clients[i]);
    clients_close(clients, EARLY + LATE);
    pool_done(&r);
}

TEST("a pool that refuses says why, to those who come and to those who are parked")
{
    struct pool_rig r;
    int clients[3];
    pool_open(&r, plain);
    pool_park(&r, clients, 2);
    struct dispatch_policy paused = {
        .state = DISPATCH_REFUSE, .reason = REASON_RAPID_FAIL, .retry_s = 7};
    uint64_t refused = board_get(&pool_board(&r, 0)->refused);
    uint64_t counted = board_get(&state_board(r.state)->reasons[REASON_RAPID_FAIL]);
    rig_base(&r, paused, false);
    rig_commit(&r);
    clients[2] = client_ask(&r.at, ASK);
    for (size_t i = 0; i < 3; i++) {
        char buf[1024] = "";
        int err;
        (void)read_all(clients[i], buf, sizeof buf - 1, &err);
        CHECK(strstr(buf, "HTTP/1.1 503 ") == buf);
        CHECK(strstr(buf, "\r\nRetry-After: 7\r\n") != NULL);
        CHECK(strstr(buf, "RapidFail") != NULL);
    }
    CHECK_INT(board_get(&pool_board(&r, 0)->refused), refused + 3);
    CHECK_INT(board_get(&state_board(r.state)->reasons[REASON_RAPID_FAIL]), counted + 3);
    CHECK_INT(board_get(&pool_board(&r, 0)->parked), 0);
    clients_close(clients, 3);
    rig_base(&r, plain, false);
    rig_member(&r, 0, DISPATCH_SERVE);
    rig_commit(&r);
    CLEANUP_FD int c = client_ask(&r.at, ASK);
    member_expect(&r, 0, c);
    pool_done(&r);
}

TEST("a pool alone on its port that refuses hears the client out before it answers")
{
    struct pool_rig r;
    pool_open(&r, plain);
    rig_drop(&r, DISPATCH_DROP_CLAIM, 1);
    rig_base(&r, (struct dispatch_policy){.state = DISPATCH_REFUSE, .status = 418}, false);
    rig_commit(&r);
    CLEANUP_FD int c = client_open(&r.at);
    EVENTUALLY(board_get(&state_board(r.state)->sniffing) == 1);
    client_say(c, STR(ASK));
    client_expect(c, "HTTP/1.1 418 ");
    pool_done(&r);
}

TEST("what is parked in a base queue that is dropped is refused")
{
    struct pool_rig r;
    int clients[3];
    pool_open(&r, plain);
    pool_park(&r, clients, 3);
    rig_drop(&r, DISPATCH_DROP_CLAIM, 0);
    rig_drop(&r, DISPATCH_DROP_QUEUE, 0);
    rig_commit(&r);
    for (size_t i = 0; i < 3; i++)
        client_expect(clients[i], "HTTP/1.1 503 ");
    clients_close(clients, 3);
    pool_done(&r);
}

TEST("a reserved name that nobody serves answers for itself")
{
    struct pool_rig r;
    pool_open(&r, plain);
    CLEANUP_FD int c = client_ask(&r.at, "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n");
    client_expect(c, "HTTP/1.1 410 Gone");
    rig_claim(&r, 2, "http://*/", 0);
    rig_commit(&r);
    CLEANUP_FD int again = client_ask(&r.at, "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n");
    client_expect(again, "HTTP/1.1 410 Gone");
    /* Alone on its port it does not answer for other names. */
    rig_drop(&r, DISPATCH_DROP_CLAIM, 0);
    rig_drop(&r, DISPATCH_DROP_CLAIM, 2);
    rig_commit(&r);
    CLEANUP_FD int other = client_ask(&r.at, "GET / HTTP/1.1\r\nHost: c.test\r\n\r\n");
    client_expect(other, "HTTP/1.1 404 ");
    CLEANUP_FD int own = client_ask(&r.at, "GET / HTTP/1.1\r\nHost: b.test\r\n\r\n");
    client_expect(own, "HTTP/1.1 410 ");
    pool_done(&r);
}

TEST("the next dispatch finds what its predecessor parked, and counts it")
{
    enum { CLIENTS = 7 };
    struct pool_rig r;
    int clients[CLIENTS];
    pool_open(&r, plain);
    pool_park(&r, clients, CLIENTS);
    /* Told anew, as by berthd to a dispatch that knows nothing. */
    rig_base(&r, plain, true);
    CHECK_INT(board_get(&pool_board(&r, 0)->parked), CLIENTS);
    rig_member(&r, 0, DISPATCH_SERVE);
    rig_commit(&r);
    for (size_t i = 0; i < CLIENTS; i++)
        member_expect(&r, 0, clients[i]);
    clients_close(clients, CLIENTS);
    pool_done(&r);
}

TEST("a new berthd gets kind, base, policy and name back as they were given")
{
    struct pool_rig r;
    pool_open(&r, (struct dispatch_policy){.length = 10, .retry_s = 3, .patience_ms = 4000});
    rig_member(&r, 0, DISPATCH_HOLD);
    rig_commit(&r);
    CHECK_INT(rig_tell(&r, &(struct dispatchmsg){.type = DISPATCH_RECOVER}, NULL, 0), 0);
    for (uint32_t i = 0; i < 2; i++) {
        static uint8_t buf[DISPATCHMSG_MAX];
        struct dispatchmsg m;
        int fds[4];
        size_t count = 0;
        ssize_t n = fdmsg_recv(r.channel[1], buf, sizeof buf, fds, 4, &count, MSG_DONTWAIT);
        CHECK_INT(dispatchmsg_decode(&m, buf, n > 0 ? (size_t)n : 0), 0);
        CHECK_INT(m.type, DISPATCH_QUEUE);
        CHECK_INT(m.id, i);
        CHECK_INT(m.flags, i ? DISPATCH_MEMBER : DISPATCH_POOL);
        CHECK_INT(m.policy.length, i ? 0 : 10);
        CHECK_INT(m.policy.patience_ms, i ? 0 : 4000);
        CHECK_INT(m.policy.state, i ? DISPATCH_HOLD : DISPATCH_SERVE);
        CHECK_STR(m.name, i ? "" : "shop");
        clients_close(fds, count);
    }
    pool_done(&r);
}
