#pragma once
/* What rendezvous servers that share a Redis send each other through it. Inside is a message of
 * rdvmsg.h as it came from one peer, or is for another.
 *
 *   ASK    a CALL of a peer that is registered at the asker, for one at the receiver
 *   SEARCH the same to all servers: whoever has the one who is called replies
 *   REPLY  what the asker is to answer
 *   PUSH   for a peer that is registered at the receiver
 *   ALIVE  of a server to itself: the way is open */

#include "base/addr.h"
#include "base/fd.h"
#include "base/str.h"
#include "wire/rdvmsg.h"

#define NODEMSG_VERSION 1
#define NODEMSG_NODE    8 /* bytes that name a thread of a server */
#define NODEMSG_MAX     (RDVMSG_MAX + 64)

enum nodemsg_type {
    NODEMSG_ASK = 1,
    NODEMSG_REPLY,
    NODEMSG_PUSH,
    NODEMSG_ALIVE,
    NODEMSG_SEARCH,
    NODEMSG_END
};

/* Slices of a decoded message point into its bytes. */
struct nodemsg {
    enum nodemsg_type type;
    uint8_t node[NODEMSG_NODE]; /* ASK, SEARCH: where the reply goes */
    uint64_t request;           /* ASK, SEARCH, REPLY */
    struct addr seen;           /* ASK, SEARCH: where the asker sees the caller; port 0: over TCP */
    uint8_t key[RDVMSG_KEY];    /* PUSH: whose */
    struct str message;         /* all but ALIVE */
};

/* Length, or -EMSGSIZE. */
int nodemsg_encode(const struct nodemsg *m, void *buf, size_t size) WARN_UNUSED;
/* -EBADMSG. The message inside is not looked at. */
int nodemsg_decode(struct nodemsg *m, const void *buf, size_t n) WARN_UNUSED;
