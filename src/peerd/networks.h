#pragma once
/* How the NATs of networks behave on which this peer has been: one text file beside the user's key,
 * GATEWAY OWN SEEN MAPPING FILTERING ALLOCATION DELTA FIRST TIME on each line. What it says is
 * taken until the NAT has been asked, no longer. */

#include "base/addr.h"
#include "punch/classify.h"

#define NETWORKS_MAX        32 /* the one that was not used for longest goes */
#define NETWORK_GATEWAY_MAX 48
#define NETWORKS_FRESH_S    (30u * 24 * 3600)

/* By what a network is known again. */
struct network_id {
    char gateway[NETWORK_GATEWAY_MAX]; /* its MAC, else its address, else "-" */
    struct addr own;                   /* our address there; the port counts for nothing */
};

struct network {
    struct network_id id;
    struct addr seen; /* where servers saw us; the port counts for nothing */
    struct nat nat;
    uint64_t at_s; /* Unix time */
};

struct networks {
    struct network at[NETWORKS_MAX];
    size_t count;
    char *path; /* owned; NULL: none is kept */
};

/* Without a file there are none; lines that make no sense are passed over. -ENOMEM, or the file's
 * error: then there are none, too. */
int networks_load(struct networks *n, const char *path) WARN_UNUSED;
void networks_done(struct networks *n);
/* The latest on this network, whatever its public address was. NULL: none, or too long ago. */
const struct network *networks_find(const struct networks *n, const struct network_id *id,
                                    uint64_t now_s);
/* True: the file is worth writing. */
bool networks_note(struct networks *n, const struct network *network);
/* All or nothing. */
int networks_save(const struct networks *n) WARN_UNUSED;

/* The gateway of the default route, from the texts of /proc/net/route and /proc/net/arp. */
void network_gateway(struct str routes, struct str neighbours, char ret[NETWORK_GATEWAY_MAX]);
/* The same, of this machine now. */
void network_here(struct network_id *ret_id, const struct addr *own);
