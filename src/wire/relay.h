#pragma once
/* The head of a packet that a relay passes on: a magic byte, three zeros, and the channel, which is
 * the sender's number on the way to the relay and the receiver's behind it. A caller that has not
 * been told its channel yet names its call instead. What follows is for the other peer and stays
 * closed to the relay. docs/RENDEZVOUS.md, "Relay data". */

#include <errno.h>

#include "base/rd.h"
#include "base/wr.h"

#define RELAY_MAGIC 6
#define RELAY_HEAD  8
#define RELAY_MAX   1452 /* with its head; what fits into a packet of 1,500 over IPv6 */
/* Of an early packet: the magic byte, 1, two zeros, and the call. */
#define RELAY_EARLY_HEAD 12

static inline bool relay_looks(const void *bytes, size_t n)
{
    return n >= RELAY_HEAD && *(const uint8_t *)bytes == RELAY_MAGIC;
}

/* -EBADMSG. The payload points into the bytes. */
static inline int relay_decode(const void *bytes, size_t n, uint32_t *ret_channel,
                               struct str *ret_payload)
{
    struct rd r = rd_init(bytes, n);
    uint32_t head = rd_u32(&r), channel = rd_u32(&r);
    if (!rd_ok(&r) || n > RELAY_MAX || head != (uint32_t)RELAY_MAGIC << 24)
        return -EBADMSG;
    *ret_channel = channel;
    *ret_payload = rd_bytes(&r, r.left);
    return 0;
}

/* Writes the head in front of a payload. */
static inline void relay_head(uint8_t ret[RELAY_HEAD], uint32_t channel)
{
    struct wr w = wr_init(ret, RELAY_HEAD);
    wr_u32(&w, (uint32_t)RELAY_MAGIC << 24);
    wr_u32(&w, channel);
}

/* -EBADMSG, also for all other packets. */
static inline int relay_early_decode(const void *bytes, size_t n, uint64_t *ret_call)
{
    struct rd r = rd_init(bytes, n);
    uint32_t head = rd_u32(&r);
    uint64_t call = rd_u64(&r);
    if (!rd_ok(&r) || n > RELAY_MAX || head != ((uint32_t)RELAY_MAGIC << 24 | 1u << 16))
        return -EBADMSG;
    *ret_call = call;
    return 0;
}

static inline void relay_early_head(uint8_t ret[RELAY_EARLY_HEAD], uint64_t call)
{
    struct wr w = wr_init(ret, RELAY_EARLY_HEAD);
    wr_u32(&w, (uint32_t)RELAY_MAGIC << 24 | 1u << 16);
    wr_u64(&w, call);
}
