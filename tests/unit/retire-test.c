/* A dispatch whose successor has taken over: it accepts nothing more, and finishes what it has. */
#include "pool-rig.h"

/* Dispatch is no use afterwards, so this is one test. */
TEST("a dispatch that retires leaves what comes to its successor and finishes what it has")
{
    struct pool_rig r;
    pool_open(&r, (struct dispatch_policy){.state = DISPATCH_SERVE});
    CLEANUP_FD int begun = client_ask(&r.at, "GET / HTTP/1.1\r\n");
    EVENTUALLY(board_get(&state_board(r.state)->sniffing) == 1);
    CHECK(!state_is_retiring(r.state) && !state_retire(r.state, r.channel[0]));
    CHECK_INT(rig_tell(&r, &(struct dispatchmsg){.type = DISPATCH_RETIRE}, NULL, 0), 0);
    CHECK(state_is_retiring(r.state) && !state_retire(r.state, r.channel[0]));
    /* It waits in the backlog, which is the successor's as well. */
    uint64_t accepted = board_get(&state_board(r.state)->accepted);
    CLEANUP_FD int late = client_ask(&r.at, ASK);
    client_say(begun, STR("Host: a.test\r\n\r\n"));
    bool done = false;
    EVENTUALLY(done || (done = state_retire(r.state, r.channel[0])));
    CHECK_INT(board_get(&state_board(r.state)->accepted), accepted);
    static uint8_t buf[DISPATCHMSG_MAX];
    struct dispatchmsg m;
    ssize_t n = recv(r.channel[1], buf, sizeof buf, MSG_DONTWAIT);
    CHECK_INT(dispatchmsg_decode(&m, buf, n > 0 ? (size_t)n : 0), 0);
    CHECK_INT(m.type, DISPATCH_RETIRED);
    /* What it had is parked, and stays so: the successor moves it on. */
    rig_member(&r, 0, DISPATCH_SERVE);
    rig_commit(&r);
    CHECK(is_quiet(r.member[0][1]));
    CHECK(!is_quiet(r.base[1]));
    /* The successor takes over the same listener and the same base queue. */
    struct state *next = state_new(&(struct state_config){.threads = 2, .limits = patient});
    r.state = next;
    rig_base(&r, (struct dispatch_policy){.state = DISPATCH_SERVE}, true);
    r.member[0][0] = fd_close(r.member[0][0]);
    r.member[0][1] = fd_close(r.member[0][1]);
    rig_member(&r, 0, DISPATCH_SERVE);
    rig_commit(&r);
    member_expect(&r, 0, begun);
    CHECK(is_quiet(late));
    pool_done(&r);
}
