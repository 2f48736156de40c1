/* What a connection has to say becomes packets, and packets of one path and size go out together.
 * A turn ends when nothing is left, when the network or the pacing says so, when it has written its
 * quantum, or when the way out takes no more: then what is written is kept until it does. */
#include <stdlib.h>

#include "quic/internal.h"

/* UDP_MAX_SEGMENTS of the kernel is 64. */
#define BATCH_PACKETS 60
/* Who was woken so much too late for its next packets at most gets the time back. */
#define LATE_NS NGTCP2_MILLISECONDS
/* Quanta of one turn of a connection. */
#define QUANTA 4
/* A blocked connection is looked at again in any case. */
#define BLOCKED_NS (20 * NGTCP2_MILLISECONDS)

void packet_send(struct quic *q, const struct quic_path *path, const void *bytes, size_t n)
{
    (void)q->hooks.send(q->ctx, path, bytes, n, n);
}

/* A packet that is larger than this way out should carry tries out how large they may be. */
static bool fits_path(struct quic_conn *c, const struct quic_path *path, size_t n)
{
    struct quic *q = c->quic;
    if (n <= QUIC_PACKET_MIN || !q->hooks.packet_max)
        return true;
    size_t max = q->hooks.packet_max(q->ctx, path);
    return max == 0 || n <= max;
}

static void count_sent(struct quic_conn *c, const struct batch *b)
{
    c->stats.bytes_out += b->n;
    c->stats.packets_out += (b->n + b->segment - 1) / b->segment;
}

/* False: kept, and the turn is over. */
static bool batch_send(struct quic_conn *c)
{
    struct quic *q = c->quic;
    struct batch *b = &q->batch;
    if (b->n == 0)
        return true;
    if (!q->hooks.send(q->ctx, &b->path, b->bytes, b->n, b->segment)) {
        c->kept = *b;
        c->kept.bytes = malloc(b->n);
        if (c->kept.bytes) /* else it is lost, and the network loses packets, too */
            memcpy(c->kept.bytes, b->bytes, b->n);
        b->n = 0;
        return false;
    }
    count_sent(c, b);
    b->n = 0;
    return true;
}

/* What the connection has moved away from may never take anything again. */
static bool kept_is_void(const struct quic_conn *c)
{
    struct quic_path now = path_from_lib(ngtcp2_conn_get_path(c->lib));
    return !path_equal(&now, &c->kept.path);
}

static void kept_drop(struct batch *k)
{
    free(k->bytes);
    k->bytes = NULL;
}

static bool kept_send(struct quic_conn *c)
{
    struct batch *k = &c->kept;
    struct quic *q = c->quic;
    if (!k->bytes)
        return true;
    if (kept_is_void(c)) {
        kept_drop(k);
        return true;
    }
    if (!q->hooks.send(q->ctx, &k->path, k->bytes, k->n, k->segment))
        return false;
    count_sent(c, k);
    kept_drop(k);
    return true;
}

/* The packet of n bytes behind the batch becomes part of it, or the beginning of the next one. */
static bool batch_take(struct quic_conn *c, const struct quic_path *path, size_t n)
{
    struct batch *b = &c->quic->batch;
    if (!fits_path(c, path, n))
        return true;
    if (b->n > 0 && (!path_equal(path, &b->path) || n > b->segment)) {
        size_t at = b->n;
        if (!batch_send(c))
            return false;
        memmove(b->bytes, b->bytes + at, n);
    }
    if (b->n == 0) {
        b->path = *path;
        b->segment = n;
    }
    b->n += n;
    bool full =
        n < b->segment || b->n + b->segment > QUIC_BATCH_MAX || b->n >= b->segment * BATCH_PACKETS;
    return full ? batch_send(c) : true;
}

/* What the library says to one piece of data. True: go on filling the packet. */
static bool data_taken(struct quic_conn *c, const struct quic_data *data, ngtcp2_ssize result,
                       ngtcp2_ssize taken)
{
    struct quic *q = c->quic;
    enum quic_sent how = QUIC_SENT;
    if (result == NGTCP2_ERR_STREAM_DATA_BLOCKED)
        how = QUIC_BLOCKED;
    else if (result == NGTCP2_ERR_STREAM_SHUT_WR || result == NGTCP2_ERR_STREAM_NOT_FOUND)
        how = QUIC_STOPPED;
    if (data->stream >= 0 && (taken >= 0 || how != QUIC_SENT))
        q->hooks.sent(q->ctx, c, data, taken >= 0 ? (size_t)taken : 0, how);
    return how != QUIC_SENT || result == NGTCP2_ERR_WRITE_MORE;
}

