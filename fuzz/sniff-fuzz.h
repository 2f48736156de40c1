#pragma once
/* What must hold of every sniffer's answer, whatever the bytes. A breach aborts. */

#include <stdint.h>
#include <stdlib.h>

#include "wire/sniffed.h"

static inline void fuzz_require(bool holds)
{
    if (!holds)
        abort();
}

static inline bool fuzz_is_within(struct str s, const char *base, size_t n)
{
    return (uintptr_t)s.p >= (uintptr_t)base && (uintptr_t)s.p + s.n <= (uintptr_t)base + n;
}

static inline void fuzz_slice(struct str s, struct str in, const struct sniffed *out)
{
    fuzz_require(s.n == 0 || fuzz_is_within(s, in.p, in.n) ||
                 fuzz_is_within(s, out->scratch, out->scratch_used));
}

static inline void fuzz_host(struct str host)
{
    for (size_t i = 0; i < host.n; i++) {
        char c = host.p[i];
        fuzz_require((c >= 'a' && c <= 'z') || ascii_is_digit(c) || (c && strchr("-._:", c)));
    }
    fuzz_require(host.n == 0 || host.p[host.n - 1] != '.');
}

static inline void fuzz_path(struct str path)
{
    fuzz_require(path.n == 0 || path.p[0] == '/');
    for (size_t i = 0; i + 3 <= path.n; i++)
        fuzz_require(memcmp(path.p + i, "/..", 3) != 0 || (i + 3 < path.n && path.p[i + 3] != '/'));
}

static inline void fuzz_answer(enum sniff_verdict v, struct str in, const struct sniffed *out)
{
    fuzz_require(v == SNIFF_MORE || v == SNIFF_DONE || v == SNIFF_BAD || v == SNIFF_NOT);
    fuzz_require(v != SNIFF_BAD || out->reason);
    if (v != SNIFF_DONE && v != SNIFF_BAD)
        return;
    fuzz_require(out->proto != PROTO_NONE && out->proto < PROTO_COUNT);
    fuzz_require(out->scratch_used <= SNIFFED_SCRATCH && out->alpn_count <= SNIFFED_ALPN_MAX);
    const struct str slices[] = {out->host, out->method, out->path, out->user, out->database};
    for (size_t i = 0; i < sizeof slices / sizeof *slices; i++)
        fuzz_slice(slices[i], in, out);
    for (size_t i = 0; i < out->alpn_count; i++)
        fuzz_slice(out->alpn[i], in, out);
    fuzz_host(out->host);
    fuzz_path(out->path);
}

static inline bool fuzz_is_final(enum sniff_verdict v)
{
    return v == SNIFF_DONE || v == SNIFF_BAD;
}

/* Judges the whole and one prefix, which must not contradict each other: what is not the protocol
 * stays so, and what was found in fewer bytes is found in more, with the same name. */
static inline void fuzz_sniffer(sniff_fn *fn, const uint8_t *data, size_t size)
{
    struct str in = {(const char *)data, size};
    struct sniffed whole, part;
    enum sniff_verdict v = fn(in, &whole);
    fuzz_answer(v, in, &whole);
    if (size == 0)
        return;
    struct str half = {in.p, data[size - 1] * size / 256};
    enum sniff_verdict h = fn(half, &part);
    fuzz_answer(h, half, &part);
    if (h == SNIFF_MORE)
        return;
    fuzz_require(h == v);
    if (!fuzz_is_final(v))
        return;
    fuzz_require(part.proto == whole.proto && str_eq(part.host, whole.host));
    fuzz_require(str_eq(part.path, whole.path) && str_eq(part.user, whole.user));
    fuzz_require(v == SNIFF_DONE || strcmp(part.reason, whole.reason) == 0);
}
