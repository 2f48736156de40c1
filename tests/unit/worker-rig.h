#pragma once
/* What the tests of the data path share: one worker with a listener on loopback, queues that are
 * socket pairs, clients. Nothing waits without a deadline. */

#include "base/clock.h"
#include "base/log.h"
#include "ipc/fdmsg.h"
#include "share/listen.h"
#include "share/worker.h"
#include "test.h"
#include "wire/appmsg.h"
#include "wire/dispatchmsg.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/time.h>

#define DEADLINE_MS 10000

/* Long enough that a test which ends by them fails by its deadline. */
static const struct worker_limits patient = {60000, 60000, 1000};

/* The worker's thread and the board live until the process ends; the rest is the rig's. */
struct rig {
    struct board *board;
    struct worker_limits limits;
    struct worker *worker;
    struct listener *listener;
    struct addr at;
};

struct served {
    const char *route;
    uint32_t app;
    struct queue *queue; /* borrowed */
};

/* Asks again and again until the answer is yes. */
#define EVENTUALLY(cond)                                                                           \
    do {                                                                                           \
        uint64_t until_ = clock_now_ms() + DEADLINE_MS;                                            \
        while (!(cond) && clock_now_ms() < until_)                                                 \
            (void)poll(NULL, 0, 1);                                                                \
        CHECK(cond);                                                                               \
    } while (0)

static inline struct addr rig_address(int fd)
{
    struct addr a;
    socklen_t len = sizeof a.un;
    CHECK_INT(getsockname(fd, &a.sa, &len), 0);
    return addr_from(&a.sa, len);
}

static inline int rig_socket(struct addr *ret_at)
{
    struct addr any;
    int fd = -EBADF;
    CHECK_INT(addr_parse("127.0.0.1:0", &any), 0);
    CHECK_INT(listen_open(&any, true, &fd, 1), 0);
    CHECK_INT(listen_start(&fd, 1), 0);
    *ret_at = rig_address(fd);
    return fd;
}

static inline void rig_open(struct rig *r, struct worker_limits limits)
{
    log_init("unit", LOG_ERROR);
    r->limits = limits;
    r->board = calloc(1, sizeof *r->board);
    struct shared *shared = calloc(1, sizeof *shared); /* outlives the rig, as the thread does */
    shared->board = r->board;
    shared->undecided = sources_new();
    r->worker = worker_new(0, &limits, shared);
    CHECK_INT(worker_start(r->worker), 0);
    int fd = rig_socket(&r->at);
    r->listener = listener_new_consume(1, &fd, 1);
    r->listener->bound = r->at;
}

/* Publishes these claims, numbered from 0, with the rig's listener or without it. */
static inline void rig_publish(struct rig *r, bool listening, const struct served *s, size_t count)
{
    struct snapshot *snap = calloc(1, sizeof *snap);
    struct route_entry *entries = calloc(count + 1, sizeof *entries);
    snap->refs = 1;
    snap->limits = r->limits;
    snap->listeners = calloc(1, sizeof(struct listener *));
    snap->targets = calloc(count + 1, sizeof *snap->targets);
    snap->pools = calloc(count + 1, sizeof(struct pool *));
    if (listening)
        snap->listeners[snap->listener_count++] = listener_ref(r->listener);
    snap->claim_count = count;
    for (size_t i = 0; i < count; i++) {
        char reason[ROUTE_REASON_MAX];
        CHECK_INT(route_parse(s[i].route, &entries[i].route, reason), 0);
        entries[i].route.port = addr_port(&r->at);
        entries[i].bound = r->at;
        entries[i].claim = (uint32_t)i;
        entries[i].app = s[i].app;
        struct pool *p = pool_new(s[i].queue, &(struct dispatch_policy){.state = DISPATCH_SERVE});
        snap->targets[i].pool = snap->pools[snap->pool_count++] = p;
    }
    snap->routes = route_table_new(entries, count);
    free(entries);
    worker_publish(r->worker, snap);
    snapshot_unref(snap);
}

