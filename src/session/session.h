#pragma once
/* Sessions between peers: one QUIC connection for each pair, one stream for each dialled
 * connection, and at both ends of a stream a connected stream socket (TCP, Unix or a socketpair).
 * What is written into one socket comes out of the other; half-close, resets and back-pressure are
 * carried both ways. No packet is read or written here: the host has the UDP socket, the relay
 * channels and all other ways out.
 *
 * The endpoint belongs to one thread and to one loop, which watches the streams' sockets. It reads
 * the time only through host->now. Inside of a call of the host everything here may be called but
 * endpoint_free(). */

#include "loop/loop.h"
#include "quic/quic.h"

struct endpoint;
struct session;
struct session_stream;

#define SESSION_SERVICE_MAX 63
/* Streams of one session that wait because the peer allows no more at once. */
#define SESSION_WAITING_MAX 1024

/* Why a dialled stream has ended, or has not begun. The first five are on the wire: never change a
 * number. */
enum stream_reason {
    STREAM_TAKEN = 0,
    STREAM_NOT_ALLOWED = 1, /* this key may not use this service */
    STREAM_NO_SERVICE = 2,  /* no such service here */
    STREAM_UNREACHABLE = 3, /* the service is known, but nothing takes connections for it */
    STREAM_BUSY = 4,        /* too many streams */
    STREAM_MALFORMED = 5,   /* a header that makes no sense */
    STREAM_LOST = 100,      /* the session ended before the answer came */
    STREAM_RESET = 101,     /* the peer took the stream back without an answer */
    STREAM_GONE = 102,      /* the local socket ended before the answer came */
};
/* A word for logs: Taken, NotAllowed, ... ; Unknown for any other number. */
const char *stream_reason_word(unsigned reason);

/* What the owner of an endpoint does for it. All calls get `ctx` of endpoint_new() first. */
struct session_host {
    /* Nanoseconds of a monotonic clock. */
    uint64_t (*now)(void *ctx);
    /* n bytes in packets of `segment` bytes, the last one may be shorter: one sendmsg() with
     * UDP_SEGMENT. False: this way out can take nothing now and nothing was sent;
     * endpoint_resume() will be called. What cannot be sent at all is dropped. */
    bool (*send)(void *ctx, const struct quic_path *path, const void *bytes, size_t n,
                 size_t segment);
    /* The largest packet that may be sent on this way out; 0: try how large they can be. Relayed
     * ways say QUIC_PACKET_MIN. May be NULL. */
    size_t (*packet_max)(void *ctx, const struct quic_path *path);
    /* endpoint_expire() is to be called at this time; it replaces the one said before. UINT64_MAX:
     * never. Pacing needs a precision below a millisecond: session/alarm.h has a timerfd. */
    void (*timer)(void *ctx, uint64_t at_ns);
    /* Is this key known to be let in at all? */
    bool (*may_connect)(void *ctx, const struct key *peer);

    /* The keys are agreed: what is sent from now on goes with the end of the handshake. The other
     * side may still refuse ours. May be NULL. */
    void (*keyed)(void *ctx, struct session *s);
    /* A session is up: both sides have accepted each other's keys. For those of session_connect()
     * and for incoming ones, which are first seen here. */
    void (*up)(void *ctx, struct session *s);
    /* The last word on a session, also on one that never was up. Its streams have ended, their
     * sockets are reset; `s` is freed after this call. The reason is a word or a sentence. */
    void (*down)(void *ctx, struct session *s, const char *reason);
    /* The answer of the path validation for a path that this side moved to or that the peer came
     * from. After ok the packets go over it. Called in the midst of things: no move from here. */
    void (*path_proven)(void *ctx, struct session *s, const struct quic_path *path, bool ok);

    /* The peer wants this service. Exactly one of session_take() and session_refuse() must be
     * called for it, now or later; `st` is valid until then, whatever happens to its session. */
    void (*open)(void *ctx, struct session_stream *st, struct str service);
    /* The answer to session_dial(), exactly once for each; when the session ends first it is
     * STREAM_LOST, and comes before `down`. After STREAM_TAKEN bytes flow. */
    void (*answered)(void *ctx, struct session *s, void *user, unsigned reason);
};

/* What all sessions together may hold, and one of them: bytes that were received and that a local
 * socket does not take yet. Above, the windows of the connections are not opened further. */
#define ENDPOINT_HELD_MAX (256u << 20)
#define SESSION_HELD_MAX  (64u << 20)

/* -ENOMEM or -EIO. The identity is copied, the others stay the caller's. */
int endpoint_new(const struct session_host *host, void *ctx, struct loop *loop,
                 const struct identity *id, struct endpoint **ret_endpoint) WARN_UNUSED;
