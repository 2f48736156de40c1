#pragma once
/* QUIC without sockets: packets and the time come in, packets and events go out. Everything of
 * ngtcp2 and GnuTLS is behind this header.
 *
 * An endpoint (struct quic) holds connections of both kinds, those that it made and those that were
 * made to it, and finds by the connection ID which one a packet is for. Both sides show a raw
 * Ed25519 key (RFC 7250); the one that connects wants exactly one key, the other one asks its
 * owner. Our connection IDs begin with a byte of 0x80 or more, so that a packet is QUIC exactly
 * when its first byte is 0x40 or more or its second one 0x80 or more (ngtcp2 sends packets whose
 * first byte has neither of the two upper bits).
 *
 * A path is a way out and an address there. Paths with unequal ids are unequal for QUIC even when
 * the addresses are equal. One thread; a hook may call anything here but quic_free(). */

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "keys/keys.h"

struct quic;
struct quic_conn;

#define QUIC_ALPN "berth/1"
/* The largest packet that is ever sent, and the one that every path must carry. */
#define QUIC_PACKET_MAX 1452
#define QUIC_PACKET_MIN 1200
/* The most that one call of the hook `send` gets. */
#define QUIC_BATCH_MAX 65000

/* remote is an IPv4 or IPv6 address; a way without addresses makes one up. */
struct quic_path {
    uint32_t id;
    struct addr remote;
};

/* What the writer is to send next on a connection. */
struct quic_data {
    int64_t stream; /* -1: nothing */
    const void
        *bytes; /* stay where they are until they were acknowledged or the stream is closed */
    size_t n;
    bool fin; /* the stream ends behind these bytes */
};

enum quic_sent {
    QUIC_SENT,
    QUIC_BLOCKED, /* not now: not to be offered until `room`, unless it is the connection that is
                     full */
    QUIC_STOPPED, /* never: the peer reads no more. Only who sends hears of it, or `stream_closed`
                   */
};

/* All are called with `ctx` of quic_new() first. `stream` is the pointer given to
 * quic_stream_set(), NULL before. */
struct quic_hooks {
    /* Nanoseconds of a monotonic clock. */
    uint64_t (*now)(void *ctx);
    /* Packets of `segment` bytes each, the last one may be shorter. False: the way cannot take more
     * now, nothing was sent, and quic_resume() will be called. What cannot be sent at all is
     * dropped, as a network would do. */
    bool (*send)(void *ctx, const struct quic_path *path, const void *bytes, size_t n,
                 size_t segment);
    /* The largest packet for this way out; 0: as large as turns out to work. May be NULL. */
    size_t (*packet_max)(void *ctx, const struct quic_path *path);
    /* quic_expire() is wanted at this time, and not at the one said before. UINT64_MAX: never. */
    void (*timer)(void *ctx, uint64_t at_ns);
    /* Is this key let in? Asked while it connects to us, before it can send anything. */
    bool (*may_connect)(void *ctx, const struct key *peer);

    /* An incoming connection begins to exist: both keys are proven. */
    void (*accepted)(void *ctx, struct quic_conn *c);
    /* Both sides have accepted each other's keys, on this connection and on either side. Streams
     * can be opened by the one that connects a little before. */
    void (*confirmed)(void *ctx, struct quic_conn *c);
    /* The last event of a connection that was accepted or connected; it is freed after this. */
    void (*closed)(void *ctx, struct quic_conn *c, const char *reason);
    void (*path_proven)(void *ctx, struct quic_conn *c, const struct quic_path *path, bool ok);
    /* More streams can be opened. */
    void (*streams)(void *ctx, struct quic_conn *c);

    /* The peer opened a stream. */
    void (*opened)(void *ctx, struct quic_conn *c, int64_t id);
    void (*data)(void *ctx, struct quic_conn *c, void *stream, const void *bytes, size_t n,
                 bool fin);
    /* The oldest n bytes that were sent are not needed any more. */
    void (*acked)(void *ctx, struct quic_conn *c, void *stream, size_t n);
    /* The stream takes more again. */
    void (*room)(void *ctx, struct quic_conn *c, void *stream);
    /* The peer sends no more and what it sent is void. */
    void (*reset)(void *ctx, struct quic_conn *c, void *stream, uint64_t code);
    /* Both directions have ended, or were given up, and everything is acknowledged. The last event
     * of a stream. */
    void (*stream_closed)(void *ctx, struct quic_conn *c, void *stream);

    /* What to send next, asked while packets are written. */
    struct quic_data (*next)(void *ctx, struct quic_conn *c);
    /* What became of it: n bytes are on their way (0 is possible: only the end). */
    void (*sent)(void *ctx, struct quic_conn *c, const struct quic_data *data, size_t n,
                 enum quic_sent how);
    /* All packets of one quic_input() were read, or packets were written: streams may be reset and
     * stopped, which they may not in the hooks above. */
    void (*read)(void *ctx, struct quic_conn *c);
};