static inline void rig_close(struct rig *r)
{
    rig_publish(r, false, NULL, 0);
    listener_unref(r->listener);
}

static inline struct queue *rig_queue(uint32_t id, uint32_t flags)
{
    int pair[2] = {-EBADF, -EBADF};
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    return queue_new_consume(id, flags, pair[0], pair[1]);
}

/* A blocking client that gives up after a while. */
static inline int client_open(const struct addr *to)
{
    struct timeval patience = {.tv_sec = DEADLINE_MS / 1000};
    int on = 1, fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience), 0);
    CHECK_INT(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    CHECK_INT(connect(fd, &to->sa, to->len), 0);
    return fd;
}

static inline void client_say(int fd, struct str bytes)
{
    CHECK_INT(send(fd, bytes.p, bytes.n, MSG_NOSIGNAL), bytes.n);
}

static inline int client_ask(const struct addr *to, const char *request)
{
    int fd = client_open(to);
    client_say(fd, str_of(request));
    return fd;
}

/* Reads until the end or until buf is full; returns how much, and 0 or the errno that ended it. */
static inline size_t read_all(int fd, void *buf, size_t size, int *ret_err)
{
    size_t used = 0;
    ssize_t n = 1;
    while (used < size && (n = recv(fd, (char *)buf + used, size - used, 0)) > 0)
        used += (size_t)n;
    *ret_err = n < 0 ? errno : 0;
    return used;
}

/* Does the answer begin like this, and does it arrive whole, with an end and no reset? */
static inline void client_expect(int fd, const char *begin)
{
    char buf[8192] = "";
    int err = 0;
    size_t n = read_all(fd, buf, sizeof buf - 1, &err), want = 0;
    buf[n] = 0;
    const char *length = strstr(buf, "Content-Length: "), *body = strstr(buf, "\r\n\r\n");
    if (length)
        want = strtoul(length + strlen("Content-Length: "), NULL, 10);
    CHECK_INT(err, 0);
    CHECK_INT(body ? strlen(body + 4) : 0, want);
    buf[strlen(begin)] = 0;
    CHECK_TEXT(buf, begin);
}

static inline void client_expect_closed(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, 0);
    CHECK(n == 0 || (n < 0 && errno == ECONNRESET));
}

static inline bool is_quiet(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

/* A connection that came out of a queue. The slices of msg point into bytes. */
struct passed {
    int fd;
    struct appmsg msg;
    uint8_t bytes[APPMSG_CONN_MAX];
};

static inline bool passed_take(int read_fd, struct passed *ret)
{
    struct timeval patience = {.tv_sec = DEADLINE_MS / 1000};
    struct pollfd p = {.fd = read_fd, .events = POLLIN};
    size_t count = 0;
    ret->fd = -EBADF;
    if (poll(&p, 1, DEADLINE_MS) != 1)
        return false;
    ssize_t n = fdmsg_recv(read_fd, ret->bytes, sizeof ret->bytes, &ret->fd, 1, &count, 0);
    if (n <= 0 || count != 1)
        return false;
    CHECK_INT(appmsg_decode(&ret->msg, ret->bytes, (size_t)n), 0);
    CHECK_INT(ret->msg.type, APPMSG_CONN);
    CHECK_INT(setsockopt(ret->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    return true;
}

/* The passed socket has exactly these bytes to read, and belongs to this client. */
static inline void passed_expect(struct queue *q, int client, struct str want)
{
    struct passed got;
    char *buf = calloc(1, want.n + 1);
    int err;
    CHECK(passed_take(q->read_fd, &got));
    struct addr peer = rig_address(client);
    CHECK(addr_equal(&got.msg.addr, &peer));
    size_t n = got.fd < 0 ? 0 : read_all(got.fd, buf, want.n, &err);
    CHECK_INT(n, want.n);
    CHECK(memcmp(buf, want.p, want.n) == 0);
    CHECK(got.fd < 0 || recv(got.fd, buf, 1, MSG_DONTWAIT | MSG_PEEK) <= 0);
    (void)fd_close(got.fd);
    free(buf);
}
