#pragma once
/* Read cursor over untrusted bytes. The error is sticky: after the first read past the end every
 * further one answers zero, so a decoder checks rd_ok() once, at its end. Integers are big-endian
 * unless the name says le. */

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct rd {
    const uint8_t *p;
    size_t left;
    bool failed;
};

static inline struct rd rd_init(const void *p, size_t n)
{
    return (struct rd){p, n, false};
}

static inline bool rd_ok(const struct rd *r)
{
    return !r->failed;
}

/* A slice of n bytes, or an empty one and the sticky error. */
static inline struct str rd_bytes(struct rd *r, size_t n)
{
    if (r->failed || n > r->left) {
        r->failed = true;
        return (struct str){"", 0};
    }
    struct str s = {(const char *)r->p, n};
    r->p += n;
    r->left -= n;
    return s;
}

static inline uint64_t rd_be(struct rd *r, size_t n)
{
    struct str s = rd_bytes(r, n);
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++)
        v = v << 8 | (uint8_t)s.p[i];
    return v;
}

static inline uint64_t rd_le(struct rd *r, size_t n)
{
    struct str s = rd_bytes(r, n);
    uint64_t v = 0;
    for (size_t i = s.n; i > 0; i--)
        v = v << 8 | (uint8_t)s.p[i - 1];
    return v;
}

static inline uint8_t rd_u8(struct rd *r)
{
    return (uint8_t)rd_be(r, 1);
}

static inline uint16_t rd_u16(struct rd *r)
{
    return (uint16_t)rd_be(r, 2);
}

static inline uint32_t rd_u24(struct rd *r)
{
    return (uint32_t)rd_be(r, 3);
}

static inline uint32_t rd_u32(struct rd *r)
{
    return (uint32_t)rd_be(r, 4);
}

static inline uint64_t rd_u64(struct rd *r)
{
    return rd_be(r, 8);
}

/* A slice behind a big-endian length of `width` bytes. */
static inline struct str rd_vec(struct rd *r, size_t width)
{
    return rd_bytes(r, (size_t)rd_be(r, width));
}
