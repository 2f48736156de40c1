/* A session: its streams are opened and answered here, and it is moved, closed and counted. Calls
 * of the host come in; the session belongs to its endpoint, streams belong to it. */
#include <assert.h>
#include <stdlib.h>

#include "session/internal.h"

_Static_assert(SESSION_SERVICE_MAX == STREAM_SERVICE_MAX, "one limit for one thing");

const char *stream_reason_word(unsigned reason)
{
    static const char *const words[] = {"Taken",       "NotAllowed", "NoService",
                                        "Unreachable", "Busy",       "Malformed"};
    if (reason < sizeof words / sizeof *words)
        return words[reason];
    switch (reason) {
    case STREAM_LOST:
        return "Lost";
    case STREAM_RESET:
        return "Reset";
    case STREAM_GONE:
        return "Gone";
    default:
        return "Unknown";
    }
}

struct session *session_new(struct endpoint *e, struct quic_conn *c, bool incoming)
{
    struct session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->endpoint = e;
    s->conn = c;
    s->incoming = incoming;
    list_init(&s->streams);
    list_init(&s->waiting);
    list_init(&s->ready);
    list_init(&s->touched);
    list_append(&e->sessions, &s->link);
    e->stats.sessions++;
    return s;
}

static void end_all(struct list *streams)
{
    while (!list_empty(streams))
        stream_orphan(container_of(streams->next, struct session_stream, link));
}

void session_end(struct session *s, const char *reason)
{
    struct endpoint *e = s->endpoint;
    end_all(&s->streams);
    end_all(&s->waiting);
    list_remove(&s->link);
    e->stats.sessions--;
    if (!s->incoming || s->up)
        e->host.down(e->ctx, s, reason);
    free(s);
}

int session_connect(struct endpoint *e, const struct key *peer, const struct quic_path *path,
                    struct session **ret_session)
{
    struct session *s = session_new(e, NULL, false);
    if (!s)
        return -ENOMEM;
    int r = quic_connect(e->quic, peer, path, s, &s->conn);
    if (r < 0) {
        list_remove(&s->link);
        e->stats.sessions--;
        free(s);
        return r;
    }
    *ret_session = s;
    return 0;
}

void session_close(struct session *s, const char *reason)
{
    quic_close(s->conn, 0, reason);
}

const struct key *session_peer(const struct session *s)
{
    return quic_peer(s->conn);
}

bool session_is_client(const struct session *s)
{
    return !s->incoming;
}

bool session_is_keyed(const struct session *s)
{
    return s->keyed;
}

bool session_is_up(const struct session *s)
{
    return s->up;
}

struct endpoint *session_endpoint(const struct session *s)
{
    return s->endpoint;
}

void session_set_user(struct session *s, void *user)
{
    s->user = user;
}

void *session_user(const struct session *s)
{
    return s->user;
}

void session_keep_alive(struct session *s, uint64_t after_ms)
{
    quic_keep_alive(s->conn, after_ms);
}

void session_ping(struct session *s)
{
    quic_ping(s->conn);
}

int session_move(struct session *s, const struct quic_path *path, bool at_once)
{
    return quic_move(s->conn, path, at_once);
}

void session_opened(struct session *s, int64_t id)
{
    struct session_stream *st = NULL;
    if (s->header_count < SESSION_HEADERS_MAX)
        st = stream_new(s);
    if (!st) {
        s->endpoint->stats.refused++;
        quic_stream_reset(s->conn, id, STREAM_BUSY);
        quic_stream_stop(s->conn, id, STREAM_BUSY);
        return;
    }
    st->id = id;
    st->phase = STREAM_HEADER;
    s->header_count++;
    quic_stream_set(s->conn, id, st);
}

void session_read(struct session *s)
{
    while (!list_empty(&s->touched))
        stream_progress(container_of(s->touched.next, struct session_stream, touched));
}

/* The stream has a place among the peer's; its socket begins to count. */
static void begin(struct session_stream *st)
{
    struct session *s = st->session;
    list_remove(&st->link);
    list_append(&s->streams, &st->link);
    s->waiting_count--;
    st->phase = STREAM_ASKING;
    if (stream_start(st) < 0) {
        st->broken = true;
        stream_touch(st);
    }
    stream_ready(st);
}

