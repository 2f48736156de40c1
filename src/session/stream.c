/* The life of a stream: waiting or coming, asking or offered, flowing, over. Events of QUIC and of
 * the socket are noted where they happen; the steps that follow are made by stream_progress(), when
 * QUIC may be called again. A stream belongs to its session, and to the endpoint's orphans when
 * that has ended before the host has answered. */
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "session/internal.h"

static void on_socket(struct watch *w, uint32_t events);

struct session_stream *stream_new(struct session *s)
{
    struct session_stream *st = calloc(1, sizeof *st);
    if (!st)
        return NULL;
    st->endpoint = s->endpoint;
    st->session = s;
    st->fd = -EBADF;
    st->id = -1;
    st->watch = (struct watch){.fd = -EBADF, .ready = on_socket};
    st->peer = *session_peer(s);
    list_init(&st->ready);
    list_init(&st->touched);
    list_append(&s->streams, &st->link);
    s->stream_count++;
    s->streams_total++;
    s->endpoint->stats.streams++;
    return st;
}

static void leave_session(struct session_stream *st)
{
    struct session *s = st->session;
    list_remove(&st->link);
    list_remove(&st->ready);
    list_remove(&st->touched);
    if (!s)
        return;
    s->stream_count--;
    s->header_count -= st->phase == STREAM_HEADER;
    s->waiting_count -= st->phase == STREAM_WAITING;
    st->session = NULL;
}

static void stream_free(struct session_stream *st)
{
    if (st->session && st->in.bytes > 0)
        stream_consumed(st, st->in.bytes);
    leave_session(st);
    pump_close(st, true);
    st->endpoint->stats.streams--;
    st->endpoint->stats.unsent -= st->out.bytes;
    queue_done(&st->in);
    queue_done(&st->out);
    free(st);
}

void stream_reap(struct session_stream *st)
{
    if (st->phase == STREAM_OVER && (st->closed || !st->session))
        stream_free(st);
}

void stream_consumed(struct session_stream *st, size_t n)
{
    struct session *s = st->session;
    s->held -= n;
    st->endpoint->stats.held -= n;
    quic_stream_extend(s->conn, st->id, n);
    size_t back = s->owed < n ? (size_t)s->owed : n;
    if (back > 0)
        quic_extend(s->conn, back);
    s->owed -= back;
}

void stream_touch(struct session_stream *st)
{
    if (list_empty(&st->touched) && st->session)
        list_append(&st->session->touched, &st->touched);
}

void stream_ready(struct session_stream *st)
{
    bool something = st->next_out || (st->read_end && !st->fin_sent) ||
                     (st->readable && !st->read_end && st->fd >= 0);
    if (!something || st->starved || st->id < 0 || st->closed || !list_empty(&st->ready))
        return;
    list_append(&st->session->ready, &st->ready);
}

/* Of no use any more: the socket goes, what was received and not taken is dropped. What was sent
 * stays until QUIC needs it no more. */
static void stream_over(struct session_stream *st, bool reset_socket)
{
    struct session *s = st->session;
    pump_close(st, reset_socket);
    if (s) {
        if (st->in.bytes > 0)
            stream_consumed(st, st->in.bytes);
        s->header_count -= st->phase == STREAM_HEADER;
        s->waiting_count -= st->phase == STREAM_WAITING;
    }
    queue_done(&st->in);
    st->phase = STREAM_OVER;
}

/* Nothing is sent any more, not even what is there. */
static void stream_mute(struct session_stream *st)
{
    list_remove(&st->ready);
    st->read_end = st->fin_sent = true;
    st->next_out = NULL;
}

/* Both directions are given up. */
static void stream_abort(struct session_stream *st, uint64_t code)
{
    if (st->session && st->id >= 0 && !st->closed) {
        stream_mute(st);
        quic_stream_reset(st->session->conn, st->id, code);
        quic_stream_stop(st->session->conn, st->id, code);
    }
    stream_over(st, true);
}

static void answer(struct session_stream *st, unsigned reason)
{
    struct endpoint *e = st->endpoint;
    e->host.answered(e->ctx, st->session, st->user, reason);
}

