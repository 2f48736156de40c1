#pragma once
/* A seccomp filter for every thread of this process. What it does not allow fails with EPERM: a
 * library that asks for more on some rare path gets its error, and everybody who is being served
 * goes on. */

#include <seccomp.h>
#include <stddef.h>

#include "base/fd.h"

/* A call that is allowed with one value of one argument only. */
struct filter_narrow {
    int call;
    unsigned argument;
    scmp_datum_t value;
};

/* Beside these abort() is allowed, and what all programs do: the table in filter.c. */
struct filter {
    const int *allowed;
    size_t allowed_count;
    const struct filter_narrow *narrow;
    size_t narrow_count;
    int (*more)(scmp_filter_ctx ctx); /* what no table says; NULL: nothing */
};

#define FILTER_TABLE(table) (table), sizeof(table) / sizeof *(table)

/* -ENOTSUP under the sanitizers, whose runtime needs more than any program. */
int filter_load(const struct filter *f) WARN_UNUSED;
