#pragma once
/* Text for what can be connected to: 10.0.0.5:3000, [::1]:3000, db.example:5432, unix:/path. */

#include <stdbool.h>

#include "base/addr.h"

#define TARGET_HOST_MAX 256

struct target_place {
    bool is_name;
    struct addr addr;           /* unless it is a name */
    char host[TARGET_HOST_MAX]; /* of a name */
    char port[8];
};

/* -EINVAL for what is no such text. */
int target_place_parse(const char *text, struct target_place *ret_place) WARN_UNUSED;
