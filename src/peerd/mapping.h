#pragma once
/* Has the router map the UDP and the TCP port of berth-peer to itself: by PCP or NAT-PMP
 * (punch/portmap.h) and by UPnP-IGD (mapping-upnp.h), both at the same time. Nothing is asked where
 * no NAT is seen. What is mapped is an address of ours that others are told. */

#include "loop/loop.h"
#include "peerd/mapping-upnp.h"
#include "wire/record.h"

struct net;

enum mapping_stage {
    MAPPING_OFF,     /* not wanted */
    MAPPING_WAITING, /* no server has seen us yet */
    MAPPING_NO_NAT,
    MAPPING_NO_GATEWAY,
    MAPPING_ASKED,
};

/* One port by PCP or NAT-PMP. */
struct mapping_port {
    struct mapping *mapping;
    struct portmap machine;
    int fd; /* owned; connected to the gateway; -EBADF: not under way */
    struct watch watch;
};

/* What others are told. */
struct mapping_told {
    enum portmap_state state[MAPPING_PORTS];
    struct addr external[MAPPING_PORTS][2]; /* by PCP or NAT-PMP, and by UPnP; len 0: none */
};

struct mapping {
    struct net *net;
    enum mapping_stage stage;
    struct mapping_port ports[MAPPING_PORTS];
    struct upnp upnp;
    struct addr gateway, own, seen;
    uint64_t looked_ms;
    struct mapping_told told;
    struct timer timer;
    struct timer retry; /* relayed sessions look for a way again */
    unsigned retries;
};

/* Before the sandbox closes: starts the helper unless it is off. */
void mapping_init(struct mapping *m, struct net *n, bool wanted);
/* Gives everything back. */
void mapping_done(struct mapping *m);
/* A server there sees us so. */
void mapping_look(struct mapping *m, const struct addr *server, const struct addr *seen);
/* Perhaps another router, or another port of ours. */
void mapping_network_changed(struct mapping *m);

/* RECORD_MAPPED for UDP and TCP; how many. */
size_t mapping_candidates(const struct mapping *m, struct record_candidate *ret, size_t max);
bool mapping_is_there(const struct mapping *m);
/* It is not known yet what the router says. */
bool mapping_is_asked(const struct mapping *m);
/* The state of a port, by both ways; or of all. */
enum portmap_state mapping_state(const struct mapping *m, unsigned which);
/* "off", "waiting", "no-nat", "no-gateway", or the best of portmap_state_word(). */
const char *mapping_word(const struct mapping *m);
