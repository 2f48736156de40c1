/* The saturating modes: N connections on one epoll set, each with one request in flight. A plan
 * comes in, a tally goes out; every socket is owned by its struct client and closed before the
 * return. */

#include "load.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define HEAD_MAX   1024u
#define EVENTS_MAX 256
/* A body is discarded inside the kernel (MSG_TRUNC), at most this much by one call. */
#define DISCARD_MAX (1u << 20)
#define STALL_NS    UINT64_C(1000000000)

struct client {
    int fd;
    uint32_t watched;
    uint64_t since_ns;
    size_t sent;
    size_t head_len;
    uint64_t body_left;
    bool in_body;
    char head[HEAD_MAX];
};

struct run {
    const struct plan *plan;
    struct tally *tally;
    struct client *clients;
    uint64_t until_ns;
    unsigned opened;
    int epoll_fd;
    bool reconnect;
    char *scratch;
};

enum step { STEP_WAIT, STEP_DONE, STEP_FAILED };

static void client_reset(struct client *client)
{
    client->since_ns = now_ns();
    client->sent = 0;
    client->head_len = 0;
    client->body_left = 0;
    client->in_body = false;
}

static int client_watch(struct run *run, struct client *client, uint32_t events)
{
    if (client->watched == events)
        return 0;
    struct epoll_event event = {.events = events, .data.ptr = client};
    int op = client->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(run->epoll_fd, op, client->fd, &event) < 0)
        return -errno;
    client->watched = events;
    return 0;
}

