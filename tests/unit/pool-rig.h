#pragma once
/* A pool as berthd tells of it: a listener, a base queue of number 0 with one claim, members from
 * number 1 on. One dispatch with two threads for all tests of a program; each leaves it empty. */

#include "dispatchd/state.h"
#include "share/reason.h"
#include "worker-rig.h"

#include <fcntl.h>

#define ASK "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"

enum { MEMBERS = 4 };

struct pool_rig {
    struct state *state;
    int channel[2]; /* dispatch's end, berthd's end */
    struct addr at;
    int base[2];            /* berthd's copies: writing end, reading end */
    int member[MEMBERS][2]; /* likewise; the reading end is the program's, too */
};

static inline int rig_tell(struct pool_rig *r, const struct dispatchmsg *m, const int *fds,
                           size_t fd_count)
{
    int copies[2] = {-EBADF, -EBADF};
    for (size_t i = 0; i < fd_count; i++)
        copies[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
    return state_handle_consume(r->state, r->channel[0], m, copies, fd_count);
}

static inline void rig_commit(struct pool_rig *r)
{
    uint8_t buf[DISPATCHMSG_MAX];
    CHECK_INT(rig_tell(r, &(struct dispatchmsg){.type = DISPATCH_COMMIT, .id = 1}, NULL, 0), 0);
    CHECK(recv(r->channel[1], buf, sizeof buf, MSG_DONTWAIT) > 0);
}

static inline void rig_base(struct pool_rig *r, struct dispatch_policy policy, bool fresh)
{
    struct dispatchmsg m = {.type = DISPATCH_QUEUE,
                            .flags = DISPATCH_POOL,
                            .policy = policy,
                            .name = STR("shop"),
                            .note = STR("")};
    CHECK_INT(rig_tell(r, &m, r->base, fresh ? 2 : 0), 0);
}

static inline void rig_member(struct pool_rig *r, int n, enum dispatch_queue_state state)
{
    bool fresh = r->member[n][0] < 0;
    if (fresh)
        CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, r->member[n]), 0);
    struct dispatchmsg m = {.type = DISPATCH_QUEUE,
                            .id = 1 + (uint32_t)n,
                            .flags = DISPATCH_MEMBER,
                            .policy = {.state = (uint8_t)state},
                            .note = STR("")};
    CHECK_INT(rig_tell(r, &m, r->member[n], fresh ? 2 : 0), 0);
}

static inline void rig_drop(struct pool_rig *r, enum dispatchmsg_type type, uint32_t id)
{
    CHECK_INT(rig_tell(r, &(struct dispatchmsg){.type = type, .id = id}, NULL, 0), 0);
}

static inline void rig_claim(struct pool_rig *r, uint32_t id, const char *route, uint16_t refuse)
{
    struct dispatchmsg m = {.type = DISPATCH_CLAIM,
                            .id = id,
                            .app = id,
                            .queue = refuse ? UINT32_MAX : 0,
                            .addr = r->at,
                            .route = str_of(route),
                            .refuse = refuse};
    CHECK_INT(rig_tell(r, &m, NULL, 0), 0);
}

static inline struct state *rig_state(void)
{
    static struct state *state;
    if (!state) {
        log_init("unit", LOG_ERROR);
        state = state_new(&(struct state_config){.threads = 2, .limits = patient});
        CHECK(state != NULL);
    }
    return state;
}

/* Two routes, so that bytes decide: http://a.test/ is the pool's, b.test is reserved. */
static inline void pool_open(struct pool_rig *r, struct dispatch_policy policy)
{
    r->state = rig_state();
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, r->channel), 0);
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, r->base), 0);
    for (int i = 0; i < MEMBERS; i++)
        r->member[i][0] = r->member[i][1] = -EBADF;
    CLEANUP_FD int fd = rig_socket(&r->at);
    struct dispatchmsg m = {.type = DISPATCH_LISTENER, .addr = r->at};
    CHECK_INT(rig_tell(r, &m, &fd, 1), 0);
    rig_base(r, policy, true);
    rig_claim(r, 0, "http://a.test/", 0);
    rig_claim(r, 1, "http://b.test/", 410);
    rig_commit(r);
}

static inline void pool_done(struct pool_rig *r)
{
    rig_drop(r, DISPATCH_RESET, 0);
    for (int i = MEMBERS - 1; i >= 0; i--) {
        if (r->member[i][0] >= 0)
            rig_drop(r, DISPATCH_DROP_QUEUE, 1 + (uint32_t)i);
        r->member[i][0] = fd_close(r->member[i][0]);
        r->member[i][1] = fd_close(r->member[i][1]);
    }
    rig_drop(r, DISPATCH_DROP_QUEUE, 0);
    rig_commit(r);
    r->base[0] = fd_close(r->base[0]);
    r->base[1] = fd_close(r->base[1]);
    r->channel[0] = fd_close(r->channel[0]);
    r->channel[1] = fd_close(r->channel[1]);
}

static inline struct board_queue *pool_board(struct pool_rig *r, uint32_t id)
{
    return &state_board(r->state)->queues[id];
}

/* One client after the other, each parked before the next one comes. */
static inline void pool_park(struct pool_rig *r, int *clients, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t before = board_get(&pool_board(r, 0)->parked);
        clients[i] = client_ask(&r->at, ASK);
        EVENTUALLY(board_get(&pool_board(r, 0)->parked) == before + 1);
    }
}

static inline void clients_close(int *clients, size_t count)
{
    for (size_t i = 0; i < count; i++)
        (void)fd_close(clients[i]);
}

/* This member's next connection is this client's, with its request. */
static inline void member_expect(struct pool_rig *r, int n, int client)
{
    struct queue q = {.read_fd = r->member[n][1]};
    passed_expect(&q, client, STR(ASK));
}

static inline bool waits(int read_fd)
{
    struct pollfd p = {.fd = read_fd, .events = POLLIN};
    return poll(&p, 1, DEADLINE_MS) == 1;
}
