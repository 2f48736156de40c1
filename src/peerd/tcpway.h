#pragma once
/* Sessions directly over TCP, where UDP does not get through: a connection carries the packets of a
 * session, each behind a 16-bit length, and is a path of it as any other. Each side listens, and
 * each connects from the same port; the first frame in both directions is a check of the attempt
 * that both were introduced for (docs/RENDEZVOUS.md, "Peers over TCP"). */

#include "loop/loop.h"
#include "quic/quic.h"
#include "wire/offer.h"
#include "wire/probe.h"

/* Path ids of sessions begin here. */
#define TCPWAY_PATH 0xc0000000u
/* Of all peers; of one; and accepted ones that have not shown who they are. */
#define TCPWAYS_MAX         1024
#define TCPWAYS_REMOTE_MAX  16
#define TCPWAYS_STRANGE_MAX 64

#define TCPWAY_PREFIX 2
#define TCPWAY_FIRST  (TCPWAY_PREFIX + PROBE_SIZE)

struct net;
struct remote;

struct tcpways {
    struct net *net;
    int fd; /* owned; -EBADF: nothing listens */
    struct watch watch;
    struct timer pause; /* until connections are accepted again, when there were no descriptors */
    struct list all;
    struct list makings; /* attempts to connect, of all peers */
    size_t count, strange, making_count, guess_count;
    uint32_t next_slot;
    uint64_t guessed_us;       /* when the last port was guessed */
    uint16_t port;             /* 0: nothing listens */
    uint64_t greeted, refused; /* refused: silent, or with a wrong greeting */
};

void tcpways_init(struct tcpways *t, struct net *n);
/* At this port when it is free, else at any. */
void tcpways_listen(struct tcpways *t, uint16_t port);
void tcpways_done(struct tcpways *t);
/* To all TCP addresses of an offer, so long from now, when the other side does the same. */
void tcpways_connect(struct remote *r, unsigned role, const struct offer *o, uint32_t wait_us);
/* There is a way: nothing more is tried. Connections that stand already stay for now, for the
 * other side may have chosen one of them. */
void tcpways_enough(struct remote *r, unsigned role);
/* Those of this peer that are greeted; how many. */
size_t tcpways_standing(const struct remote *r, struct quic_path *ret_paths, size_t max);
/* All connections of a peer. */
void tcpways_close(struct remote *r);

bool tcpway_is_path(uint32_t path_id);
/* What a session sends: false, it takes nothing now, and endpoint_resume() follows. */
bool tcpway_send(struct net *n, uint32_t path_id, struct str bytes, size_t segment);