/* How many of what; all but the first two only grow. */
struct quic_counters {
    uint32_t connections, half_open;
    uint64_t connected, accepted;
    uint64_t key_refused;               /* handshakes that ended because of a key or without one */
    uint64_t half_open_full;            /* first packets dropped: too many handshakes at once */
    uint64_t retries, resets, versions; /* packets sent: Retry, stateless reset, version list */
    uint64_t garbage;                   /* packets that are nothing of ours */
};

/* Limits of handshakes that others began: from so many on each must prove its address first; above
 * the second number, and the third for one address, first packets are dropped. */
#define QUIC_RETRY_FROM       32
#define QUIC_HALF_OPEN_MAX    256
#define QUIC_HALF_OPEN_SOURCE 16
/* Connections that are up, of both kinds. */
#define QUIC_CONN_MAX 4096
/* Streams that each side may have open at once in one connection. */
#define QUIC_STREAMS_MAX 16384

/* The identity is copied; hooks stay the caller's. -ENOMEM, or -EIO when GnuTLS fails. */
int quic_new(const struct quic_hooks *hooks, void *ctx, const struct identity *id,
             struct quic **ret_quic) WARN_UNUSED;
/* Says goodbye on every connection first. Accepts NULL. */
void quic_free(struct quic *q);
/* Between these two nothing is written, no connection ends and no timer is set; they nest. Every
 * call below is between two of its own. */
void quic_begin(struct quic *q);
void quic_end(struct quic *q);
bool quic_is_quic(const void *bytes, size_t n);
/* Packets of `segment` bytes each, as UDP_GRO gives them (segment = n for one). */
void quic_input(struct quic *q, const struct quic_path *from, const void *bytes, size_t n,
                size_t segment);
void quic_expire(struct quic *q);
/* The way out with this id takes packets again. */
void quic_resume(struct quic *q, uint32_t path_id);
void quic_count(const struct quic *q, struct quic_counters *ret_counters);

/* Begins a handshake with exactly this key. -ENOMEM, -ENOBUFS for too many. */
int quic_connect(struct quic *q, const struct key *peer, const struct quic_path *path, void *user,
                 struct quic_conn **ret_conn) WARN_UNUSED;
/* Ends a connection: `closed` follows at once or, inside of a hook, when that has returned. */
void quic_close(struct quic_conn *c, uint64_t code, const char *reason);
void quic_set(struct quic_conn *c, void *user);
void *quic_user(const struct quic_conn *c);
/* The peer's key: proven unless the connection is ours and not confirmed yet. */
const struct key *quic_peer(const struct quic_conn *c);
bool quic_is_client(const struct quic_conn *c);
/* One ping, now: something that the other side has to acknowledge. */
void quic_ping(struct quic_conn *c);
/* A ping whenever nothing was sent or received for so long; 0: none, and an idle connection ends
 * after QUIC_IDLE_MS. Of a new one: QUIC_KEEP_ALIVE_MS. */
void quic_keep_alive(struct quic_conn *c, uint64_t after_ms);
#define QUIC_IDLE_MS       150000 /* more than the longest interval of pings on an idle path */
#define QUIC_KEEP_ALIVE_MS 15000
/* The way goes over to this path when it has answered; of the two sides only the one that connected
 * may move, the other one follows. `at_once` when the old path is dead. -EPERM, -EAGAIN: not
 * confirmed yet, no spare connection ID at this moment, or called by path_proven(); -EALREADY: it
 * is the path. */
int quic_move(struct quic_conn *c, const struct quic_path *path, bool at_once) WARN_UNUSED;

struct quic_stats {
    struct quic_path path; /* that the next packet takes */
    uint64_t rtt_us, min_rtt_us;
    uint64_t bytes_in, bytes_out, packets_in, packets_out;
    uint64_t cwnd, in_flight;
    unsigned unanswered; /* timeouts in a row that no acknowledgement came between */
    size_t packet_size;
};
void quic_stat(const struct quic_conn *c, struct quic_stats *ret_stats);

/* Opens a stream in both directions. -EAGAIN: not yet, or as many are open as the peer allows; the
 * hook `streams` says when. */
int quic_stream_open(struct quic_conn *c, void *stream, int64_t *ret_id) WARN_UNUSED;
void quic_stream_set(struct quic_conn *c, int64_t id, void *stream);
/* So many bytes may be sent now by all streams together, and by this one alone: above it waits for
 * the peer (the hook `room` says when it goes on). */
size_t quic_room(const struct quic_conn *c);
size_t quic_stream_room(const struct quic_conn *c, int64_t id);
/* About as much as is sent at once. */
size_t quic_quantum(const struct quic_conn *c);
/* There is something to send: writes packets now, or, inside of a hook, when it has returned. */
void quic_write(struct quic_conn *c);
/* n bytes that were received need no memory any more: of the stream and of the connection. */
void quic_stream_extend(struct quic_conn *c, int64_t id, size_t n);
void quic_extend(struct quic_conn *c, size_t n);
/* Gives up a direction, or both. */
void quic_stream_reset(struct quic_conn *c, int64_t id, uint64_t code);
void quic_stream_stop(struct quic_conn *c, int64_t id, uint64_t code);
/* STREAM packets of this stream that were lost so far. */
uint64_t quic_stream_lost(const struct quic_conn *c, int64_t id);
