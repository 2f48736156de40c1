#pragma once
/* One thread of berth-rendezvous: a UDP socket and a TCP listener for each address, of its own in
 * SO_REUSEPORT groups, and the answers of rendezvous/server.h. */

#include <pthread.h>
#include <stdatomic.h>

#include "base/addr.h"
#include "keys/keys.h"
#include "loop/loop.h"
#include "rendezvous/server.h"
#include "rendezvousd/shares.h"
#include "wire/relay.h"

#define LISTENS_MAX 8
/* And three more for STUN. */
#define SOCKETS_MAX (LISTENS_MAX + 3)
#define THREADS_MAX 64
#define TCP_MAX     4096 /* connections a thread; a power of two */

struct thread;

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

/* mail.c ------------------------------------------------------------------- */

struct mail {
    struct list link;
    uint64_t connection;
    bool relayed;
    size_t n;
    uint8_t bytes[];
};

struct mailbox {
    pthread_mutex_t lock;
    struct list mails;
    size_t count;
    int event_fd;
};

int mailbox_init(struct mailbox *b) WARN_UNUSED;
void mailbox_done(struct mailbox *b);
/* For any thread. -EBUSY when too many wait. */
int mailbox_post(struct mailbox *b, uint64_t connection, bool relayed,
                 struct str bytes) WARN_UNUSED;
/* The next one, to be free()d; NULL when there is none. */
struct mail *mailbox_take(struct mailbox *b);

/* tls.c -------------------------------------------------------------------- */

struct tls_server; /* the key; for all threads */
struct tls;

/* NULL when GnuTLS does not take it. */
struct tls_server *tls_server_new(const struct identity *id);
void tls_server_free(struct tls_server *s);
/* Over a connected socket, which stays the caller's. NULL without memory. */
struct tls *tls_new(const struct tls_server *s, int fd);
void tls_free(struct tls *t);
/* As recv() and send() on a socket that does not wait, but with negative errno; the handshake is
 * made on the way. -EAGAIN, -EPROTO. */
ssize_t tls_recv(struct tls *t, void *buf, size_t size) WARN_UNUSED;
ssize_t tls_send(struct tls *t, const void *bytes, size_t n) WARN_UNUSED;
/* Is there more that is decrypted already? */
bool tls_has_more(const struct tls *t);
/* Does it wait for room to send in the middle of the handshake? */
bool tls_waits_to_send(const struct tls *t);

/* tcp.c -------------------------------------------------------------------- */

struct tcp;
struct connection;

struct tcp_listener {
    struct watch watch; /* not in the loop: there were no descriptors, and accepting rests */
    struct tcp *tcp;
    int fd; /* borrowed */
};

struct tcp {
    struct thread *thread;
    struct tcp_listener listeners[LISTENS_MAX];
    size_t listener_count;
    struct list connections; /* that have said something; the longest silent first */
    struct list silent;      /* that have not, the oldest first */
    struct list dirty;       /* something was added that has not been sent yet */
    struct connection *slots[TCP_MAX];
    size_t count;
    size_t grown; /* buffers of connections, beyond what each has first */
    uint64_t last_id;
    uint8_t *in; /* owned; for one read at a time */
};

int tcp_init(struct tcp *t, struct thread *th, const struct sockets *s) WARN_UNUSED;
/* Closes what has been silent for too long, and accepts again. To be called every second. */
void tcp_sweep(struct tcp *t);
/* An answer that comes later, or a message for this peer; dropped when the connection is gone. */
void tcp_send(struct tcp *t, uint64_t connection, struct str bytes);
/* A relayed packet, dropped when the connection is gone or does not take what it has: false. It
 * goes out with tcp_flush(). */
bool tcp_relay(struct tcp *t, uint64_t connection, struct str packet) WARN_UNUSED;
void tcp_flush(struct tcp *t);

/* udp.c -------------------------------------------------------------------- */

struct udp_io;

struct udp {
    struct watch watch;
    struct thread *thread;
    uint8_t index;
};

/* Packets to one address: n bytes, in packets of `segment` each but the last; 0: one packet. */
struct datagrams {
    const struct place *to;
    uint8_t *bytes;
    size_t n, segment;
};

struct udp_io *udp_io_new(void);
void udp_io_free(struct udp_io *io);
void udp_ready(struct watch *watch, uint32_t events);
/* Both go out with udp_flush() at the latest; the bytes of packets stay where they are until then,
 * those of a message are copied. */
void udp_send(struct thread *th, const struct datagrams *d);
void udp_send_copy(struct thread *th, const struct place *to, struct str bytes);
void udp_flush(struct thread *th);

/* Our own addresses, by number, so that an answer leaves from the one that was asked, though the
 * socket is bound to all. They are few; what is beyond the last number is not known. */
#define LOCALS_MAX 255
struct locals {
    pthread_mutex_t lock;
    _Atomic size_t count;
    struct addr addrs[LOCALS_MAX];
};
/* 0: not known. */
uint8_t locals_number(struct locals *l, const struct addr *a);
/* Without a family: not known. */
struct addr locals_addr(struct locals *l, uint8_t number);

/* forward.c ---------------------------------------------------------------- */

/* Packets from one place, n bytes in packets of `segment` each but the last; their heads are
 * changed where they are. */
struct relayed {
    struct place from;
    uint8_t *bytes;
    size_t n, segment;
};
/* Up to the first that is no relayed packet, which the first of them is; how many bytes these are.
 */
size_t forward(struct thread *th, const struct relayed *d);

/* nodes.c ------------------------------------------------------------------ */

/* HOST:PORT, where peers of other servers reach this one. -EINVAL, -EHOSTUNREACH. */
int nodes_advertise(const char *text, struct addr *ret_addr) WARN_UNUSED;
/* Connects the thread with Redis, where there is one. -ENOMEM. */
int nodes_join(struct thread *th) WARN_UNUSED;

/* thread.c ----------------------------------------------------------------- */

/* What the threads share beside rdv_shared. */
struct hub {
    const struct rdv_shared *shared;
    const struct tls_server *tls;
    struct locals locals;
    struct mailbox boxes[THREADS_MAX];
};

struct thread {
    struct loop loop;
    struct rdv rdv;
    struct hub *hub;
    uint8_t index;
    struct udp udp[SOCKETS_MAX];
    struct udp_io *io; /* owned */
    struct tcp tcp;
    struct watch outbox, mail;
    struct redis_host redis;
    struct timer second;
    struct relay_credit credit;
    struct shares shares;
    uint64_t now_ms, unix_s;
};

struct thread *thread_new(struct hub *hub, const struct sockets *s, uint8_t index);
/* Serves until the process ends. */
void *thread_run(void *thread);
/* Adds this thread's counters. */
void thread_count(const struct thread *th, struct rdv_counters *sum);

/* For the parts above. */
void thread_clocks(struct thread *th);
/* Length of the answer. What is for somebody else has been sent. */
size_t thread_handle(struct thread *th, struct rdv_input *in, uint8_t out[RDVMSG_MAX]);
/* To wherever a peer is. Goes out with thread_flush() at the latest, which ends each event. */
void thread_send(struct thread *th, const struct place *to, struct str bytes);
void thread_flush(struct thread *th);
static inline void thread_add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}
