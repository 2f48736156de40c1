#pragma once
/* A connectivity check between two peers: 32 bytes that only the two can make. The codec is pure;
 * whose tag is right is judged by src/punch. docs/PUNCH.md shows the bytes. */

#include "base/fd.h"
#include "base/str.h"

#include <stdint.h>

#define PROBE_FIRST   7 /* the first byte; tells a probe from what else comes to the socket */
#define PROBE_VERSION 1
#define PROBE_TAG     16
#define PROBE_SIGNED  16 /* the bytes that the tag is made of */
#define PROBE_SIZE    (PROBE_SIGNED + PROBE_TAG)

enum probe_type { PROBE_PING = 1, PROBE_PONG, PROBE_TYPE_END };

struct probe {
    enum probe_type type;
    bool from_caller; /* so that nobody's own probe comes back to it as the other's */
    uint64_t attempt;
    uint32_t sequence; /* a pong repeats the ping's */
    uint8_t tag[PROBE_TAG];
};

/* Could these bytes be a probe at all? */
bool probe_looks(const void *buf, size_t n);
/* The first PROBE_SIGNED bytes are what the tag is made of. Length, or -EMSGSIZE. */
int probe_encode(const struct probe *p, void *buf, size_t size) WARN_UNUSED;
/* -EBADMSG, or -EPROTONOSUPPORT for a version that is not known here. */
int probe_decode(struct probe *ret_probe, const void *buf, size_t n) WARN_UNUSED;
