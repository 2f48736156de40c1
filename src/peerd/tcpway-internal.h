#pragma once
/* What the files of tcpway share: tcpway.c moves packets, tcpway-greet.c knows who is at the other
 * end, tcpway-make.c connects, tcpway-accept.c accepts. tcpway.h is for everybody else. */

#include "peerd/peerd.h"
#include "peerd/remote.h"
#include "peerd/tcptry.h"
#include "peerd/tcpway.h"

enum tcpway_state { TCPWAY_GREETING, TCPWAY_UP };

struct tcpway {
    struct list link;
    struct tcpways *all;
    struct remote *remote; /* NULL: a stranger */
    unsigned role;         /* of the punching that it belongs to */
    int fd;                /* owned */
    struct watch watch;
    struct timer
        limit; /* until it is greeted; then: looks whether it is in use; or: it is broken */
    struct addr addr;
    uint32_t slot;
    uint32_t sequence; /* of our greeting; 0: the other side has connected */
    enum tcpway_state state;
    bool broken, reading, closed;
    uint8_t head[TCPWAY_FIRST];
    size_t head_used;
    uint8_t *in, *out; /* owned, with UP */
    size_t in_used, out_at, out_used;
    uint64_t used_ms;
};

static inline struct loop *tcpway_loop(const struct tcpways *t)
{
    return &t->net->peerd->loop;
}

/* tcpway.c: NULL without memory, or not watched; the descriptor is closed then. */
struct tcpway *tcpway_new(struct tcpways *t, const struct addr *addr, int consumed_fd,
                          struct remote *r);
void tcpway_close(struct tcpway *w);
void tcpway_refuse(struct tcpway *w);
void tcpway_up(struct tcpway *w);
size_t tcpway_count_of(const struct tcpways *t, const struct remote *r);

/* tcpway-greet.c */
bool tcpway_greet(struct tcpway *w);
void tcpway_greeting_read(struct tcpway *w);

/* tcpway-make.c: a connection to there that we have made for this role stands. */
void tcpway_stands(struct remote *r, unsigned role, const struct addr *to, int consumed_fd);
/* Between the peers there and back, at most; 0: not known. */
uint64_t tcpway_rtt_most_ms(const struct net *n, uint32_t wait_us);
/* A connection that was made has ended before it was greeted. */
void tcpway_make_again(struct remote *r, unsigned role, const struct addr *to);
