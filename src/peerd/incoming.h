#pragma once
/* Streams that peers open here: each becomes a connected loopback TCP socket that dispatch routes
 * and delivers like any other connection. */

#include "base/addr.h"
#include "keys/known.h"
#include "loop/loop.h"
#include "session/session.h"
#include "wire/record.h"

/* Streams that wait for dispatch's answer. */
#define INCOMING_MAX 1024
/* Streams that `who` still knows, the latest. */
#define INCOMING_SEEN 4096

struct peerd;

struct incoming {
    struct list link;
    struct peerd *peerd;
    struct session_stream *stream;
    uint32_t id;
    int fd; /* our end, owned */
    struct key key;
    char name[KNOWN_NAME_MAX + 1];
    char service[RECORD_NAME_MAX + 1];
    struct addr ours, theirs; /* the ends' addresses */
};

/* A stream that was taken: whose the address is that its program sees. Any user of this machine
 * may connect from that address, but not with both at once. */
struct incoming_seen {
    struct addr ours, theirs;
    struct key key;
    char name[KNOWN_NAME_MAX + 1];
    char service[RECORD_NAME_MAX + 1];
};

void incoming_open(struct peerd *p, struct session_stream *st, struct str service);
/* Dispatch's word on one: `result` 0 is taken; `proxy`: the program wants a header. */
void incoming_answered(struct peerd *p, uint32_t id, unsigned result, bool proxy);
/* Nobody will answer any more. */
void incoming_lost(struct peerd *p);
/* By our end's address and, unless it is NULL, the program's. NULL: there is no such stream. */
const struct incoming_seen *incoming_who(const struct peerd *p, const struct addr *ours,
                                         const struct addr *theirs);
