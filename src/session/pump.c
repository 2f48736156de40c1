/* Bytes between the sockets of streams and their queues. A socket is read only when a packet is
 * about to be written and its stream may send, so that what is read is under way at once and a slow
 * reader at the other end stops the writer at this end. The queues belong to the streams. */
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "session/internal.h"

#define READ_MIN   256
#define WRITE_IOVS 16

enum read_result { READ_BYTES, READ_NOTHING, READ_END, READ_FAILED };

/* How much a read may bring, so that memory is taken for what is there only. */
static size_t read_size(const struct session_stream *st)
{
    size_t most = quic_quantum(st->session->conn);
    size_t room = quic_stream_room(st->session->conn, st->id);
    most = room < most ? room : most;
    int waiting = 0;
    if (ioctl(st->fd, FIONREAD, &waiting) < 0 || waiting < READ_MIN)
        waiting = READ_MIN;
    return (size_t)waiting < most ? (size_t)waiting : most;
}

void pump_put(struct session_stream *st, struct chunk *c)
{
    queue_append(&st->out, c);
    st->endpoint->stats.unsent += c->to;
    if (!st->next_out) {
        st->next_out = c;
        st->next_at = 0;
    }
}

static enum read_result pump_read(struct session_stream *st)
{
    size_t n = read_size(st);
    struct chunk *c = chunk_new(n);
    if (!c)
        return READ_NOTHING; /* no memory: the next event of the socket brings us here again */
    ssize_t got = recv(st->fd, c->bytes, n, MSG_DONTWAIT);
    if (got > 0) {
        c->to = (size_t)got;
        pump_put(st, c);
        return READ_BYTES;
    }
    free(c);
    if (got == 0)
        return READ_END;
    return errno == EAGAIN || errno == EINTR ? READ_NOTHING : READ_FAILED;
}

/* The state of the stream follows what the read has said. False: nothing to send came of it. */
static bool read_step(struct session_stream *st)
{
    switch (pump_read(st)) {
    case READ_BYTES:
        return true;
    case READ_END:
        st->read_end = true;
        return true;
    case READ_FAILED:
        /* In the middle of a packet is no time for it. */
        st->broken = true;
        st->read_end = true;
        stream_touch(st);
        return false;
    case READ_NOTHING:
        break;
    }
    st->readable = false;
    return false;
}

static bool is_fin_due(const struct session_stream *st)
{
    return st->read_end && !st->fin_sent && !st->broken && !st->next_out;
}

static struct quic_data data_of(const struct session_stream *st)
{
    struct quic_data data = {.stream = st->id, .bytes = ""};
    if (st->next_out) {
        data.bytes = st->next_out->bytes + st->next_at;
        data.n = st->next_out->to - st->next_at;
    }
    data.fin =
        st->read_end && !st->fin_sent && !st->broken && (!st->next_out || !st->next_out->next);
    return data;
}

/* True: data_of() has something. */
static bool offer(struct session_stream *st, bool room)
{
    if (is_fin_due(st))
        return true;
    if (!room || st->starved)
        return false;
    if (st->next_out)
        return true;
    if (st->fd < 0 || !st->readable || st->read_end)
        return false;
    if (quic_stream_room(st->session->conn, st->id) == 0) {
        st->starved = true;
        return false;
    }
    return read_step(st);
}

/* The stream in front has its turn until it has sent a quantum or has nothing left. */
struct quic_data pump_next(struct session *s)
{
    bool room = quic_room(s->conn) > 0;
    while (!list_empty(&s->ready)) {
        struct session_stream *st = container_of(s->ready.next, struct session_stream, ready);
        if (offer(st, room))
            return data_of(st);
        if (!room && !st->starved)
            break; /* nothing but an end could be sent, and this is none */
        list_remove(&st->ready);
        st->turn = 0;
    }
    return (struct quic_data){.stream = -1};
}

static struct session_stream *by_id(struct session *s, int64_t id)
{
    struct session_stream *st = container_of(s->ready.next, struct session_stream, ready);
    return !list_empty(&s->ready) && st->id == id ? st : NULL;
}

void pump_sent(struct session *s, const struct quic_data *data, size_t n, enum quic_sent how)
{
    struct session_stream *st = by_id(s, data->stream);
    if (!st)
        return; /* only what stands in front was offered */
    if (how == QUIC_STOPPED) {
        st->stopped = true;
        list_remove(&st->ready);
        stream_touch(st);
        return;
    }
    if (how == QUIC_BLOCKED) {
        /* Unless it is the connection that is full: then it stays in front. */
        st->starved = quic_stream_room(s->conn, st->id) == 0;
        if (st->starved || quic_room(s->conn) > 0)
            list_remove(&st->ready);
        return;
    }
    if (data->fin && n == data->n)
        st->fin_sent = true;
    st->next_at += n;
    if (st->next_out && st->next_at == st->next_out->to) {
        st->next_out = st->next_out->next;
        st->next_at = 0;
    }
    st->turn += n;
    if (st->fin_sent || st->turn >= quic_quantum(s->conn)) {
        st->turn = 0;
        list_remove(&st->ready);
        if (!st->fin_sent)
            list_append(&s->ready, &st->ready);
    }
}

void pump_received(struct session_stream *st, const void *bytes, size_t n)
{
    struct session *s = st->session;
    struct endpoint *e = st->endpoint;
    bool dropped = st->phase == STREAM_OVER || st->in_end;
    if (dropped || queue_put(&st->in, bytes, n) < 0) {
        quic_extend(s->conn, n);
        st->broken = st->broken || !dropped;
        return;
    }
    s->held += n;
    e->stats.held += n;
    /* The connection's window is not for one slow stream to fill, but memory has its limit. */
    if (s->held <= SESSION_HELD_MAX && e->stats.held <= ENDPOINT_HELD_MAX)
        quic_extend(s->conn, n);
    else
        s->owed += n;
}

static size_t gather(const struct queue *q, struct iovec iov[WRITE_IOVS])
{
    size_t count = 0;
    for (struct chunk *c = q->head; c && count < WRITE_IOVS; c = c->next)
        iov[count++] = (struct iovec){c->bytes + c->from, c->to - c->from};
    return count;
}

int pump_write(struct session_stream *st)
{
    while (st->in.bytes > 0) {
        struct iovec iov[WRITE_IOVS];
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = gather(&st->in, iov)};
        ssize_t n = sendmsg(st->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        stream_consumed(st, (size_t)n);
        queue_drop(&st->in, (size_t)n);
    }
    return 0;
}

void pump_close(struct session_stream *st, bool reset)
{
    struct linger at_once = {.l_onoff = 1};
    if (st->fd < 0)
        return;
    loop_unwatch(st->endpoint->loop, &st->watch);
    /* A Unix socket has no resets: its other end sees the end, or ECONNRESET when there is
     * something that we have not read. */
    if (reset)
        (void)setsockopt(st->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    st->fd = fd_close(st->fd);
}
