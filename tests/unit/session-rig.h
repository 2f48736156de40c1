#pragma once
/* Two endpoints and the network between them, in memory and with a clock of its own: packets take a
 * time, get lost and overtake each other as the test says. Sockets are real (socketpairs and
 * loopback TCP), and looked at whenever something has happened. */

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "session/session.h"
#include "test.h"

#define RIG_MS      1000000ull
#define RIG_PATHS   4
#define RIG_FLIGHTS 65536

struct rig;

struct rig_node {
    struct rig *rig;
    struct endpoint *endpoint;
    struct identity id;
    struct loop loop;
    uint64_t timer_ns;
    int number;
    uint16_t port;           /* a NAT rebinds: it changes */
    bool refuses;            /* may_connect says no */
    bool blocked;            /* send says false */
    bool flees;              /* from a path that was not proven, at once */
    int fled;                /* what that led to */
    struct session *session; /* the newest that is up */
    unsigned ups, downs, opens, answers, proven, unproven;
    unsigned last_answer;
    char reason[128];
    /* open: what is done with the stream. */
    void (*serve)(struct rig_node *n, struct session_stream *st, struct str service);
    struct session_stream *offered;
    int peer_fd; /* the program's side of the last stream that was served */
};

struct flight {
    uint64_t at_ns, order;
    int to;
    struct quic_path from;
    size_t n;
    uint8_t *bytes; /* owned */
};

struct rig {
    uint64_t now_ns;
    struct rig_node nodes[2];
    struct flight *flights[RIG_FLIGHTS]; /* a heap, the earliest first */
    size_t flight_count;
    uint64_t order;
    uint64_t delay_ns, jitter_ns;
    unsigned loss_percent, seed;
    bool dead[RIG_PATHS];
    size_t packet_max[RIG_PATHS]; /* larger ones do not come through */
    uint64_t rate[RIG_PATHS];     /* bytes a second; 0: no limit */
    uint64_t free_at[RIG_PATHS];
    uint64_t sent, lost;
    size_t largest[RIG_PATHS];
    size_t told_max[RIG_PATHS];  /* packet_max() of the host */
    void (*each)(struct rig *r); /* programs: called whenever something has happened */
    void *user;
};

static inline unsigned rig_random(struct rig *r, unsigned below)
{
    return (unsigned)rand_r(&r->seed) % below;
}

static inline struct quic_path rig_path(const struct rig_node *of, uint32_t id)
{
    uint8_t ip[4] = {10, 0, (uint8_t)id, (uint8_t)(of->number + 1)};
    return (struct quic_path){id, addr_make(AF_INET, ip, of->port)};
}

static inline bool flight_before(const struct flight *a, const struct flight *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static inline void flight_push(struct rig *r, struct flight *f)
{
    size_t at = r->flight_count++;
    r->flights[at] = f;
    for (; at > 0 && flight_before(f, r->flights[(at - 1) / 2]); at = (at - 1) / 2) {
        r->flights[at] = r->flights[(at - 1) / 2];
        r->flights[(at - 1) / 2] = f;
    }
}

static inline struct flight *flight_pop(struct rig *r)
{
    struct flight *first = r->flights[0], *f = r->flights[--r->flight_count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < r->flight_count; at = child) {
        if (child + 1 < r->flight_count && flight_before(r->flights[child + 1], r->flights[child]))
            child++;
        if (!flight_before(r->flights[child], f))
            break;
        r->flights[at] = r->flights[child];
    }
    r->flights[at] = f;
    return first;
}

static inline void rig_post(struct rig *r, int to, const struct quic_path *from, const void *bytes,
                            size_t n)
{
    uint32_t id = from->id;
    r->sent++;
    r->largest[id] = n > r->largest[id] ? n : r->largest[id];
    bool lost = r->dead[id] || (r->packet_max[id] && n > r->packet_max[id]) ||
                rig_random(r, 100) < r->loss_percent || r->flight_count == RIG_FLIGHTS;
    uint64_t at = r->now_ns;
    if (r->rate[id]) {
        at = r->free_at[id] > at ? r->free_at[id] : at;
        lost = lost || at - r->now_ns > 50 * RIG_MS; /* the queue in front of the narrow place */
        if (!lost)
            r->free_at[id] = at += n * 1000000000ull / r->rate[id];
    }
    if (lost) {
        r->lost++;
        return;
    }
    struct flight *f = malloc(sizeof *f);
    *f = (struct flight){
        .at_ns = at + r->delay_ns, .order = r->order++, .to = to, .from = *from, .n = n};
    if (r->jitter_ns)
        f->at_ns += rig_random(r, (unsigned)r->jitter_ns);
    f->bytes = malloc(n);
    memcpy(f->bytes, bytes, n);
    flight_push(r, f);
}

static inline uint64_t rig_now(void *ctx)
{
    return ((struct rig_node *)ctx)->rig->now_ns;
}

static inline bool rig_send(void *ctx, const struct quic_path *path, const void *bytes, size_t n,
                            size_t segment)
{
    struct rig_node *node = ctx;
    struct quic_path from = rig_path(node, path->id);
    if (node->blocked)
        return false;
    for (struct str left = {bytes, n}; left.n > 0; left = str_skip(left, segment))
        rig_post(node->rig, !node->number, &from, left.p, left.n < segment ? left.n : segment);
    return true;
}

static inline size_t rig_packet_max(void *ctx, const struct quic_path *path)
{
    return ((struct rig_node *)ctx)->rig->told_max[path->id];
}

static inline void rig_timer(void *ctx, uint64_t at_ns)
{
    ((struct rig_node *)ctx)->timer_ns = at_ns;
}

static inline bool rig_may_connect(void *ctx, const struct key *peer)
{
    struct rig_node *node = ctx;
    (void)peer;
    return !node->refuses;
}

static inline void rig_up(void *ctx, struct session *s)
{
    struct rig_node *node = ctx;
    node->ups++;
    node->session = s;
}

static inline void rig_down(void *ctx, struct session *s, const char *reason)
{
    struct rig_node *node = ctx;
    node->downs++;
    if (node->session == s)
        node->session = NULL;
    (void)snprintf(node->reason, sizeof node->reason, "%s", reason);
}

static inline void rig_proven(void *ctx, struct session *s, const struct quic_path *path, bool ok)
{
    struct rig_node *node = ctx;
    struct quic_path back = rig_path(&node->rig->nodes[!node->number], 1);
    (void)path;
    if (!ok && node->flees)
        node->fled = session_move(s, &back, true);
    node->proven += ok;
    node->unproven += !ok;
}

static inline void rig_open(void *ctx, struct session_stream *st, struct str service)
{
    struct rig_node *node = ctx;
    node->opens++;
    node->serve(node, st, service);
}

static inline void rig_answered(void *ctx, struct session *s, void *user, unsigned reason)
{
    struct rig_node *node = ctx;
    (void)s, (void)user;
    node->answers++;
    node->last_answer = reason;
}

/* Takes the stream with one end of a socketpair; the test has the other one. */
static inline void rig_take(struct rig_node *n, struct session_stream *st, struct str service)
{
    int fds[2];
    (void)service;
    (void)socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds);
    n->peer_fd = fds[1];
    session_take(st, fds[0]);
}