int stream_start(struct session_stream *st)
{
    int flags = fcntl(st->fd, F_GETFL), on = 1;
    if (flags < 0 || fcntl(st->fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    /* What comes is written at once and in the pieces in which it came. */
    (void)setsockopt(st->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    st->readable = true;
    return loop_watch(st->endpoint->loop, &st->watch, st->fd,
                      EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

/* One byte of our own: an answer. */
static void put_status(struct session_stream *st, unsigned reason)
{
    struct chunk *c = chunk_new(1);
    if (!c) {
        stream_abort(st, STREAM_BUSY);
        return;
    }
    c->bytes[0] = (uint8_t)reason;
    c->to = 1;
    pump_put(st, c);
    stream_ready(st);
}

void stream_taken(struct session_stream *st)
{
    put_status(st, STREAM_TAKEN);
    if (st->phase == STREAM_OVER)
        return;
    st->phase = STREAM_FLOWING;
    stream_touch(st);
}

void stream_refused(struct session_stream *st, unsigned reason)
{
    st->endpoint->stats.refused++;
    st->read_end = true;
    put_status(st, reason);
    if (st->phase == STREAM_OVER)
        return;
    quic_stream_stop(st->session->conn, st->id, reason);
    stream_over(st, false);
}

void stream_end(struct session_stream *st, unsigned reason)
{
    stream_abort(st, reason);
    stream_reap(st);
}

/* The header, when it is there: the host is asked. True: the stream is the host's, or gone by its
 * answer. */
static bool step_header(struct session_stream *st)
{
    struct endpoint *e = st->endpoint;
    uint8_t bytes[STREAM_HEADER_MAX];
    char name[STREAM_SERVICE_MAX];
    struct str service;
    size_t size;
    size_t n = queue_peek(&st->in, bytes, sizeof bytes);
    int r = stream_header_decode(bytes, n, &service, &size);
    if (r == -EAGAIN && !st->in_fin)
        return false;
    if (r < 0) {
        stream_refused(st, STREAM_MALFORMED);
        return false;
    }
    memcpy(name, service.p, service.n);
    memcpy(st->service, service.p, service.n);
    stream_consumed(st, size);
    queue_drop(&st->in, size);
    st->session->header_count--;
    st->phase = STREAM_OFFERED;
    e->stats.opened++;
    e->host.open(e->ctx, st, (struct str){name, service.n});
    return true;
}

static void step_asking(struct session_stream *st)
{
    uint8_t reason = 0;
    if (queue_peek(&st->in, &reason, 1) == 0) {
        if (!st->in_fin)
            return;
        reason = STREAM_MALFORMED;
    } else {
        stream_consumed(st, 1);
        queue_drop(&st->in, 1);
    }
    if (reason == STREAM_TAKEN)
        st->phase = STREAM_FLOWING;
    else
        st->endpoint->stats.refused++;
    answer(st, reason);
    if (reason != STREAM_TAKEN)
        stream_abort(st, 0);
}

/* The socket has taken all, or cannot take any more. */
static void step_flowing(struct session_stream *st)
{
    int r = st->in_end ? 0 : pump_write(st);
    if (r == -EPIPE) {
        quic_stream_stop(st->session->conn, st->id, 0);
        stream_consumed(st, st->in.bytes);
        queue_done(&st->in);
        st->in_end = true;
    } else if (r < 0) {
        stream_abort(st, 0);
        return;
    }
    if (st->in_fin && st->in.bytes == 0 && !st->in_end) {
        (void)shutdown(st->fd, SHUT_WR);
        st->in_end = true;
    }
    /* Who reads no more has closed its socket when it writes no more either: a reset. */
    if (st->stopped && st->in_end)
        stream_abort(st, 0);
    else if (st->in_end && st->fin_sent)
        stream_over(st, false);
}

/* An end that came from QUIC or from the socket before its time. True: there was one. */
static bool step_end(struct session_stream *st)
{
    bool asking = st->phase == STREAM_ASKING || st->phase == STREAM_WAITING;
    if (!st->broken && !st->reset)
        return false;
    if (st->phase == STREAM_OFFERED)
        return true; /* the host has it, and hears nothing of this */
    uint64_t code = st->code <= STREAM_MALFORMED ? st->code : 0;
    if (asking)
        answer(st, st->broken ? STREAM_GONE : code > 0 ? (unsigned)code : STREAM_RESET);
    stream_abort(st, 0);
    return true;
}

/* True: the stream may be gone. */
static bool step(struct session_stream *st)
{
    if (st->phase == STREAM_OVER || step_end(st))
        return false;
    if (st->phase == STREAM_HEADER)
        return step_header(st);
    if (st->phase == STREAM_ASKING)
        step_asking(st);
    /* What came with the answer goes on at once. */
    if (st->phase == STREAM_FLOWING)
        step_flowing(st);
    return false;
}

void stream_progress(struct session_stream *st)
{
    list_remove(&st->touched);
    /* The peer reads no more: neither do we. The socket's other end is told if it can be. */
    if (st->stopped && !st->fin_sent) {
        stream_mute(st);
        if (st->fd >= 0)
            (void)shutdown(st->fd, SHUT_RD);
    }
    if (!step(st))
        stream_reap(st);
}

void stream_orphan(struct session_stream *st)
{
    struct endpoint *e = st->endpoint;
    if (st->phase == STREAM_ASKING || st->phase == STREAM_WAITING)
        answer(st, STREAM_LOST);
    if (st->phase != STREAM_OFFERED) {
        stream_free(st);
        return;
    }
    if (st->in.bytes > 0)
        stream_consumed(st, st->in.bytes);
    queue_done(&st->in);
    leave_session(st);
    list_append(&e->orphans, &st->link);
}

static bool has_failed(const struct session_stream *st)
{
    int error = 0;
    socklen_t n = sizeof error;
    return getsockopt(st->fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 || error != 0;
}

static void on_socket(struct watch *w, uint32_t events)
{
    struct session_stream *st = container_of(w, struct session_stream, watch);
    struct session *s = st->session;
    struct quic_conn *conn = s->conn;
    struct quic *q = st->endpoint->quic;
    quic_begin(q);
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP))
        st->readable = true;
    if ((events & EPOLLERR) && has_failed(st))
        st->broken = true;
    stream_ready(st);
    stream_touch(st);
    session_read(s);
    quic_write(conn);
    quic_end(q);
}
