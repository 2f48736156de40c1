#pragma once
/* What the files of this folder share. Nobody else includes this but the tests of it. */

#include "base/list.h"
#include "session/header.h"
#include "session/session.h"

/* Bytes on their way through a stream, in one direction. */
struct chunk {
    struct chunk *next;
    size_t from, to, size; /* what is in it; size is that of bytes */
    uint8_t bytes[];
};

struct queue {
    struct chunk *head, *tail; /* owned */
    size_t bytes;
};

/* Room for n bytes at the end of the queue: *ret_size of them, at least one, in the last chunk or
 * in a new one. NULL without memory. */
uint8_t *queue_room(struct queue *q, size_t n, size_t *ret_size);
/* n bytes of the room were filled. */
void queue_filled(struct queue *q, size_t n);
/* A chunk of this size that is in no queue, and its way into one. */
struct chunk *chunk_new(size_t size);
void queue_append(struct queue *q, struct chunk *c);
int queue_put(struct queue *q, const void *bytes, size_t n) WARN_UNUSED;
/* The first bytes, at most n: how many there are. */
size_t queue_peek(const struct queue *q, uint8_t *buf, size_t n);
/* The first n bytes go, and what they were in with them. */
void queue_drop(struct queue *q, size_t n);
void queue_done(struct queue *q);

enum stream_phase {
    STREAM_WAITING, /* dialled; the peer does not allow another one yet */
    STREAM_ASKING,  /* dialled; no answer yet */
    STREAM_HEADER,  /* incoming; its header is not complete */
    STREAM_OFFERED, /* incoming; the host has to answer */
    STREAM_FLOWING,
    STREAM_OVER, /* no socket any more; waits until QUIC has no use for it */
};

struct session_stream {
    struct endpoint *endpoint;
    struct session *session; /* NULL: ended */
    struct list link;        /* in session->streams or ->waiting, or in endpoint->orphans */
    struct list ready;       /* in session->ready, or empty */
    struct list touched;     /* in session->touched, or empty */
    struct watch watch;
    int fd;     /* owned */
    int64_t id; /* -1: has none */
    enum stream_phase phase;
    void *user; /* of session_dial() */
    struct key peer;
    char service[SESSION_SERVICE_MAX + 1]; /* that the peer asked for; empty: we did */
    struct queue in, out;
    struct chunk *next_out; /* the first with bytes that were never sent, or NULL */
    size_t next_at;         /* where they begin in it */
    size_t turn;            /* sent since it is the first of the ready ones */
    bool readable;          /* the socket may have bytes, or its end */
    bool read_end;          /* it had its end, or is read no more */
    bool fin_sent;
    bool starved;  /* the peer's window is full */
    bool in_fin;   /* the peer's end has come */
    bool in_end;   /* ... and the socket has it; or the socket takes no more */
    bool broken;   /* the socket has failed */
    bool reset;    /* the peer has reset it */
    bool stopped;  /* the peer reads no more */
    bool closed;   /* QUIC has no use for it any more */
    uint64_t code; /* of the reset */
};

struct session {
    struct endpoint *endpoint;
    struct quic_conn *conn;
    struct list link; /* in endpoint->sessions */
    struct list streams, waiting, ready, touched;
    uint32_t stream_count, waiting_count, header_count;
    uint64_t streams_total, lost;
    uint64_t held, owed; /* received and not taken yet; of these, not given back to the peer */
    uint64_t up_ns;
    bool incoming, keyed, up;
    void *user;
};

struct endpoint {
    struct session_host host;
    void *ctx;
    struct loop *loop;
    struct quic *quic; /* owned */
    struct list sessions;
    struct list orphans; /* streams to be answered whose session has ended */
    struct endpoint_stats stats;
};

/* A peer may have so many sessions that it made. */
#define SESSIONS_OF_PEER 16
/* Incoming streams of one session whose header is not complete: it is in the first packet, unless
 * that was cut or lost. */
#define SESSION_HEADERS_MAX 256

/* session.c */
void session_opened(struct session *s, int64_t id);
/* Streams that wait for a place, as many as there are. */
void session_open_waiting(struct session *s);
/* All that packets have touched. */
void session_read(struct session *s);
struct session *session_new(struct endpoint *e, struct quic_conn *c, bool incoming);
void session_end(struct session *s, const char *reason);

/* stream.c */
struct session_stream *stream_new(struct session *s);
/* For those that have ended on both sides, else harmless. */
void stream_reap(struct session_stream *st);
/* Ties the socket to the stream and to the loop. */
int stream_start(struct session_stream *st) WARN_UNUSED;
void stream_touch(struct session_stream *st);
/* There may be something to send. */
void stream_ready(struct session_stream *st);
/* After events of QUIC: the next steps that are possible. The stream may be gone after this. */
void stream_progress(struct session_stream *st);
/* The session has ended. */
void stream_orphan(struct session_stream *st);
void stream_taken(struct session_stream *st);
void stream_refused(struct session_stream *st, unsigned reason);
/* It was taken, and may go on no longer. */
void stream_end(struct session_stream *st, unsigned reason);
/* Bytes that were received and held are not any more. */
void stream_consumed(struct session_stream *st, size_t n);

/* pump.c: between sockets and queues. */
/* A chunk to be sent behind all others. */
void pump_put(struct session_stream *st, struct chunk *c);
struct quic_data pump_next(struct session *s);
void pump_sent(struct session *s, const struct quic_data *data, size_t n, enum quic_sent how);
void pump_received(struct session_stream *st, const void *bytes, size_t n);
/* Writes what was received into the socket. 0; -EPIPE: it takes no more; -ECONNRESET and others: it
 * has failed. */
int pump_write(struct session_stream *st) WARN_UNUSED;
/* Closes the socket; with `reset` so that its other end sees that the connection broke. */
void pump_close(struct session_stream *st, bool reset);