void session_open_waiting(struct session *s)
{
    while (!list_empty(&s->waiting)) {
        struct session_stream *st = container_of(s->waiting.next, struct session_stream, link);
        if (quic_stream_open(s->conn, st, &st->id) < 0)
            return;
        begin(st);
    }
}

/* A stream with its header, not opened yet. */
static struct session_stream *dialled(struct session *s, struct str service, void *user)
{
    struct chunk *header = chunk_new(STREAM_HEADER_MAX);
    struct session_stream *st = header ? stream_new(s) : NULL;
    if (!st) {
        free(header);
        return NULL;
    }
    header->to = stream_header_encode(service, header->bytes);
    pump_put(st, header);
    st->user = user;
    st->phase = STREAM_WAITING;
    s->waiting_count++;
    list_remove(&st->link);
    list_append(&s->waiting, &st->link);
    return st;
}

int session_dial(struct session *s, struct str service, int consumed_fd, void *user)
{
    CLEANUP_FD int fd = consumed_fd;
    if (!stream_service_is_fit(service))
        return -EINVAL;
    if (s->waiting_count >= SESSION_WAITING_MAX)
        return -ENOBUFS;
    struct session_stream *st = dialled(s, service, user);
    if (!st)
        return -ENOMEM;
    st->fd = fd_take(&fd);
    s->endpoint->stats.dialled++;
    quic_begin(s->endpoint->quic);
    session_open_waiting(s);
    quic_write(s->conn);
    quic_end(s->endpoint->quic);
    return 0;
}

struct session *session_of(const struct session_stream *st)
{
    return st->session;
}

const struct key *session_stream_peer(const struct session_stream *st)
{
    return &st->peer;
}

/* Has it ended before it was answered? Then it is freed, and the socket reset. */
static bool ended_before(struct session_stream *st, int fd)
{
    assert(st->phase == STREAM_OFFERED);
    if (st->session && !st->reset && !st->broken && !st->closed)
        return false;
    st->fd = fd;
    st->broken = true;
    st->phase = STREAM_FLOWING;
    if (st->session)
        stream_progress(st);
    else
        stream_orphan(st);
    return true;
}

void session_take(struct session_stream *st, int consumed_fd)
{
    struct quic *q = st->endpoint->quic;
    struct session *s = st->session;
    quic_begin(q);
    if (!ended_before(st, consumed_fd)) {
        st->fd = consumed_fd;
        if (stream_start(st) < 0)
            stream_refused(st, STREAM_UNREACHABLE);
        else
            stream_taken(st);
        session_read(s);
        quic_write(s->conn);
    }
    quic_end(q);
}

void session_refuse(struct session_stream *st, enum stream_reason reason)
{
    struct quic *q = st->endpoint->quic;
    struct session *s = st->session;
    assert(reason != STREAM_TAKEN && reason <= STREAM_MALFORMED);
    quic_begin(q);
    if (!ended_before(st, -EBADF)) {
        stream_refused(st, reason);
        quic_write(s->conn);
    }
    quic_end(q);
}

void session_recheck(struct session *s,
                     bool (*may)(void *ctx, const struct key *peer, struct str service), void *ctx)
{
    struct quic *q = s->endpoint->quic;
    quic_begin(q);
    list_for_each(st, &s->streams, struct session_stream, link)
    {
        if (st->phase == STREAM_FLOWING && *st->service &&
            !may(ctx, &st->peer, str_of(st->service)))
            stream_end(st, STREAM_NOT_ALLOWED);
    }
    quic_write(s->conn);
    quic_end(q);
}

void session_stat(const struct session *s, struct session_stats *ret_stats)
{
    *ret_stats = (struct session_stats){
        .streams = s->stream_count,
        .streams_total = s->streams_total,
        .lost = s->lost,
        .held = s->held,
        .up_ns = s->up_ns,
    };
    quic_stat(s->conn, &ret_stats->quic);
    for (const struct list *at = s->streams.next; at != &s->streams; at = at->next) {
        const struct session_stream *st = container_of(at, struct session_stream, link);
        if (!st->closed)
            ret_stats->lost += quic_stream_lost(s->conn, st->id);
    }
}
