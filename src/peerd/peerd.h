#pragma once
/* One berth-peer: the identity, the UDP socket, and everything that hangs on them. */

#include "keys/keys.h"
#include "loop/loop.h"
#include "peerd/control.h"
#include "peerd/nearby.h"
#include "peerd/net.h"
#include "peerd/source.h"
#include "peerd/state.h"

struct peerd {
    struct loop loop;
    struct identity id;
    char known_path[4096]; /* the file of known peers */
    struct control control;
    struct state state;
    struct net net;
    struct source source;
    struct nearby nearby;
    struct list remotes; /* of struct remote */
    size_t remote_count;
    struct list dials;    /* of struct dial, those that have no remote yet */
    struct list forwards; /* of struct forward */
    struct list incoming; /* of struct incoming */
    size_t incoming_count;
    struct timer minute; /* looks what has become idle */
    bool quit_when_idle;
    struct timer idle;
    uint64_t started_ms;
};

/* Whether nothing is left to do is looked at soon. */
void peerd_idle_check(struct peerd *p);
/* After a change of what is published or who is allowed: saved, and told to the servers. A negative
 * errno is the file's. */
int peerd_changed(struct peerd *p);
