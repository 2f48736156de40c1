/* The endpoint of all sessions of one identity: between the host and QUIC. Packets and deadlines go
 * down as they come; the events of QUIC find their session or stream here. It owns the sessions. */
#include <stdlib.h>

#include "session/internal.h"

static struct endpoint *endpoint_of(void *ctx)
{
    return ctx;
}

static struct session *session_of_conn(struct quic_conn *c)
{
    return quic_user(c);
}

static uint64_t on_now(void *ctx)
{
    struct endpoint *e = endpoint_of(ctx);
    return e->host.now(e->ctx);
}

static bool on_send(void *ctx, const struct quic_path *path, const void *bytes, size_t n,
                    size_t segment)
{
    struct endpoint *e = endpoint_of(ctx);
    return e->host.send(e->ctx, path, bytes, n, segment);
}

static size_t on_packet_max(void *ctx, const struct quic_path *path)
{
    struct endpoint *e = endpoint_of(ctx);
    return e->host.packet_max ? e->host.packet_max(e->ctx, path) : 0;
}

static void on_timer(void *ctx, uint64_t at_ns)
{
    struct endpoint *e = endpoint_of(ctx);
    e->host.timer(e->ctx, at_ns);
}

static bool on_may_connect(void *ctx, const struct key *peer)
{
    struct endpoint *e = endpoint_of(ctx);
    return e->host.may_connect(e->ctx, peer);
}

static unsigned incoming_of(const struct endpoint *e, const struct key *peer)
{
    unsigned count = 0;
    for (const struct list *at = e->sessions.next; at != &e->sessions; at = at->next) {
        const struct session *s = container_of(at, struct session, link);
        if (s->incoming && key_equal(session_peer(s), peer))
            count++;
    }
    return count;
}

static void on_accepted(void *ctx, struct quic_conn *c)
{
    struct endpoint *e = endpoint_of(ctx);
    struct session *s = NULL;
    if (incoming_of(e, quic_peer(c)) < SESSIONS_OF_PEER)
        s = session_new(e, c, true);
    if (!s) {
        quic_close(c, STREAM_BUSY, "Busy");
        return;
    }
    quic_set(c, s);
}

static void on_confirmed(void *ctx, struct quic_conn *c)
{
    struct endpoint *e = endpoint_of(ctx);
    struct session *s = session_of_conn(c);
    if (!s)
        return;
    s->up = true;
    s->up_ns = on_now(ctx);
    e->host.up(e->ctx, s);
}

static void on_closed(void *ctx, struct quic_conn *c, const char *reason)
{
    (void)ctx;
    struct session *s = session_of_conn(c);
    if (s)
        session_end(s, reason);
}

static void on_path_proven(void *ctx, struct quic_conn *c, const struct quic_path *path, bool ok)
{
    struct endpoint *e = endpoint_of(ctx);
    struct session *s = session_of_conn(c);
    if (s && s->up)
        e->host.path_proven(e->ctx, s, path, ok);
}

static void on_streams(void *ctx, struct quic_conn *c)
{
    struct endpoint *e = endpoint_of(ctx);
    struct session *s = session_of_conn(c);
    if (!s)
        return;
    bool first = !s->keyed;
    s->keyed = true;
    if (first && e->host.keyed)
        e->host.keyed(e->ctx, s);
    session_open_waiting(s);
}

static void on_opened(void *ctx, struct quic_conn *c, int64_t id)
{
    (void)ctx;
    struct session *s = session_of_conn(c);
    if (s)
        session_opened(s, id);
}

static void on_data(void *ctx, struct quic_conn *c, void *stream, const void *bytes, size_t n,
                    bool fin)
{
    (void)ctx;
    struct session_stream *st = stream;
    if (!st) {
        quic_extend(c, n);
        return;
    }
    if (n > 0)
        pump_received(st, bytes, n);
    st->in_fin = st->in_fin || fin;
    stream_touch(st);
}

static void on_acked(void *ctx, struct quic_conn *c, void *stream, size_t n)
{
    (void)ctx, (void)c;
    struct session_stream *st = stream;
    st->endpoint->stats.unsent -= n;
    queue_drop(&st->out, n);
}