static inline void rig_refuse(struct rig_node *n, struct session_stream *st, struct str service)
{
    (void)n, (void)service;
    session_refuse(st, STREAM_NO_SERVICE);
}

static inline void rig_keep(struct rig_node *n, struct session_stream *st, struct str service)
{
    (void)service;
    n->offered = st;
}

static const struct session_host rig_host = {
    .now = rig_now,
    .send = rig_send,
    .packet_max = rig_packet_max,
    .timer = rig_timer,
    .may_connect = rig_may_connect,
    .up = rig_up,
    .down = rig_down,
    .path_proven = rig_proven,
    .open = rig_open,
    .answered = rig_answered,
};

static inline void rig_node_start(struct rig_node *n)
{
    n->timer_ns = UINT64_MAX;
    CHECK_INT(endpoint_new(&rig_host, n, &n->loop, &n->id, &n->endpoint), 0);
}

static inline struct rig *rig_new(void)
{
    struct rig *r = calloc(1, sizeof *r);
    CHECK_INT(keys_init(), 0);
    r->now_ns = 1000000 * RIG_MS;
    r->seed = 1;
    r->delay_ns = 10 * RIG_MS;
    for (int i = 0; i < 2; i++) {
        struct rig_node *n = &r->nodes[i];
        *n = (struct rig_node){
            .rig = r, .number = i, .port = 4000, .serve = rig_take, .peer_fd = -EBADF};
        identity_make(&n->id);
        CHECK_INT(loop_init(&n->loop), 0);
        rig_node_start(n);
    }
    return r;
}

static inline void rig_free(struct rig *r)
{
    for (int i = 0; i < 2; i++) {
        endpoint_free(r->nodes[i].endpoint);
        loop_done(&r->nodes[i].loop);
        r->nodes[i].peer_fd = fd_close(r->nodes[i].peer_fd);
    }
    while (r->flight_count > 0) {
        struct flight *f = flight_pop(r);
        free(f->bytes);
        free(f);
    }
    free(r);
}

/* One turn of a loop without waiting. */
static inline void rig_sockets(struct rig_node *n)
{
    struct loop *l = &n->loop;
    int got = epoll_wait(l->epoll_fd, l->events, 64, 0);
    l->event_count = got < 0 ? 0 : got;
    for (l->event_at = 0; l->event_at < l->event_count;) {
        struct epoll_event e = l->events[l->event_at++];
        struct watch *w = e.data.ptr;
        if (w)
            w->ready(w, e.events);
    }
}