/* The request is written straight after connect(): on loopback the handshake is over by then. */
static enum step client_send(struct run *run, struct client *client)
{
    const struct plan *plan = run->plan;
    ssize_t n = send(client->fd, plan->request + client->sent, plan->request_len - client->sent,
                     MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return STEP_FAILED;
    if (n > 0)
        client->sent += (size_t)n;
    bool all = client->sent == plan->request_len;
    return client_watch(run, client, all ? EPOLLIN : EPOLLOUT) < 0 ? STEP_FAILED : STEP_WAIT;
}

static void client_close(struct client *client)
{
    client->fd = fd_close(client->fd);
    client->watched = 0;
}

static void client_open(struct run *run, struct client *client)
{
    client_reset(client);
    client->fd = load_socket(run->plan, run->opened++, SOCK_NONBLOCK);
    if (client->fd < 0) {
        client->fd = -EBADF;
        run->tally->failed++;
        return;
    }
    const struct sockaddr *to = (const struct sockaddr *)&run->plan->to;
    bool failed = connect(client->fd, to, sizeof run->plan->to) < 0 && errno != EINPROGRESS;
    if (failed || client_send(run, client) == STEP_FAILED) {
        run->tally->failed++;
        client_close(client);
    }
}

/* The value of Content-Length in a complete head; -EBADMSG without one, or for another status than
 * 200: a front's own error page is a failure, however fast it came. */
static int64_t head_body_length(const char *head, size_t n)
{
    static const char status[] = "HTTP/1.1 200";
    static const char name[] = "\r\nContent-Length:";
    if (n < sizeof status - 1 || memcmp(head, status, sizeof status - 1) != 0)
        return -EBADMSG;
    for (size_t i = 0; i + sizeof name - 1 < n; i++) {
        if (strncasecmp(head + i, name, sizeof name - 1) != 0)
            continue;
        int64_t value = 0;
        for (i += sizeof name - 1; i < n && head[i] == ' '; i++)
            ;
        for (; i < n && head[i] >= '0' && head[i] <= '9' && value < INT32_MAX; i++)
            value = value * 10 + (head[i] - '0');
        return value;
    }
    return -EBADMSG;
}

static enum step head_finish(struct client *client)
{
    const char *end = memmem(client->head, client->head_len, "\r\n\r\n", 4);
    if (!end)
        return client->head_len == HEAD_MAX ? STEP_FAILED : STEP_WAIT;
    size_t head_len = (size_t)(end - client->head) + 4;
    int64_t length = head_body_length(client->head, head_len);
    size_t surplus = client->head_len - head_len;
    if (length < 0 || surplus > (uint64_t)length)
        return STEP_FAILED;
    client->in_body = true;
    client->body_left = (uint64_t)length - surplus;
    return STEP_WAIT;
}

static ssize_t client_recv(const struct run *run, struct client *client)
{
    if (!client->in_body)
        return recv(client->fd, client->head + client->head_len, HEAD_MAX - client->head_len, 0);
    size_t want = client->body_left < DISCARD_MAX ? client->body_left : DISCARD_MAX;
    /* After the last byte of a closing connection one more call waits for its end. */
    return recv(client->fd, run->scratch, want ? want : 1, want ? MSG_TRUNC : 0);
}

static enum step client_take(const struct run *run, struct client *client, size_t n)
{
    run->tally->bytes += n;
    if (client->in_body && n > client->body_left)
        return STEP_FAILED;
    if (client->in_body) {
        client->body_left -= n;
        return STEP_WAIT;
    }
    client->head_len += n;
    return head_finish(client);
}

static enum step client_read(const struct run *run, struct client *client)
{
    for (;;) {
        ssize_t n = client_recv(run, client);
        bool whole = client->in_body && client->body_left == 0;
        if (n == 0)
            return whole && run->reconnect ? STEP_DONE : STEP_FAILED;
        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? STEP_WAIT : STEP_FAILED;
        if (client_take(run, client, (size_t)n) == STEP_FAILED)
            return STEP_FAILED;
        if (!run->reconnect && client->in_body && client->body_left == 0)
            return STEP_DONE;
    }
}

static void client_step(struct run *run, struct client *client)
{
    enum step step =
        client->sent < run->plan->request_len ? client_send(run, client) : client_read(run, client);
    if (step == STEP_WAIT)
        return;
    if (step == STEP_DONE) {
        run->tally->done++;
        hist_add(run->tally->latency, now_ns() - client->since_ns);
    } else {
        run->tally->failed++;
    }
    if (step == STEP_DONE && !run->reconnect) {
        client_reset(client);
        if (client_send(run, client) != STEP_FAILED)
            return;
        run->tally->failed++;
    }
    client_close(client);
    client_open(run, client);
}

/* Those that could not be opened are tried again at each turn, so that a refusal does not silently
 * lower the load. */
static void run_reopen(struct run *run)
{
    for (unsigned i = 0; i < run->plan->connections; i++)
        if (run->clients[i].fd < 0)
            client_open(run, &run->clients[i]);
}

static int run_turn(struct run *run)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t failed = run->tally->failed;
    int n = epoll_wait(run->epoll_fd, events, EVENTS_MAX, 20);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++)
        client_step(run, events[i].data.ptr);
    if (run->tally->failed > failed || n == 0)
        run_reopen(run);
    return 0;
}

static int run_loop(struct run *run)
{
    for (unsigned i = 0; i < run->plan->connections; i++)
        run->clients[i].fd = -EBADF;
    run_reopen(run);
    int r = 0;
    while (r == 0 && now_ns() < run->until_ns)
        r = run_turn(run);
    for (unsigned i = 0; i < run->plan->connections; i++) {
        struct client *client = &run->clients[i];
        if (client->fd >= 0 && now_ns() - client->since_ns > STALL_NS)
            run->tally->stalled++;
        client_close(client);
    }
    return r;
}

int load_saturate(const struct plan *plan, bool reconnect, uint64_t until_ns, struct tally *tally)
{
    struct run run = {.plan = plan, .tally = tally, .until_ns = until_ns, .reconnect = reconnect};
    int r = -ENOMEM;
    run.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (run.epoll_fd < 0)
        return -errno;
    run.clients = calloc(plan->connections, sizeof *run.clients);
    run.scratch = malloc(DISCARD_MAX);
    if (run.clients && run.scratch)
        r = run_loop(&run);
    free(run.scratch);
    free(run.clients);
    run.epoll_fd = fd_close(run.epoll_fd);
    return r;
}
