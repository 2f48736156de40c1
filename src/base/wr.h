#pragma once
/* Write cursor into a buffer of the caller's. The error is sticky, as in rd.h: what does not fit is
 * not written at all and wr_ok() says so once, at the end. Integers are big-endian. */

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct wr {
    uint8_t *p;
    size_t used, size;
    bool failed;
};

static inline struct wr wr_init(void *p, size_t size)
{
    return (struct wr){p, 0, size, false};
}

static inline bool wr_ok(const struct wr *w)
{
    return !w->failed;
}

static inline void wr_bytes(struct wr *w, const void *p, size_t n)
{
    if (w->failed || n > w->size - w->used) {
        w->failed = true;
        return;
    }
    if (n > 0)
        memcpy(w->p + w->used, p, n);
    w->used += n;
}

static inline void wr_be(struct wr *w, uint64_t v, size_t n)
{
    uint8_t b[8];
    for (size_t i = 0; i < n; i++)
        b[i] = (uint8_t)(v >> 8 * (n - 1 - i));
    wr_bytes(w, b, n);
}

static inline void wr_u8(struct wr *w, uint8_t v)
{
    wr_bytes(w, &v, 1);
}

static inline void wr_u16(struct wr *w, uint16_t v)
{
    wr_be(w, v, 2);
}

static inline void wr_u32(struct wr *w, uint32_t v)
{
    wr_be(w, v, 4);
}

static inline void wr_u64(struct wr *w, uint64_t v)
{
    wr_be(w, v, 8);
}

/* Bytes behind a 16-bit length. */
static inline void wr_vec16(struct wr *w, struct str s)
{
    if (s.n > UINT16_MAX)
        w->failed = true;
    wr_u16(w, (uint16_t)s.n);
    wr_bytes(w, s.p, s.n);
}