static struct quic_data data_next(struct quic_conn *c)
{
    if (c->phase != CONN_OPEN)
        return (struct quic_data){.stream = -1};
    return c->quic->hooks.next(c->quic->ctx, c);
}

/* One packet at `to`: its size, 0 for none, negative for an error of the library. */
static ngtcp2_ssize packet_write(struct quic_conn *c, uint8_t *to, uint64_t now,
                                 struct quic_path *ret_path)
{
    ngtcp2_path_storage path;
    ngtcp2_pkt_info info;
    ngtcp2_path_storage_zero(&path);
    for (;;) {
        struct quic_data data = data_next(c);
        ngtcp2_vec vec = {(uint8_t *)data.bytes, data.n};
        ngtcp2_ssize taken = -1;
        uint32_t flags = data.stream >= 0 ? NGTCP2_WRITE_STREAM_FLAG_MORE : 0;
        if (data.fin)
            flags |= NGTCP2_WRITE_STREAM_FLAG_FIN;
        ngtcp2_ssize n =
            ngtcp2_conn_writev_stream(c->lib, &path.path, &info, to, QUIC_PACKET_MAX, &taken, flags,
                                      data.stream, &vec, data.n > 0 ? 1 : 0, now);
        if (data_taken(c, &data, n, taken))
            continue;
        if (n > 0)
            *ret_path = path_from_lib(&path.path);
        return n;
    }
}

/* Packets with at least so many bytes together. False: there was not so much to say. */
static bool packets_write(struct quic_conn *c, uint64_t now, size_t quantum)
{
    struct batch *b = &c->quic->batch;
    for (size_t sum = 0; sum < quantum;) {
        struct quic_path path;
        ngtcp2_ssize n = packet_write(c, b->bytes + b->n, now, &path);
        if (n < 0)
            conn_doom_lib(c, (int)n);
        if (n <= 0) {
            (void)batch_send(c);
            return false;
        }
        sum += (size_t)n;
        if (!batch_take(c, &path, (size_t)n))
            return false;
    }
    return batch_send(c);
}

/* The other side follows to a new path only when it sees more than probes there. The library has no
 * call for a ping; its keep-alive is made to seem overdue. */
static void write_ping(struct quic_conn *c, uint64_t now)
{
    ngtcp2_conn_set_keep_alive_timeout(c->lib, UINT64_MAX - 1);
    (void)packets_write(c, now, 1);
    ngtcp2_conn_set_keep_alive_timeout(c->lib, c->keep_alive_ns);
    c->ping_due = false;
}

/* The next packets are due when those that were sent now have left at the pace that the congestion
 * control says. It goes on from when these were due, not from when we came to it: else each
 * lateness of a timer would be taken for a slower network. */
static void pace(struct quic_conn *c, uint64_t now, uint64_t sent)
{
    ngtcp2_conn_stat stat;
    if (sent == 0)
        return;
    bool late = c->due_ns < now && now - c->due_ns <= LATE_NS;
    uint64_t from = late ? c->due_ns : now;
    ngtcp2_conn_update_pkt_tx_time(c->lib, from);
    ngtcp2_conn_get_conn_stat(c->lib, &stat);
    double pace = stat.pacing_rate;
    if (pace <= 0)
        pace = (double)stat.cwnd / (double)stat.smoothed_rtt * 1.25;
    c->due_ns = from + (uint64_t)((double)sent / pace);
}

/* The library lets packets go that are due within the next millisecond, so that a timer for each
 * quantum is not needed. */
static void quanta_write(struct quic_conn *c, uint64_t now)
{
    bool more = true;
    for (int i = 0; more && i < QUANTA; i++) {
        uint64_t before = c->stats.bytes_out;
        more = packets_write(c, now, quic_quantum(c));
        /* Pacing of the handshake would go by a round trip that nobody has measured. */
        if (c->phase == CONN_OPEN)
            pace(c, now, c->stats.bytes_out - before);
    }
}

void conn_write(struct quic_conn *c)
{
    uint64_t now = quic_now(c->quic);
    if (kept_send(c)) {
        if (c->ping_due)
            write_ping(c, now);
        if (c->phase != CONN_DOOMED)
            quanta_write(c, now);
    }
    uint64_t at = ngtcp2_conn_get_expiry(c->lib);
    /* Connection IDs that are due at a time are removed only behind it. */
    at += at < UINT64_MAX;
    if (c->kept.bytes && at < now + BLOCKED_NS)
        at = now + BLOCKED_NS;
    deadline_change(&c->quic->deadlines, c, at);
}

void quic_write(struct quic_conn *c)
{
    quic_begin(c->quic);
    conn_urgent(c);
    quic_end(c->quic);
}
