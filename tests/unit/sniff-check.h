#pragma once
/* Checks that every sniffer's test makes: the bytes lie in front of a page that cannot be touched,
 * and a good sample is not judged before it is whole. */

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test.h"
#include "wire/sniffed.h"

static inline const char *verdict_name(enum sniff_verdict v)
{
    static const char *const names[] = {"MORE", "DONE", "BAD", "NOT"};
    return names[v];
}

#define CHECK_VERDICT(got, want) CHECK_TEXT(verdict_name(got), verdict_name(want))

/* Runs the sniffer over a copy whose end is the end of readable memory. The slices in *out must not
 * be looked at afterwards. */
static inline enum sniff_verdict sniff_guarded(sniff_fn *fn, struct str in, struct sniffed *out)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (in.n + page - 1) / page * page;
    char *base =
        mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + room, page, PROT_NONE) < 0)
        abort();
    char *at = base + room - in.n;
    if (in.n > 0)
        memcpy(at, in.p, in.n);
    enum sniff_verdict v = fn((struct str){at, in.n}, out);
    (void)munmap(base, room + page);
    return v;
}

static inline void check_prefixes(sniff_fn *fn, struct str in, const char *file, int line)
{
    struct sniffed s;
    for (size_t n = 0; n <= in.n; n++) {
        enum sniff_verdict want = n < in.n ? SNIFF_MORE : SNIFF_DONE;
        enum sniff_verdict got = sniff_guarded(fn, (struct str){in.p, n}, &s);
        if (got == want)
            continue;
        char what[96];
        (void)snprintf(what, sizeof what, "verdict of the first %zu of %zu bytes", n, in.n);
        test_fail(file, line, what, verdict_name(got), verdict_name(want));
        return;
    }
}

/* Every proper prefix of the sample is MORE, the whole is DONE. */
#define CHECK_PREFIXES(fn, sample) check_prefixes(fn, sample, __FILE__, __LINE__)

/* A literal, which may hold NUL bytes, and what it is judged to be. */
#define CHECK_SNIFF(fn, literal, want)                                                             \
    do {                                                                                           \
        struct sniffed s_;                                                                         \
        CHECK_VERDICT(sniff_guarded(fn, STR(literal), &s_), want);                                 \
    } while (0)

#define CHECK_BAD(fn, literal, why)                                                                \
    do {                                                                                           \
        struct sniffed s_ = {.reason = NULL};                                                      \
        CHECK_VERDICT(sniff_guarded(fn, STR(literal), &s_), SNIFF_BAD);                            \
        CHECK_TEXT(s_.reason, why);                                                                \
    } while (0)
