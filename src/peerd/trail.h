#pragma once
/* What was done for somebody, step by step, with the time of each: for `berth why`. The oldest
 * steps go when there are too many. */

#include <stddef.h>
#include <stdint.h>

#define TRAIL_STEPS 40
#define TRAIL_TEXT  160

struct trail_step {
    uint64_t at_ms; /* monotonic */
    char text[TRAIL_TEXT];
};

struct trail {
    struct trail_step steps[TRAIL_STEPS];
    size_t count; /* ever */
};

void trail_add(struct trail *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void trail_clear(struct trail *t);
/* From the oldest on; NULL at the end. */
const struct trail_step *trail_step(const struct trail *t, size_t i);
