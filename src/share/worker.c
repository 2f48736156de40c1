/* The thread of dispatch: waits, hands each event to its stage, runs the deadlines. Connections
 * come in by accept.c and leave by deliver.c or refuse.c; in between their owner is here. */
#include "share/worker-internal.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/log.h"

/* How often waiting connections are tried again when the kernel was short of something. */
#define RETRY_MS 20

struct worker *worker_new(size_t index, const struct worker_limits *limits, struct shared *shared)
{
    struct worker *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->index = index;
    w->limits = *limits;
    w->board = shared->board;
    w->shared = shared;
    w->diag_fd = -EBADF;
    if (index == 0)
        shared->steward = w;
    w->wake.kind = SOURCE_WAKE;
    w->left.kind = SOURCE_LEFT;
    w->left_fd = -EBADF;
    list_init(&w->silent);
    list_init(&w->partial);
    list_init(&w->linger);
    list_init(&w->gone);
    list_init(&w->waitqs);
    list_init(&w->streams);
    w->streams_fd = -EBADF;
    (void)pthread_mutex_init(&w->lock, NULL);
    (void)pthread_cond_init(&w->served, NULL);
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &w->wake};
    if (w->epoll_fd < 0 || w->wake_fd < 0 ||
        epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->wake_fd, &e) < 0) {
        (void)fd_close(w->epoll_fd);
        (void)fd_close(w->wake_fd);
        free(w);
        return NULL;
    }
    return w;
}

void worker_diag_consume(struct worker *w, int fd)
{
    int none = -EBADF;
    if (!atomic_compare_exchange_strong(&w->diag_fd, &none, fd))
        (void)fd_close(fd);
}

void worker_wake(struct worker *w)
{
    uint64_t one = 1;
    ssize_t r = write(w->wake_fd, &one, sizeof one);
    (void)r;
}

int worker_poll(struct worker *w, struct conn *c, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = c};
    int op = c->polled ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(w->epoll_fd, op, c->fd, &e) < 0)
        return -errno;
    c->polled = true;
    return 0;
}

void worker_move(struct worker *w, struct conn *c, enum conn_state state, struct list *to,
                 uint32_t after_ms)
{
    list_remove(&c->link);
    c->state = state;
    c->deadline_ms = w->now_ms + after_ms;
    list_append(to, &c->link);
}

void worker_close(struct worker *w, struct conn *c)
{
    if (c->state == CONN_GONE)
        return;
    if (c->polled)
        (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    c->polled = false;
    c->fd = fd_close(c->fd);
    worker_move(w, c, CONN_GONE, &w->gone, 0);
    limit_forget(w, c);
    w->conn_count--;
    board_add(&w->board->sniffing, -1);
}

static void conn_act(struct worker *w, struct conn *c, struct conn_judgement *j);

struct conn *worker_hold(struct worker *w, const struct conn *accepted)
{
    if (board_get(&w->board->sniffing) >= w->limits.connections)
        (void)worker_evict(w);
    struct conn *c = malloc(sizeof *c);
    if (!c) {
        (void)fd_close(accepted->fd);
        return NULL;
    }
    *c = *accepted;
    list_init(&c->link);
    w->conn_count++;
    board_add(&w->board->sniffing, 1);
    worker_move(w, c, CONN_SNIFF, &w->silent, w->limits.silence_ms);
    return c;
}

void worker_keep(struct worker *w, const struct conn *accepted, struct conn_judgement *j)
{
    struct conn *c = worker_hold(w, accepted);
    if (!c)
        return;
    if (limit_source(w, c))
        conn_act(w, c, j);
    else
        refuse(w, c, &(struct refusal){.reason = REASON_SOURCE_LIMIT}, j);
}

void worker_await(struct worker *w, struct conn *c)
{
    if (!c->polled && worker_poll(w, c, EPOLLIN | EPOLLRDHUP | EPOLLET) < 0)
        worker_close(w, c);
}

/* Does what was judged, with a connection that is on the heap. */
static void conn_act(struct worker *w, struct conn *c, struct conn_judgement *j)
{
    switch (j->verdict) {
    case CONN_MORE:
        worker_await(w, c);
        return;
    case CONN_REFUSE:
        refuse(w, c, &j->refusal, j);
        return;
    case CONN_DELIVER:
        break;
    }
    int r = deliver(w, c, j->claim, j);
    if (r == 0)
        worker_close(w, c);
    else if (r == -EAGAIN)
        deliver_wait(w, c, deliver_pool(w, j->claim));
    else
        refuse(w, c, &j->refusal, j->sniffed_valid ? j : NULL);
}

static void conn_judge_again(struct worker *w, struct conn *c, enum conn_wait wait)
{
    w->judgement.local.sa.sa_family = AF_UNSPEC;
    conn_judge(c, w->snapshot->routes, wait, w->peeked, &w->judgement);
    c->bytes = w->judgement.bytes;
    if (c->doom.reason && w->judgement.verdict != CONN_MORE)
        refuse(w, c, &c->doom, &w->judgement);
    else
        conn_act(w, c, &w->judgement);
}

static void conn_event(struct worker *w, struct conn *c, uint32_t events)
{
    if (c->state == CONN_LINGER)
        refuse_linger(w, c);
    if (c->state != CONN_SNIFF)
        return;
    if (!c->got_bytes && events & EPOLLIN) {
        c->got_bytes = true;
        c->first_ms = w->now_ms;
        worker_move(w, c, CONN_SNIFF, &w->partial, w->limits.header_wait_ms);
    }
    bool over = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    conn_judge_again(w, c, over ? CONN_WAIT_OVER : CONN_WAIT_BYTES);
}

static struct conn *oldest(struct list *l)
{
    return list_empty(l) ? NULL : container_of(l->next, struct conn, link);
}

bool worker_evict(struct worker *w)
{
    struct list *order[] = {&w->silent, &w->linger, &w->partial};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        struct conn *c = oldest(order[i]);
        if (!c)
            continue;
        if (c->state == CONN_SNIFF) {
            struct refusal why = {.reason = REASON_LIMIT};
            refuse_log(w, c, &why, NULL);
            refusal_count(w, &why);
        }
        worker_close(w, c);
        return true;
    }
    return false;
}