static void on_room(void *ctx, struct quic_conn *c, void *stream)
{
    (void)ctx, (void)c;
    struct session_stream *st = stream;
    st->starved = false;
    stream_ready(st);
}

static void on_reset(void *ctx, struct quic_conn *c, void *stream, uint64_t code)
{
    (void)ctx, (void)c;
    struct session_stream *st = stream;
    st->reset = true;
    st->code = code;
    stream_touch(st);
}

static void on_stream_closed(void *ctx, struct quic_conn *c, void *stream)
{
    (void)ctx;
    struct session_stream *st = stream;
    st->session->lost += quic_stream_lost(c, st->id);
    st->closed = true;
    /* It ended before we ended it. */
    st->stopped = st->stopped || !st->fin_sent;
    list_remove(&st->ready);
    stream_touch(st);
}

static struct quic_data on_next(void *ctx, struct quic_conn *c)
{
    (void)ctx;
    struct session *s = session_of_conn(c);
    return s ? pump_next(s) : (struct quic_data){.stream = -1};
}

static void on_sent(void *ctx, struct quic_conn *c, const struct quic_data *data, size_t n,
                    enum quic_sent how)
{
    (void)ctx;
    pump_sent(session_of_conn(c), data, n, how);
}

static void on_read(void *ctx, struct quic_conn *c)
{
    (void)ctx;
    struct session *s = session_of_conn(c);
    if (s)
        session_read(s);
}

static const struct quic_hooks hooks = {
    .now = on_now,
    .send = on_send,
    .packet_max = on_packet_max,
    .timer = on_timer,
    .may_connect = on_may_connect,
    .accepted = on_accepted,
    .confirmed = on_confirmed,
    .closed = on_closed,
    .path_proven = on_path_proven,
    .streams = on_streams,
    .opened = on_opened,
    .data = on_data,
    .acked = on_acked,
    .room = on_room,
    .reset = on_reset,
    .stream_closed = on_stream_closed,
    .next = on_next,
    .sent = on_sent,
    .read = on_read,
};

int endpoint_new(const struct session_host *host, void *ctx, struct loop *loop,
                 const struct identity *id, struct endpoint **ret_endpoint)
{
    struct endpoint *e = calloc(1, sizeof *e);
    if (!e)
        return -ENOMEM;
    e->host = *host;
    e->ctx = ctx;
    e->loop = loop;
    list_init(&e->sessions);
    list_init(&e->orphans);
    int r = quic_new(&hooks, e, id, &e->quic);
    if (r < 0) {
        free(e);
        return r;
    }
    *ret_endpoint = e;
    return 0;
}

void endpoint_free(struct endpoint *e)
{
    if (!e)
        return;
    quic_free(e->quic);
    list_for_each(st, &e->orphans, struct session_stream, link)
    {
        st->phase = STREAM_OVER;
        stream_reap(st);
    }
    free(e);
}

void endpoint_input(struct endpoint *e, const struct quic_path *from, const void *bytes, size_t n,
                    size_t segment)
{
    quic_input(e->quic, from, bytes, n, segment);
}

void endpoint_expire(struct endpoint *e)
{
    quic_expire(e->quic);
}

void endpoint_resume(struct endpoint *e, uint32_t path_id)
{
    quic_resume(e->quic, path_id);
}

struct session *endpoint_find(struct endpoint *e, const struct key *peer)
{
    for (struct list *at = e->sessions.prev; at != &e->sessions; at = at->prev) {
        struct session *s = container_of(at, struct session, link);
        if (s->up && key_equal(session_peer(s), peer))
            return s;
    }
    return NULL;
}

struct session *endpoint_next(struct endpoint *e, const struct session *s)
{
    struct list *at = s ? s->link.next : e->sessions.next;
    return at == &e->sessions ? NULL : container_of(at, struct session, link);
}

void endpoint_stat(const struct endpoint *e, struct endpoint_stats *ret_stats)
{
    *ret_stats = e->stats;
    quic_count(e->quic, &ret_stats->quic);
}
