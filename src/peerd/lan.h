#pragma once
/* Peers on one local network find each other by multicast, without a server. Whoever asks says for
 * which key; only the peer with that key understands the question, and it answers only those that
 * it lets in, with its UDP port and its signed record. */

#include "keys/keys.h"
#include "loop/loop.h"
#include "wire/lanmsg.h"

/* The groups and their port: of the scopes that no router passes on (RFC 2365, RFC 4291 2.7). */
#define LAN_PORT   23478
#define LAN_GROUP4 "239.255.34.78"
#define LAN_GROUP6 "ff12::6265:7274"

#define LAN_ASKED_MAX 32 /* at once */
#define LAN_FOUND_MAX 8  /* addresses of one peer */

struct lan_found {
    struct key key;
    struct addr addr;     /* len 0: nobody has answered, and that was all */
    struct str record;    /* signed, checked and this key's; may be empty; during the event */
    struct record fields; /* of that record */
};

struct lan_host {
    /* May this key know where we are? */
    bool (*lets_in)(void *ctx, const struct key *asker);
    /* presence_own_record(), or empty. */
    struct str (*record)(void *ctx);
    /* Of the UDP socket that takes sessions. */
    uint16_t (*port)(void *ctx);
    uint64_t (*unix_ms)(void *ctx);
    /* For each address at which the peer has answered, once. */
    void (*found)(void *ctx, const struct lan_found *f);
};

struct lan;

/* Joins the groups on all interfaces. An interface that comes later is joined when something is
 * asked, and by lan_network_changed(). -ENODEV when there is none with multicast: try again after a
 * change of the network; or a socket's error. The identity is borrowed. */
int lan_new(struct loop *loop, const struct lan_host *host, void *ctx, const struct identity *id,
            struct lan **ret_lan) WARN_UNUSED;
void lan_free(struct lan *l);
void lan_network_changed(struct lan *l);
/* Asks now, and twice more; found() comes until a second is over, and once without an address then
 * if it did not come before. Who is asked for already is not asked for
 * twice. -EAGAIN: too many at once; -EINVAL: no key. */
int lan_ask(struct lan *l, const struct key *key) WARN_UNUSED;
