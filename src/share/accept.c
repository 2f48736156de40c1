/* Accept: takes the connections that one wake-up brought, all before any of them is looked at, then
 * judges each and delivers what can be delivered. */
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "ipc/fdmsg.h"
#include "share/worker-internal.h"

#define PAUSE_MS 100

/* Without a descriptor to spare the oldest undecided connection gives way; when there is none,
 * accepting rests for a moment. It always goes on by itself. */
static void accept_failed(struct worker *w, int err)
{
    if (err != EMFILE && err != ENFILE && err != ENOBUFS && err != ENOMEM)
        return;
    if (!worker_evict(w))
        accept_pause(w);
}

static size_t accept_some(struct worker *w, struct shard *s, struct conn *batch)
{
    size_t n = 0;
    while (n < WORKER_BATCH) {
        struct conn *c = &batch[n];
        socklen_t len = sizeof c->peer.un;
        c->peer.un.sun_path[0] = 0; /* A Unix client seldom has a name. */
        int fd = accept4(s->fd, &c->peer.sa, &len, SOCK_CLOEXEC);
        if (fd < 0 && (errno == ECONNABORTED || errno == EINTR))
            continue;
        if (fd < 0) {
            accept_failed(w, errno);
            break;
        }
        c->source.kind = SOURCE_CONN;
        c->state = CONN_SNIFF;
        c->fd = fd;
        c->proxy = s->listener->proxy;
        c->stream = c->polled = c->got_bytes = false;
        c->claim = ROUTE_NONE;
        c->since_ms = w->now_ms;
        c->counted = c->parked = false;
        c->doom.reason = REASON_NONE;
        c->peer.len = len;
        list_init(&c->link);
        n++;
    }
    board_add(&w->board->accepted, (int64_t)n);
    return n;
}

static void judge_accepted(struct worker *w, struct shard *s, struct conn *c)
{
    struct conn_judgement *j = &w->judgement;
    const struct route_table *routes = w->snapshot->routes;
    enum route_early early = s->early;
    uint32_t claim = s->claim;
    j->sniffed_valid = false;
    if (s->local_matters)
        conn_local(c->fd, &j->local);
    else
        j->local = s->listener->bound;
    if (!s->uniform)
        early = route_match_early(routes, &j->local, &c->peer, &claim);
    j->verdict = early == ROUTE_CLAIM ? CONN_DELIVER : CONN_REFUSE;
    j->claim = claim;
    j->refusal = (struct refusal){.reason = REASON_NO_ROUTE};
    /* A name that nobody serves is answered in the client's own protocol: that needs its bytes,
     * too. */
    if (early != ROUTE_CLAIM)
        conn_judge(c, routes, CONN_WAIT_BYTES, w->peeked, j);
}

static void handle_accepted(struct worker *w, struct shard *s, struct conn *c)
{
    struct conn_judgement *j = &w->judgement;
    judge_accepted(w, s, c);
    if (j->verdict == CONN_DELIVER && deliver(w, c, j->claim, j) == 0)
        return;
    worker_keep(w, c, j);
    c->fd = -EBADF;
}

static size_t handle_batch(struct worker *w, struct shard *s)
{
    struct conn batch[WORKER_BATCH];
    size_t n = accept_some(w, s, batch);
    for (size_t i = 0; i < n; i++)
        handle_accepted(w, s, &batch[i]);
    return n;
}

void accept_batch(struct worker *w, struct shard *s)
{
    (void)handle_batch(w, s);
}

void accept_rest(struct worker *w, struct shard *s)
{
    for (int i = 0; i <= SOMAXCONN / WORKER_BATCH && handle_batch(w, s) > 0; i++)
        ;
}

static struct shard *shard_at(struct worker *w, const struct addr *local)
{
    for (size_t i = 0; i < w->shard_count; i++) {
        const struct listener *l = w->shards[i]->listener;
        if (addr_overlap(&l->bound, l->v6only, local, true))
            return w->shards[i];
    }
    return NULL;
}

static void handle_left(struct worker *w, int fd)
{
    struct conn c = {.source.kind = SOURCE_CONN,
                     .state = CONN_SNIFF,
                     .fd = fd,
                     .claim = ROUTE_NONE,
                     .since_ms = w->now_ms};
    struct addr local;
    socklen_t len = sizeof c.peer.un;
    conn_local(fd, &local);
    struct shard *s = shard_at(w, &local);
    if (!s || getpeername(fd, &c.peer.sa, &len) < 0) {
        (void)fd_close(fd);
        return;
    }
    c.peer.len = len;
    c.proxy = s->listener->proxy;
    list_init(&c.link);
    handle_accepted(w, s, &c);
}

void accept_left(struct worker *w)
{
    uint8_t byte;
    int fds[FDMSG_FDS_MAX];
    size_t n = 0;
    ssize_t r = fdmsg_recv(w->left_fd, &byte, 1, fds, FDMSG_FDS_MAX, &n, MSG_DONTWAIT);
    if (r <= 0)
        return;
    log_info("taken up from a dispatch that died connections=%zu", n);
    for (size_t i = 0; i < n; i++)
        handle_left(w, fds[i]);
}

static void shard_listen(struct worker *w, struct shard *s, bool on)
{
    struct epoll_event e = {.events = on ? EPOLLIN : 0, .data.ptr = s};
    (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, s->fd, &e);
}

void accept_pause(struct worker *w)
{
    if (w->resume_ms == 0)
        log_warn("paused reason=NoDescriptors held=%u", w->conn_count);
    w->resume_ms = w->now_ms + PAUSE_MS;
    accept_stop(w);
}

void accept_stop(struct worker *w)
{
    for (size_t i = 0; i < w->shard_count; i++)
        shard_listen(w, w->shards[i], false);
}

void accept_resume(struct worker *w)
{
    w->resume_ms = 0;
    if (w->retired)
        return;
    for (size_t i = 0; i < w->shard_count; i++)
        shard_listen(w, w->shards[i], true);
}

void shard_update(struct worker *w, struct shard *s)
{
    const struct listener *l = s->listener;
    struct addr nowhere = {0};
    s->local_matters = route_local_matters(w->snapshot->routes, &l->bound, l->v6only);
    s->uniform = route_rest_is_uniform(w->snapshot->routes, &l->bound, l->v6only);
    s->claim = ROUTE_NONE;
    s->early = ROUTE_SNIFF;
    if (s->uniform)
        s->early = route_match_early(w->snapshot->routes, &l->bound, &nowhere, &s->claim);
}
