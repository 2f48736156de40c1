#pragma once
/* UDP sockets beside the one: for a NAT in whose way the usual one is. Each is a way out of its own
 * for sessions, and belongs to one peer's punching until a session takes it over. */

#include "loop/loop.h"
#include "quic/quic.h"

/* Path ids of sessions begin here. */
#define SOCKETS_PATH     4096
#define SOCKETS_PATH_END 0xc0000000u /* and end here */
#define SOCKETS_MAX      1024
#define SOCKETS_KEPT     UINT16_MAX /* the number of one that only a session uses */

struct net;
struct remote;

struct extra {
    struct list link;
    struct net *net;
    struct remote *remote; /* NULL: of gathering.c */
    int fd;                /* owned */
    struct watch watch;
    uint32_t slot;
    unsigned role, number; /* of the punching, and its number there; or OFFERING_SOCKET() */
};

struct sockets {
    struct list all;
    struct extra *at[SOCKETS_MAX]; /* by the slot, modulo the number of places */
    uint32_t next_slot;
    size_t count;
};

void sockets_init(struct sockets *s);
/* Opens one with a port of its own. Negative errno. */
int sockets_open(struct net *n, struct remote *r, unsigned role, unsigned number) WARN_UNUSED;
struct extra *sockets_find(struct net *n, const struct remote *r, unsigned role, unsigned number);
void sockets_send(const struct extra *x, const struct addr *to, const void *bytes, size_t n,
                  unsigned ttl);
/* By its slot; NULL: it is closed. */
struct extra *sockets_at(struct sockets *s, uint32_t slot);
/* What a session sends over this path id. */
void sockets_path_send(struct net *n, const struct quic_path *path, struct str bytes,
                       size_t segment);
struct quic_path sockets_path(const struct extra *x, const struct addr *remote);
uint16_t sockets_port(const struct extra *x);
bool sockets_is_path(uint32_t path_id);
/* Closes those of a peer's punching but the one that carries this path, which has no number there
 * any more. */
void sockets_close(struct net *n, const struct remote *r, unsigned role, uint32_t keep_path_id);
/* From now on it is of this role. */
void sockets_hand_over(struct net *n, const struct remote *r, unsigned from, unsigned to);
