/* Streams of a connection, as their owner uses them. A connection that is about to end takes
 * nothing any more. */
#include "quic/internal.h"

#define QUANTUM_MIN 4096

static bool is_usable(const struct quic_conn *c)
{
    return c->phase == CONN_OPEN && c->lib;
}

int quic_stream_open(struct quic_conn *c, void *stream, int64_t *ret_id)
{
    if (!is_usable(c))
        return -EAGAIN;
    switch (ngtcp2_conn_open_bidi_stream(c->lib, ret_id, stream)) {
    case 0:
        return 0;
    case NGTCP2_ERR_NOMEM:
        return -ENOMEM;
    default:
        return -EAGAIN;
    }
}

void quic_stream_set(struct quic_conn *c, int64_t id, void *stream)
{
    if (c->lib)
        (void)ngtcp2_conn_set_stream_user_data(c->lib, id, stream);
}

static size_t least(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

size_t quic_room(const struct quic_conn *c)
{
    if (!is_usable(c) || c->kept.bytes)
        return 0;
    return least(ngtcp2_conn_get_max_data_left(c->lib), ngtcp2_conn_get_cwnd_left(c->lib));
}

size_t quic_stream_room(const struct quic_conn *c, int64_t id)
{
    return is_usable(c) ? (size_t)ngtcp2_conn_get_max_stream_data_left(c->lib, id) : 0;
}

size_t quic_quantum(const struct quic_conn *c)
{
    size_t quantum = c->lib ? ngtcp2_conn_get_send_quantum(c->lib) : 0;
    if (quantum < QUANTUM_MIN)
        return QUANTUM_MIN;
    return quantum < QUIC_BATCH_MAX ? quantum : QUIC_BATCH_MAX;
}

void quic_stream_extend(struct quic_conn *c, int64_t id, size_t n)
{
    if (is_usable(c) && ngtcp2_conn_extend_max_stream_offset(c->lib, id, n) != 0)
        conn_doom(c, "no memory");
}

void quic_extend(struct quic_conn *c, size_t n)
{
    if (is_usable(c))
        ngtcp2_conn_extend_max_offset(c->lib, n);
}

void quic_stream_reset(struct quic_conn *c, int64_t id, uint64_t code)
{
    if (is_usable(c) && ngtcp2_conn_shutdown_stream_write(c->lib, id, code) != 0)
        conn_doom(c, "no memory");
}

void quic_stream_stop(struct quic_conn *c, int64_t id, uint64_t code)
{
    if (is_usable(c) && ngtcp2_conn_shutdown_stream_read(c->lib, id, code) != 0)
        conn_doom(c, "no memory");
}

uint64_t quic_stream_lost(const struct quic_conn *c, int64_t id)
{
    return c->lib ? ngtcp2_conn_get_stream_loss_count(c->lib, id) : 0;
}
