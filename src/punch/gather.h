#pragma once
/* Asks STUN servers how the NAT behaves and where a socket is seen: requests go out, answers come
 * in, a classification is the result. No sockets, no clock. Sockets are numbers: 0 is the one that
 * the peer uses for everything; the fresh ones are opened for this and closed when it is done. */

#include "punch/candidate.h"
#include "punch/classify.h"
#include "wire/stun.h"

#define GATHER_SERVERS_MAX 4
#define GATHER_FRESH_MAX   8
#define GATHER_RTO_US      500000u /* RFC 8489 6.2.1: at least 500 ms */
#define GATHER_TRIES       4

struct gather_config {
    struct addr servers[GATHER_SERVERS_MAX]; /* of one family; the first is asked by every socket */
    size_t server_count;
    struct addr local; /* of socket 0, as the kernel would choose its address towards the server */
    unsigned fresh; /* sockets for the allocation of ports: 8; or 1, and then nothing else is asked:
                       where a counter stands, and where a socket is seen */
    bool filtering; /* ask with CHANGE-REQUEST, too; silence takes its time */
    uint64_t seed;  /* random */
};

enum gather_action_type {
    GATHER_OPEN, /* sockets with the numbers 1 to count, each of its own port */
    GATHER_SEND, /* n bytes from socket to `to` */
    GATHER_DONE
};

struct gather_action {
    enum gather_action_type type;
    unsigned socket, count;
    struct addr to;
    uint8_t bytes[64];
    size_t n;
};

struct gather_result {
    struct nat nat;
    struct addr seen; /* socket 0, by the first server; AF_UNSPEC: no answer */
    struct addr
        newest; /* the last mapping that the NAT made: what a counting NAT is predicted from */
};

struct gather;

struct gather *gather_new(const struct gather_config *config);
void gather_free(struct gather *g);
bool gather_poll(struct gather *g, uint64_t now_us, struct gather_action *ret_action);
uint64_t gather_next(const struct gather *g);
/* The local port that a fresh socket got; without it ports that are kept are not recognised. */
void gather_opened(struct gather *g, unsigned socket, uint16_t local_port);
/* -EBADMSG, or -ENOENT for an answer to nothing of ours: whoever shares the socket looks further.
 */
int gather_input(struct gather *g, struct str bytes, uint64_t now_us) WARN_UNUSED;
/* Whether all is known that answers tell: mapping and allocation. Only silence is waited for. */
bool gather_has_samples(const struct gather *g);
/* Of what has been answered so far; the last word after GATHER_DONE. */
struct gather_result gather_result(const struct gather *g);