/* Each list is in the order of its deadlines, because all of it waits equally long. */
static void deadlines_run(struct worker *w)
{
    struct list *undecided[] = {&w->silent, &w->partial};
    for (size_t i = 0; i < 2; i++)
        for (struct conn *c; (c = oldest(undecided[i])) && c->deadline_ms <= w->now_ms;)
            conn_judge_again(w, c, CONN_WAIT_OVER);
    for (struct conn *c; (c = oldest(&w->linger)) && c->deadline_ms <= w->now_ms;)
        worker_close(w, c);
    limit_rate(w);
    if (w->resume_ms && w->resume_ms <= w->now_ms)
        accept_resume(w);
}

static void sooner(uint64_t *at, uint64_t when)
{
    if (when < *at)
        *at = when;
}

static int wait_ms(struct worker *w)
{
    uint64_t at = UINT64_MAX;
    struct list *lists[] = {&w->silent, &w->partial, &w->linger};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (!list_empty(lists[i]))
            sooner(&at, oldest(lists[i])->deadline_ms);
    if (w->resume_ms)
        sooner(&at, w->resume_ms);
    if (!list_empty(&w->waitqs))
        sooner(&at, w->now_ms + RETRY_MS);
    if (w->pools_due)
        return 0;
    if (w->pools_ms)
        sooner(&at, w->pools_ms);
    if (w->tick_ms)
        sooner(&at, w->tick_ms);
    if (w->lines_ms)
        sooner(&at, w->lines_ms);
    if (w->limits.min_rate && !list_empty(&w->partial))
        sooner(&at, w->rate_ms);
    if (at == UINT64_MAX)
        return -1;
    /* The clock is coarse: a tick more than the difference is never too early. */
    return at <= w->now_ms ? 0 : (int)(at - w->now_ms) + 4;
}

static void shard_free(struct worker *w, struct shard *s)
{
    if (!w->retired)
        accept_rest(w, s);
    (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
    listener_unref(s->listener);
    free(s);
}

static struct shard *shard_new(struct worker *w, struct listener *l)
{
    struct shard *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->source.kind = SOURCE_SHARD;
    s->fd = l->fds[w->index % l->fd_count];
    struct epoll_event e = {.events = w->resume_ms || w->retired ? 0 : EPOLLIN, .data.ptr = s};
    if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, s->fd, &e) < 0) {
        log_error("cannot poll listener=%u err=%d", l->id, errno);
        free(s);
        return NULL;
    }
    s->listener = listener_ref(l);
    return s;
}

static struct shard *shard_find(struct worker *w, const struct listener *l)
{
    for (size_t i = 0; i < w->shard_count; i++)
        if (w->shards[i] && w->shards[i]->listener == l)
            return w->shards[i];
    return NULL;
}

/* Takes over what goes on, opens what is new, and lets go what is no longer there: last, so that
 * what still waits at it is judged by the new table. */
static void snapshot_adopt(struct worker *w, struct snapshot *next)
{
    struct snapshot *old = w->snapshot;
    struct shard **shards = calloc(next->listener_count + 1, sizeof *shards);
    if (!shards) {
        snapshot_unref(next);
        return;
    }
    w->snapshot = next;
    limit_adopt(w, &next->limits);
    size_t count = 0;
    for (size_t i = 0; i < next->listener_count; i++) {
        struct shard *s = shard_find(w, next->listeners[i]);
        for (size_t k = 0; s && k < w->shard_count; k++)
            if (w->shards[k] == s)
                w->shards[k] = NULL;
        if (!s)
            s = shard_new(w, next->listeners[i]);
        if (s) {
            shard_update(w, s);
            shards[count++] = s;
        }
    }
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &w->left};
    if (!old && w->left_fd >= 0)
        (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->left_fd, &e);
    struct shard **left = w->shards;
    size_t left_count = w->shard_count;
    /* Accepting the rest may pause all shards: the array holds none that are going. */
    w->shards = shards;
    w->shard_count = count;
    for (size_t i = 0; i < left_count; i++)
        if (left[i]) {
            shard_update(w, left[i]);
            shard_free(w, left[i]);
        }
    free(left);
    pools_watch(w, old);
    snapshot_unref(old);
}

