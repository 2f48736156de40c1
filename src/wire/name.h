#pragma once
/* The rule for names of services and of peers: a-z, 0-9 and inner hyphens, at most 40 characters. A
 * key in text form is longer, so it is never taken for a name. */

#include <stdbool.h>

#include "base/str.h"

#define WIRE_NAME_MAX 40

static inline bool wire_name_valid(struct str name)
{
    if (name.n == 0 || name.n > WIRE_NAME_MAX || name.p[0] == '-' || name.p[name.n - 1] == '-')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i];
        if (!ascii_is_digit(c) && !(c >= 'a' && c <= 'z') && c != '-')
            return false;
    }
    return true;
}
