#pragma once
/* One connection to Redis that comes back by itself. Commands are queued up to a bound and go out
 * together; a Redis that answers nothing for a while counts as gone, and everything that waited is
 * told. For one thread and its loop. */

#include "base/fd.h"
#include "base/str.h"
#include "loop/loop.h"

struct redisAsyncContext;
struct redisReply;

struct redis_target {
    char host[108]; /* a name or an address; the path of a Unix socket when port is 0 */
    uint16_t port;
    char user[64], password[256]; /* empty: none */
    unsigned db;
};

/* -EINVAL. */
int redis_target_parse(const char *text, struct redis_target *ret_target) WARN_UNUSED;
/* The host becomes an address. -EHOSTUNREACH. */
int redis_target_resolve(struct redis_target *t) WARN_UNUSED;

/* At most so many commands wait for their answers. */
#define REDIS_PENDING_MAX 8192
/* Without any answer for so long the connection is given up. */
#define REDIS_SILENT_MS 2000
#define REDIS_WHY       96

/* One command. Embedded in its owner's struct, which lives until done() was called; reply is NULL
 * when the connection has ended and nobody knows whether it was carried out. */
struct redis_call {
    void (*done)(struct redis_call *c, const struct redisReply *reply);
};

struct redis_link {
    struct loop *loop;
    const struct redis_target *target;
    void (*changed)(struct redis_link *l);                    /* up or why has */
    void (*pushed)(struct redis_link *l, struct str message); /* on the channel; may be NULL */
    bool up;                                                  /* commands are taken */
    size_t pending;
    char why[REDIS_WHY]; /* it is not up */

    /* The link's own. */
    struct redisAsyncContext *context; /* NULL: waits until it tries again */
    struct watch watch;
    uint32_t wanted; /* events */
    struct timer timer;
    struct redis_call set_up;
    unsigned set_up_left;
    uint32_t retry_ms;
    uint64_t heard_ms;
    bool failed; /* to be given up outside of hiredis */
};

/* Begins to connect. The fields above `up` are the caller's. */
void redis_link_start(struct redis_link *l);
/* Every call that waits is done with NULL. */
void redis_link_stop(struct redis_link *l);
/* Words of a command, of any bytes. done() comes later, never at once. -ENOTCONN, or -EBUSY when
 * more than `most` wait already. */
int redis_link_send(struct redis_link *l, struct redis_call *c, size_t most,
                    const struct str *words, size_t n) WARN_UNUSED;
/* Once, when the link is up; then it takes no commands any more. */
int redis_link_subscribe(struct redis_link *l, const struct str *channels, size_t n) WARN_UNUSED;
/* Gives the connection up and makes another. */
void redis_link_renew(struct redis_link *l, const char *why);