/* The next packet or deadline. False: nothing will ever happen, or not before the end. */
static inline bool rig_step(struct rig *r, uint64_t end_ns)
{
    uint64_t at = r->flight_count > 0 ? r->flights[0]->at_ns : UINT64_MAX;
    for (int i = 0; i < 2; i++)
        at = r->nodes[i].timer_ns < at ? r->nodes[i].timer_ns : at;
    if (at == UINT64_MAX || at > end_ns)
        return false;
    r->now_ns = at > r->now_ns ? at : r->now_ns;
    for (int i = 0; i < 2; i++)
        if (r->nodes[i].timer_ns <= r->now_ns) {
            r->nodes[i].timer_ns = UINT64_MAX;
            endpoint_expire(r->nodes[i].endpoint);
        }
    while (r->flight_count > 0 && r->flights[0]->at_ns <= r->now_ns) {
        struct flight *f = flight_pop(r);
        endpoint_input(r->nodes[f->to].endpoint, &f->from, f->bytes, f->n, f->n);
        free(f->bytes);
        free(f);
    }
    return true;
}

/* For so long, or until the condition holds. */
static inline bool rig_run(struct rig *r, uint64_t ms, bool (*until)(struct rig *r))
{
    uint64_t end = r->now_ns + ms * RIG_MS;
    for (;;) {
        rig_sockets(&r->nodes[0]);
        rig_sockets(&r->nodes[1]);
        if (r->each)
            r->each(r);
        if (until && until(r))
            return true;
        if (!rig_step(r, end))
            break;
    }
    r->now_ns = end;
    return until == NULL;
}

static inline bool rig_both_up(struct rig *r)
{
    return r->nodes[0].session && r->nodes[1].session;
}

/* A session from node 0 to node 1 over path 0. */
static inline struct session *rig_connect(struct rig *r)
{
    struct session *s = NULL;
    struct quic_path path = rig_path(&r->nodes[1], 0);
    CHECK_INT(session_connect(r->nodes[0].endpoint, &r->nodes[1].id.key, &path, &s), 0);
    CHECK(rig_run(r, 5000, rig_both_up));
    return s;
}

/* The program's side of a new dialled stream. */
static inline int rig_dial(struct session *s, const char *service)
{
    int fds[2];
    (void)socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds);
    CHECK_INT(session_dial(s, str_of(service), fds[0], NULL), 0);
    return fds[1];
}

static inline bool rig_has_peer(struct rig *r)
{
    return r->nodes[1].peer_fd >= 0;
}

static inline bool rig_answered_one(struct rig *r)
{
    return r->nodes[0].answers > 0;
}

/* Bytes that a program writes and another one reads, each at the place where it must be. */
struct transfer {
    int from, to; /* the programs' sockets */
    uint64_t size, written, read, wrong;
    bool paused; /* the reader does not read */
    bool ended;  /* ... and has seen the end */
};

#define PATTERN 65521

static inline const uint8_t *pattern(void)
{
    static uint8_t bytes[2 * PATTERN];
    if (bytes[1] == 0)
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)((i % PATTERN) * 2654435761u >> 13 | (i % PATTERN == 1));
    return bytes;
}

static inline void transfer_write(struct transfer *t)
{
    while (t->from >= 0 && t->written < t->size) {
        uint64_t left = t->size - t->written;
        ssize_t n = send(t->from, pattern() + t->written % PATTERN,
                         left < PATTERN ? (size_t)left : PATTERN, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n <= 0)
            return;
        t->written += (uint64_t)n;
        if (t->written == t->size)
            (void)shutdown(t->from, SHUT_WR);
    }
}

static inline void transfer_read(struct transfer *t)
{
    static uint8_t bytes[PATTERN];
    while (t->to >= 0 && !t->paused && !t->ended) {
        ssize_t n = recv(t->to, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n < 0)
            return;
        t->ended = n == 0;
        t->wrong += n > 0 && memcmp(bytes, pattern() + t->read % PATTERN, (size_t)n) != 0;
        t->read += (uint64_t)n;
    }
}

#define TRANSFER_CHECK(t)                                                                          \
    do {                                                                                           \
        CHECK_INT((t)->read, (t)->size);                                                           \
        CHECK_INT((t)->wrong, 0);                                                                  \
        CHECK((t)->ended);                                                                         \
    } while (0)

/* Both directions of one stream, r->user being two transfers: the programs of the usual test. */
static inline void rig_programs(struct rig *r)
{
    struct transfer *t = r->user;
    t[0].to = t[1].from = r->nodes[1].peer_fd;
    for (int i = 0; i < 2; i++) {
        transfer_write(&t[i]);
        transfer_read(&t[i]);
    }
}

static inline bool rig_transferred(struct rig *r)
{
    const struct transfer *t = r->user;
    return t[0].ended && t[1].ended;
}

static inline void rig_transfer(struct rig *r, struct session *s, struct transfer t[2])
{
    int fd = rig_dial(s, "web");
    t[0].from = t[1].to = fd;
    t[0].to = t[1].from = -EBADF;
    r->user = t;
    r->each = rig_programs;
}
