#pragma once
/* Ports mapped by UPnP-IGD: asked for by berth-upnp, a helper that was started before the sandbox
 * closed. What it says is a router's word, or anybody's on the LAN: one bounded line, or nothing.
 */

#include "loop/loop.h"
#include "punch/portmap.h"

#define UPNP_LINE 64

enum { MAPPING_UDP, MAPPING_TCP, MAPPING_PORTS };

/* `udp|tcp mapped ADDRESS:PORT`, `udp|tcp removed` or `udp|tcp failed WORD`. */
struct upnp_answer {
    unsigned which;           /* MAPPING_UDP or MAPPING_TCP */
    enum portmap_state state; /* mapped, useless, refused or silent */
    struct addr external;     /* len 0: none */
};
/* -EBADMSG: none of those. `removed` is -ENOENT: nothing is to be done. */
int upnp_answer_parse(struct str line, struct upnp_answer *ret_answer) WARN_UNUSED;

struct upnp_port {
    uint16_t port; /* of ours; 0: not wanted */
    enum portmap_state state;
    struct addr external;
    uint64_t due_ms;   /* when it is asked for again */
    uint64_t asked_ms; /* 0: nothing is asked */
};

struct upnp {
    int fd; /* owned: the helper's; -EBADF: there is none */
    struct watch watch;
    struct timer timer;
    struct loop *loop;
    struct upnp_port ports[MAPPING_PORTS];
    void (*changed)(struct upnp *u);
};

/* Starts the helper, which inherits nothing but its socket. */
int upnp_start(struct upnp *u) WARN_UNUSED;
/* With a helper, and the loop that runs. */
int upnp_watch(struct upnp *u, struct loop *loop, void (*changed)(struct upnp *u)) WARN_UNUSED;
/* Asks for these ports of ours, or asks anew; 0: none. */
void upnp_ask(struct upnp *u, const uint16_t ports[MAPPING_PORTS]);
/* Gives back what is mapped; no answer is waited for. */
void upnp_give_back(struct upnp *u);
/* The same, and lets the helper end. */
void upnp_stop(struct upnp *u);
