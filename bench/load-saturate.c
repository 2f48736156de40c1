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
/* The longest wait for an event: how soon a refused connection is tried again. */
#define TURN_NS 20000000
/* How long a run goes on for the sake of its number of requests. */
#define OVERTIME_NS UINT64_C(300000000000)

enum step { STEP_WAIT, STEP_DONE, STEP_FAILED };

struct client {
    int fd;
    uint32_t watched;
    uint64_t since_ns;
    /* While it has no socket: when it opens the next one. */
    uint64_t wake_ns;
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
    uint64_t random;
    int epoll_fd;
    bool reconnect;
    bool ending;
    char *scratch;
};

/* Counts a failure by what the last system call said; 0: by the answer itself. */
static enum step failure(struct tally *tally, int error)
{
    tally->failed++;
    if (error == 0)
        tally->wrong++;
    else if (error == ENODATA)
        tally->cut++;
    else if (error == ECONNRESET || error == EPIPE)
        tally->reset++;
    else
        tally->refused++;
    return STEP_FAILED;
}

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
        return failure(run->tally, errno);
    if (n > 0)
        client->sent += (size_t)n;
    bool all = client->sent == plan->request_len;
    int r = client_watch(run, client, all ? EPOLLIN : EPOLLOUT);
    return r < 0 ? failure(run->tally, -r) : STEP_WAIT;
}

/* Rests are spread evenly from nothing to twice their average. */
static uint64_t think_ns(struct run *run)
{
    if (!run->plan->think_us)
        return 0;
    run->random = run->random * 6364136223846793005u + 1442695040888963407u;
    return (run->random >> 33) % (2000u * (uint64_t)run->plan->think_us);
}

static void client_close(struct run *run, struct client *client)
{
    client->fd = fd_close(client->fd);
    client->watched = 0;
    client->wake_ns = run->plan->think_us ? now_ns() + think_ns(run) : 0;
}

static void client_open(struct run *run, struct client *client)
{
    client_reset(client);
    client->fd = load_socket(run->plan, run->opened++, SOCK_NONBLOCK);
    if (client->fd < 0) {
        (void)failure(run->tally, -client->fd);
        client->fd = -EBADF;
        return;
    }
    const struct sockaddr *to = (const struct sockaddr *)&run->plan->to;
    enum step step = STEP_WAIT;
    if (connect(client->fd, to, sizeof run->plan->to) < 0 && errno != EINPROGRESS)
        step = failure(run->tally, errno);
    if (step == STEP_WAIT)
        step = client_send(run, client);
    if (step == STEP_FAILED)
        client_close(run, client);
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
            return whole && run->reconnect ? STEP_DONE : failure(run->tally, ENODATA);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return STEP_WAIT;
        if (n < 0)
            return failure(run->tally, errno);
        if (client_take(run, client, (size_t)n) == STEP_FAILED)
            return failure(run->tally, 0);
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
    }
    if (step == STEP_DONE && !run->reconnect && !run->ending) {
        client_reset(client);
        if (client_send(run, client) != STEP_FAILED)
            return;
    }
    client_close(run, client);
    if (!run->ending && client->wake_ns == 0)
        client_open(run, client);
}

/* Those that have rested, and those that could not be opened: a refusal must not silently lower
 * the load. Returns how long nobody else has to be woken, in nanoseconds. */
static uint64_t run_reopen(struct run *run)
{
    uint64_t now = now_ns(), next = now + TURN_NS;
    for (unsigned i = 0; i < run->plan->connections; i++) {
        struct client *client = &run->clients[i];
        if (client->fd >= 0)
            continue;
        if (client->wake_ns <= now)
            client_open(run, client);
        else if (client->wake_ns < next)
            next = client->wake_ns;
    }
    return next - now;
}

static int run_turn(struct run *run)
{
    struct epoll_event events[EVENTS_MAX];
    struct timespec wait = {.tv_nsec = TURN_NS};
    uint64_t failed = run->tally->failed;
    if (run->plan->think_us && !run->ending)
        wait.tv_nsec = (long)run_reopen(run);
    int n = epoll_pwait2(run->epoll_fd, events, EVENTS_MAX, &wait, NULL);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++)
        client_step(run, events[i].data.ptr);
    if (!run->ending && (run->tally->failed > failed || n == 0))
        (void)run_reopen(run);
    return 0;
}

static bool run_over(const struct run *run)
{
    uint64_t now = now_ns();
    if (now < run->until_ns)
        return false;
    return run->tally->done + run->tally->failed >= run->plan->requests ||
           now > run->until_ns + OVERTIME_NS;
}

static bool run_busy(const struct run *run)
{
    for (unsigned i = 0; i < run->plan->connections; i++)
        if (run->clients[i].fd >= 0)
            return true;
    return false;
}

/* No new requests, but every answer that still comes. */
static int run_drain(struct run *run)
{
    uint64_t until_ns = now_ns() + (uint64_t)(run->plan->grace * 1e9);
    int r = 0;
    run->ending = true;
    while (r == 0 && now_ns() < until_ns && run_busy(run))
        r = run_turn(run);
    return r;
}

static int run_loop(struct run *run)
{
    for (unsigned i = 0; i < run->plan->connections; i++) {
        run->clients[i].fd = -EBADF;
        run->clients[i].wake_ns = run->plan->think_us ? now_ns() + think_ns(run) : 0;
    }
    (void)run_reopen(run);
    int r = 0;
    while (r == 0 && !run_over(run))
        r = run_turn(run);
    if (r == 0 && run->plan->grace > 0)
        r = run_drain(run);
    for (unsigned i = 0; i < run->plan->connections; i++) {
        struct client *client = &run->clients[i];
        bool late = run->plan->grace > 0 || now_ns() - client->since_ns > STALL_NS;
        if (client->fd >= 0 && late)
            run->tally->stalled++;
        client_close(run, client);
    }
    return r;
}

int load_saturate(const struct plan *plan, bool reconnect, uint64_t until_ns, struct tally *tally)
{
    struct run run = {.plan = plan, .tally = tally, .until_ns = until_ns, .reconnect = reconnect};
    int r = -ENOMEM;
    run.random = until_ns ^ (uintptr_t)tally;
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
