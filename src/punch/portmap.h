#pragma once
/* Keeps a port of the router mapped to one of ours: PCP, and NAT-PMP where the router knows no PCP.
 * No sockets, no clock. (UPnP-IGD speaks XML, and is asked by a program of its own: berth-upnp.) */

#include "wire/pcp.h"

#define PORTMAP_LIFETIME_S 7200    /* RFC 6886 3.3 recommends it */
#define PORTMAP_FIRST_US   250000u /* RFC 6886 3.1: 250 ms, doubled each time */
#define PORTMAP_TRIES      4

enum portmap_state {
    PORTMAP_ASKING,
    PORTMAP_MAPPED,
    PORTMAP_USELESS, /* mapped, but to an address that is itself behind a NAT */
    PORTMAP_REFUSED,
    PORTMAP_SILENT, /* no such service */
    PORTMAP_STATE_END
};
const char *portmap_state_word(enum portmap_state state);

struct portmap_config {
    struct addr gateway; /* with PCP_PORT */
    struct addr client;  /* our address on the way there, with the port that is to be mapped */
    uint8_t protocol;    /* IPPROTO_UDP or IPPROTO_TCP */
    uint64_t seed;       /* random */
};

struct portmap_action {
    bool changed; /* state or external address have: look at them; else: n bytes to the gateway */
    uint8_t bytes[PCP_REQUEST_MAX];
    size_t n;
};

struct portmap {
    struct portmap_config c;
    enum portmap_state state, told;
    enum pcp_version version; /* what is spoken */
    struct addr external, told_external;
    uint64_t due_us;
    unsigned tries;
    bool address_known, mapping_known, closing;
};

void portmap_init(struct portmap *m, const struct portmap_config *config, uint64_t now_us);
bool portmap_poll(struct portmap *m, uint64_t now_us, struct portmap_action *ret_action);
uint64_t portmap_next(const struct portmap *m);
/* What came from the gateway's address, and from nowhere else. -EBADMSG, -ENOENT: not about this.
 */
int portmap_input(struct portmap *m, struct str bytes, uint64_t now_us) WARN_UNUSED;
/* Asks again soon: the router may have forgotten it. What is mapped stays until it says otherwise.
 */
void portmap_renew(struct portmap *m, uint64_t now_us);
/* Gives the mapping back: one more packet. */
void portmap_close(struct portmap *m, uint64_t now_us);

/* The gateway of the default route in /proc/net/route, or -ENOENT. */
int portmap_gateway(struct str proc_net_route, struct addr *ret_gateway) WARN_UNUSED;
