#pragma once
/* One thread of berth-rendezvous: a UDP socket and a TCP listener for each address, of its own in
 * SO_REUSEPORT groups, and the answers of rendezvous/server.h. */

#include "base/addr.h"
#include "loop/loop.h"
#include "rendezvous/server.h"

#define LISTENS_MAX 8
/* And three more for STUN. */
#define SOCKETS_MAX (LISTENS_MAX + 3)
#define THREADS_MAX 64
#define TCP_MAX     4096 /* connections a thread */

/* sockets.c ---------------------------------------------------------------- */

struct sockets {
    int udp[SOCKETS_MAX], tcp[LISTENS_MAX];
    size_t udp_count, tcp_count;
};

/* Port 0 becomes a free one, for UDP and, where wanted, TCP alike. -EADDRINUSE also when another
 * server would share the port with us unseen. */
int sockets_choose(struct addr *a, bool tcp) WARN_UNUSED;
/* [address][port] for RFC 5780: [0][0], which has TCP as well, and [1][1] come in and make the two
 * others. A port that is 0 becomes one that is free at both addresses. */
int sockets_choose_four(struct addr at[2][2], struct addr *ret_busy) WARN_UNUSED;
/* The first so many of the addresses get a TCP listener, too. */
int sockets_open(struct sockets *s, const struct addr *addrs, size_t tcp_count,
                 size_t udp_count) WARN_UNUSED;
void sockets_close(struct sockets *s);

/* tcp.c -------------------------------------------------------------------- */

struct tcp;

struct tcp_listener {
    struct watch watch;
    struct tcp *tcp;
};

struct tcp {
    struct worker *worker;
    struct tcp_listener listeners[LISTENS_MAX];
    struct list connections; /* the longest silent first */
    size_t count;
    uint64_t last_id;
};

int tcp_init(struct tcp *t, struct worker *w, const struct sockets *s) WARN_UNUSED;
/* Closes what has been silent for too long. To be called every second. */
void tcp_sweep(struct tcp *t);
/* An answer that comes later; dropped when the connection is gone. */
void tcp_send(struct tcp *t, uint64_t connection, const uint8_t *bytes, size_t n);

/* worker.c ----------------------------------------------------------------- */

struct worker;

struct worker *worker_new(const struct rdv_shared *shared, const struct sockets *s);
/* Serves until the process ends. */
void *worker_run(void *worker);
/* Adds this thread's counters. */
void worker_count(const struct worker *w, struct rdv_counters *sum);

/* For tcp.c. */
struct loop *worker_loop(struct worker *w);
struct limits *worker_limits(struct worker *w);
/* Sets the time; length of the answer. */
size_t worker_handle(struct worker *w, struct rdv_input *in, uint8_t out[RDVMSG_MAX]);