static void mail_read(struct worker *w)
{
    uint64_t n;
    ssize_t r = read(w->wake_fd, &n, sizeof n);
    (void)r;
    (void)pthread_mutex_lock(&w->lock);
    struct snapshot *next = w->next;
    struct queue *drain = w->drain;
    bool retire = w->retire;
    int streams_fd = fd_take(&w->streams_fd);
    w->retire = false;
    w->next = NULL;
    w->drain = NULL;
    (void)pthread_mutex_unlock(&w->lock);
    if (next)
        snapshot_adopt(w, next);
    if (streams_fd >= 0)
        streams_add_consume(w, streams_fd);
    if (retire) {
        streams_end(w);
        accept_stop(w);
        w->retired = true;
    }
    if (drain) {
        pool_drain(w, drain);
        queue_unref(drain);
    }
    deliver_flush_all(w);
    (void)pthread_mutex_lock(&w->lock);
    w->mail = false;
    (void)pthread_cond_signal(&w->served);
    (void)pthread_mutex_unlock(&w->lock);
}

static void gone_free(struct worker *w)
{
    list_for_each(c, &w->gone, struct conn, link)
    {
        list_remove(&c->link);
        free(c);
    }
}

/* The mail is read after all other events: what it frees may be named by one of them. */
static void turn(struct worker *w, const struct epoll_event *events, int n)
{
    bool mail = false;
    w->turn++;
    for (int i = 0; i < n; i++) {
        struct source *s = events[i].data.ptr;
        switch (s->kind) {
        case SOURCE_WAKE:
            mail = true;
            break;
        case SOURCE_SHARD:
            accept_batch(w, container_of(s, struct shard, source));
            break;
        case SOURCE_CONN:
            conn_event(w, container_of(s, struct conn, source), events[i].events);
            break;
        case SOURCE_LEFT:
            accept_left(w);
            break;
        case SOURCE_STREAMS:
            streams_event(w, s, events[i].events);
            break;
        case SOURCE_WAITQ:
            deliver_flush(w, container_of(s, struct waitq, source));
            break;
        case SOURCE_POOL:
            container_of(s, struct queue, source)->recount = true;
            w->pools_due = true;
            break;
        }
    }
    deadlines_run(w);
    if (!list_empty(&w->waitqs))
        deliver_flush_all(w);
    if (mail)
        mail_read(w);
    open_tick(w);
    if (w->pools_due || (w->pools_ms && w->pools_ms <= w->now_ms))
        pools_run(w);
    lines_flush(w);
    gone_free(w);
}

static void *thread_main(void *arg)
{
    struct worker *w = arg;
    struct epoll_event events[WORKER_EVENTS];
    for (;;) {
        int n = epoll_wait(w->epoll_fd, events, WORKER_EVENTS, wait_ms(w));
        assert(n >= 0 || errno == EINTR);
        w->now_ms = clock_now_ms();
        turn(w, events, n);
    }
    return NULL;
}

int worker_start(struct worker *w)
{
    w->now_ms = clock_now_ms();
    return -pthread_create(&w->thread, NULL, thread_main, w);
}

void worker_take_left(struct worker *w, int left)
{
    w->left_fd = left;
}

void worker_tell_sending(struct worker *w, _Atomic int *sending)
{
    w->sending = sending;
}

struct mail {
    struct snapshot *snapshot;
    struct queue *drain;
    bool retire;
    int streams_fd;
};

static void mail_send(struct worker *w, const struct mail *m)
{
    (void)pthread_mutex_lock(&w->lock);
    w->next = m->snapshot;
    w->drain = m->drain;
    w->retire = m->retire;
    w->streams_fd = m->streams_fd;
    w->mail = true;
    worker_wake(w);
    while (w->mail)
        (void)pthread_cond_wait(&w->served, &w->lock);
    (void)pthread_mutex_unlock(&w->lock);
}

void worker_publish(struct worker *w, struct snapshot *s)
{
    mail_send(w, &(struct mail){.snapshot = snapshot_ref(s), .streams_fd = -EBADF});
}

void worker_drain(struct worker *w, struct queue *q)
{
    mail_send(w, &(struct mail){.drain = queue_ref(q), .streams_fd = -EBADF});
}

void worker_retire(struct worker *w)
{
    mail_send(w, &(struct mail){.retire = true, .streams_fd = -EBADF});
}

void worker_streams_consume(struct worker *w, int fd)
{
    mail_send(w, &(struct mail){.streams_fd = fd});
}

bool worker_is_idle(struct worker *w)
{
    return w->conn_count == 0;
}
