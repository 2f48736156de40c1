/* The end of a connection: the goodbye is sent, the owner hears why, the library's part is freed.
 * What stays for a few seconds is the packet, for a peer that has not heard it and goes on. */
#include <stdlib.h>

#include "quic/internal.h"

/* RFC 9000 10.2: at least three times the current PTO. */
#define ENDED_NS  (3 * NGTCP2_SECONDS)
#define ENDED_MAX 512

static void goodbye_make(struct quic_conn *c)
{
    uint8_t packet[QUIC_PACKET_MIN];
    ngtcp2_path_storage path;
    ngtcp2_pkt_info info;
    ngtcp2_path_storage_zero(&path);
    ngtcp2_ssize n = ngtcp2_conn_write_connection_close(
        c->lib, &path.path, &info, packet, sizeof packet, &c->error, quic_now(c->quic));
    if (n <= 0 || path.path.remote.addrlen == 0)
        return;
    c->goodbye_path = path_from_lib(&path.path);
    packet_send(c->quic, &c->goodbye_path, packet, (size_t)n);
    c->goodbye = malloc((size_t)n);
    if (!c->goodbye)
        return;
    memcpy(c->goodbye, packet, (size_t)n);
    c->goodbye_n = (size_t)n;
}

void ended_free(struct quic_conn *c)
{
    cid_remove_all(&c->quic->cids, c);
    c->quic->ended_count--;
    list_remove(&c->link);
    free(c->goodbye);
    free(c);
}

/* The state of the connection goes, its IDs stay known. */
static void keep_goodbye(struct quic_conn *c)
{
    struct quic *q = c->quic;
    ngtcp2_conn_del(c->lib);
    c->lib = NULL;
    gnutls_deinit(c->tls);
    c->tls = NULL;
    free(c->kept.bytes);
    c->kept.bytes = NULL;
    cid_remove_all(&q->tokens, c);
    deadline_remove(&q->deadlines, c);
    list_remove(&c->urgent);
    list_remove(&c->link);
    q->counters.connections--;
    c->phase = CONN_ENDED;
    c->deadline_ns = quic_now(q) + ENDED_NS;
    list_append(&q->ended, &c->link);
    if (++q->ended_count > ENDED_MAX)
        ended_free(container_of(q->ended.next, struct quic_conn, link));
}

void conn_end(struct quic_conn *c)
{
    struct quic *q = c->quic;
    if (!c->silent)
        goodbye_make(c);
    conn_not_half_open(c);
    if (c->announced)
        q->hooks.closed(q->ctx, c, c->reason);
    keep_goodbye(c);
}

/* The 1st, 2nd, 4th, ... packet that still comes is answered. */
void ended_input(struct quic_conn *c, const struct quic_path *from)
{
    unsigned heard = ++c->goodbye_heard;
    if (c->goodbye && (heard & (heard - 1)) == 0 && path_equal(from, &c->goodbye_path))
        packet_send(c->quic, from, c->goodbye, c->goodbye_n);
}
