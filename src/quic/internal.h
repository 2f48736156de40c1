#pragma once
/* What the files of this folder share. Nobody else includes this. */

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

#include "base/list.h"
#include "base/siphash.h"
#include "quic/quic.h"

#define CID_BYTES 8
/* The lowest first byte of our connection IDs. */
#define CID_FIRST 0x80

/* One of the IDs by which packets for a connection come. */
struct cid {
    struct cid *next;
    struct quic_conn *conn;
    ngtcp2_cid id;
    bool seen;      /* a packet has come by it */
    uint16_t epoch; /* which of the peer's moves began to use it */
};

struct cid_table {
    struct cid **buckets; /* owned, as what hangs in them */
    size_t size, count;   /* the size is a power of two */
    uint8_t key[SIPHASH_KEY];
};

int cid_table_init(struct cid_table *t) WARN_UNUSED;
void cid_table_done(struct cid_table *t);
/* NULL when there is none. */
struct cid *cid_find(const struct cid_table *t, const uint8_t *id, size_t n);
int cid_add(struct cid_table *t, const ngtcp2_cid *id, struct quic_conn *c) WARN_UNUSED;
void cid_remove(struct cid_table *t, const ngtcp2_cid *id);
void cid_remove_all(struct cid_table *t, const struct quic_conn *c);

/* A binary heap of connections, the one with the earliest deadline first. */
struct deadlines {
    struct quic_conn **at; /* owned; what they point to is not */
    size_t count, size;
};

int deadline_add(struct deadlines *d, struct quic_conn *c) WARN_UNUSED;
void deadline_change(struct deadlines *d, struct quic_conn *c, uint64_t at_ns);
void deadline_remove(struct deadlines *d, struct quic_conn *c);

/* Keys and priorities, the same for all connections of an endpoint. */
struct tls {
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priority;
};

int tls_init(struct tls *t, const struct identity *id) WARN_UNUSED;
void tls_done(struct tls *t);
int tls_begin(struct quic_conn *c) WARN_UNUSED;

/* Packets of one path and one size that go out together. */
struct batch {
    struct quic_path path;
    size_t n, segment;
    uint8_t *bytes; /* QUIC_BATCH_MAX + QUIC_PACKET_MAX */
};

struct quic {
    struct quic_hooks hooks;
    void *ctx;
    struct tls tls;
    struct cid_table cids;
    struct cid_table tokens; /* by which peers reset connections that they know nothing of */
    struct deadlines deadlines;
    struct list conns;  /* all, the newest last */
    struct list urgent; /* to be written, or ended, before we return to the caller */
    struct list ended;  /* only the goodbye is left; the oldest first */
    size_t ended_count;
    struct batch batch;
    unsigned depth; /* calls of ours that are on the stack */
    uint64_t timer_ns;
    uint8_t reset_key[32], token_key[32];
    uint64_t reset_from_ns; /* stateless resets: the second that is counted */
    unsigned reset_count;
    struct quic_counters counters;
};

enum conn_phase {
    CONN_SHAKING, /* the handshake goes on */
    CONN_OPEN,    /* both keys are proven, as far as we can know */
    CONN_DOOMED,  /* to be ended when we are outside of the library */
    CONN_ENDED,   /* packets get the goodbye again */
};

/* How many of its own moves a client tells apart by where packets come from. */
#define EPOCHS_KEPT 8

struct quic_conn {
    struct quic *quic;
    struct list link;   /* in conns, or in ended */
    struct list urgent; /* in quic->urgent, or empty */
    ngtcp2_conn *lib;   /* NULL: ended */
    gnutls_session_t tls;
    ngtcp2_crypto_conn_ref ref;
    enum conn_phase phase;
    bool client, announced, confirmed, known;
    bool half_open;   /* counted as such */
    bool streams_due; /* events that wait until the library has returned */
    bool confirmed_due;
    bool refused_key;
    bool silent; /* end without a word */
    bool ping_due;
    bool telling;    /* of a path, in the midst of the library */
    uint64_t due_ns; /* the next packets, by the pace of the last ones */
    uint64_t keep_alive_ns;
    struct key peer;    /* wanted by a client, found out by a server */
    struct addr source; /* where a half-open one comes from */
    void *user;
    uint64_t deadline_ns;
    size_t deadline_at; /* in the heap */
    uint16_t epoch;     /* moves so far: path.c */
    struct quic_path recent[EPOCHS_KEPT];
    struct batch kept; /* what the way out did not take; bytes are owned, NULL: nothing */
    uint8_t *goodbye;  /* owned: the packet that ended it */
    size_t goodbye_n;
    struct quic_path goodbye_path;
    unsigned goodbye_heard; /* packets since then */
    ngtcp2_connection_close_error error;
    char reason[128];
    struct quic_stats stats;
};

/* quic.c */
uint64_t quic_now(const struct quic *q);
void quic_random(void *bytes, size_t n);

/* path.c */
void path_to_lib(const struct quic_path *p, uint16_t epoch, ngtcp2_path_storage *ret_ps);
bool path_equal(const struct quic_path *a, const struct quic_path *b);
/* The epoch of a packet that came from there by this ID. */
uint16_t path_epoch(struct quic_conn *c, const struct quic_path *from, struct cid *by);
struct quic_path path_from_lib(const ngtcp2_path *p);

/* accept.c: a packet for no connection of ours. */
void accept_input(struct quic *q, const struct quic_path *from, const ngtcp2_version_cid *ids,
                  struct str packet);

/* conn.c */
int conn_new(struct quic *q, const struct quic_path *path, bool client,
             struct quic_conn **ret_conn) WARN_UNUSED;
/* The library's part has come to exist. */
void conn_ready(struct quic_conn *c);
void cid_make(ngtcp2_cid *ret_id);
/* Of a connection that nobody knows of yet. */
void conn_discard(struct quic_conn *c);
void conn_read(struct cid *by, const struct quic_path *from, struct str packet);
void conn_expire(struct quic_conn *c);
void conn_urgent(struct quic_conn *c);
void conn_settings(struct quic_conn *c, ngtcp2_settings *ret_settings,
                   ngtcp2_transport_params *ret_params);
extern const ngtcp2_callbacks conn_callbacks;
/* Ends it when the library has returned; the first reason counts. */
void conn_doom(struct quic_conn *c, const char *reason);
void conn_doom_lib(struct quic_conn *c, int error);
/* The peer has answered with a stateless reset. */
void conn_forgotten(struct quic_conn *c);
void conn_not_half_open(struct quic_conn *c);

/* close.c */
void conn_end(struct quic_conn *c);
void ended_free(struct quic_conn *c);
void ended_input(struct quic_conn *c, const struct quic_path *from);

/* write.c */
void conn_write(struct quic_conn *c);
void packet_send(struct quic *q, const struct quic_path *path, const void *bytes, size_t n);
