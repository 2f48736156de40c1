#pragma once
/* Where connections go: an address, a Unix path, or a host's name, which a process of its own
 * resolves and which is asked for again when it is old or did not answer. */

#include <stdbool.h>
#include <stdint.h>

#include "base/target.h"
#include "loop/loop.h"

#define TARGET_ADDRS_MAX 16
#define TARGET_TEXT_MAX  300

struct target {
    char text[TARGET_TEXT_MAX];          /* as it was given */
    char host[TARGET_HOST_MAX], port[8]; /* of a name; empty: it is an address */
    struct addr addrs[TARGET_ADDRS_MAX];
    size_t count;
    bool asked;        /* an answer is on its way */
    bool stale;        /* an address did not answer */
    uint64_t named_ms; /* when the addresses came; 0: never */
    int resolver;      /* owned; -EBADF: not needed */
    struct watch watch;
    void (*named)(struct target *t);
};

/* The text: 10.0.0.5:3000, [::1]:3000, db.example:5432, unix:/path. -EINVAL. */
int target_parse(struct target *t, const char *text) WARN_UNUSED;
/* A name gets its resolver, so before the sandbox. `named` is called when addresses have come, or
 * when there are none. */
int target_start(struct target *t, struct loop *loop, void (*named)(struct target *t)) WARN_UNUSED;
/* Whether its addresses are known; else, and when they are old, it is asked for them. */
bool target_is_known(struct target *t);
/* One of them did not answer. */
void target_doubt(struct target *t);

/* resolve.c: a process that answers a byte with the addresses of the name. The socket, or a
 * negative errno. */
int resolve_start(const char *host, const char *port) WARN_UNUSED;
/* 0 and the addresses of one answer (0 of them: there are none), or a negative errno. */
int resolve_read(int fd, struct addr *ret_addrs, size_t *ret_count) WARN_UNUSED;
