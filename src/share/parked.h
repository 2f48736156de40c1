#pragma once
/* What dispatch writes beside a socket that it parks in a base queue: internal to dispatch, and of
 * one size, so that the bytes in the queue tell how many wait. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/fd.h"
#include "wire/sniffed.h"

#define PARKED_BYTES 48

struct parked {
    enum proto proto; /* when heard */
    bool heard;       /* it was sniffed before it was parked */
    bool proxy;       /* a PROXY header comes first */
    bool stream;      /* a peer has dialled it */
    uint32_t claim;
    uint64_t since_ms; /* accepted, by the monotonic clock */
    struct addr peer;
};

void parked_encode(const struct parked *p, uint8_t ret_bytes[PARKED_BYTES]);
/* 0 or -EBADMSG. */
int parked_decode(struct parked *ret, const void *buf, size_t n) WARN_UNUSED;