/* Closes all sessions (`down` is called for each) and frees. Streams that wait for their answer
 * are freed, too. Accepts NULL. */
void endpoint_free(struct endpoint *e);
/* Packets that came over this path: `segment` bytes each (UDP_GRO), the last one may be shorter;
 * segment = n for one. Anything may be given to it; quic_is_quic() says what is QUIC at all. */
void endpoint_input(struct endpoint *e, const struct quic_path *from, const void *bytes, size_t n,
                    size_t segment);
/* The time that host->timer said has come. */
void endpoint_expire(struct endpoint *e);
/* The way out with this id, for which host->send said false, can take packets again. */
void endpoint_resume(struct endpoint *e, uint32_t path_id);
/* A session with this peer that is up, or NULL; the newest of them. */
struct session *endpoint_find(struct endpoint *e, const struct key *peer);
/* Goes on from NULL through all sessions, also those that are not up yet. */
struct session *endpoint_next(struct endpoint *e, const struct session *s);

struct endpoint_stats {
    struct quic_counters quic;
    uint32_t sessions, streams;
    uint64_t held;   /* bytes received that local sockets have not taken yet */
    uint64_t unsent; /* bytes read from local sockets that are not acknowledged yet */
    uint64_t dialled, opened, refused; /* streams since the beginning */
};
void endpoint_stat(const struct endpoint *e, struct endpoint_stats *ret_stats);

/* Connects to exactly this key. `up` or `down` follows, not before this has returned. -ENOMEM, or
 * -ENOBUFS for too many. */
int session_connect(struct endpoint *e, const struct key *peer, const struct quic_path *path,
                    struct session **ret_session) WARN_UNUSED;
/* Ends it: the peer gets the reason, `down` is called at once. */
void session_close(struct session *s, const char *reason);
const struct key *session_peer(const struct session *s);
bool session_is_client(const struct session *s); /* only a client may move */
/* What host->keyed tells. */
bool session_is_keyed(const struct session *s);
bool session_is_up(const struct session *s);
struct endpoint *session_endpoint(const struct session *s);
void session_set_user(struct session *s, void *user);
void *session_user(const struct session *s);
/* Pings when nothing was heard for so long, so that the path stays open in NATs; 0: none, and the
 * session ends after QUIC_IDLE_MS without a packet. It begins with QUIC_KEEP_ALIVE_MS. */
void session_keep_alive(struct session *s, uint64_t after_ms);
/* One ping, now: stats.quic.unanswered tells whether it is acknowledged. */
void session_ping(struct session *s);

/* Moves to another path, in mid-transfer and without losing a byte. With `at_once` packets go there
 * before it has answered (the old path is dead); without, path_proven() says when it goes over.
 * Only for a client (-EPERM); -EAGAIN: not up, or just moved (try in a second), -EALREADY: it is
 * the path. When the new path does not answer the session stays on, or goes back to, the old one.
 */
int session_move(struct session *s, const struct quic_path *path, bool at_once) WARN_UNUSED;

/* Opens a stream for this service and ties the socket to it; allowed at once after
 * session_connect() and on both sides. The socket is owned from now on, also on failure, is made
 * non-blocking, and is closed or reset when the stream has ended; a socket of a refused stream is
 * closed after `answered`. -EINVAL: the service's name is empty or too long; -ENOBUFS: too many
 * wait; -ENOMEM. `answered` gets `user`, not before this has returned. */
int session_dial(struct session *s, struct str service, int consumed_fd, void *user) WARN_UNUSED;
/* The session is NULL when it has ended meanwhile (the stream must be answered all the same). */
struct session *session_of(const struct session_stream *st);
/* The key of the peer that opened the stream, also when its session has ended. */
const struct key *session_stream_peer(const struct session_stream *st);
/* Accepts: the socket is owned from now on, as by session_dial(). */
void session_take(struct session_stream *st, int consumed_fd);
void session_refuse(struct session_stream *st, enum stream_reason reason);
/* Resets the streams that the peer has opened and that were taken here, of each service that it may
 * not use any more. */
void session_recheck(struct session *s,
                     bool (*may)(void *ctx, const struct key *peer, struct str service), void *ctx);

struct session_stats {
    struct quic_stats quic; /* path, RTT, bytes and packets in and out */
    uint32_t streams;       /* open now */
    uint64_t streams_total;
    uint64_t lost; /* packets with stream data that were lost */
    uint64_t held;
    uint64_t up_ns; /* when it came up, by host->now; 0: it is not up */
};
void session_stat(const struct session *s, struct session_stats *ret_stats);
