/* A ring of lines. */
#include "peerd/trail.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"

void trail_add(struct trail *t, const char *format, ...)
{
    struct trail_step *s = &t->steps[t->count++ % TRAIL_STEPS];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(s->text, sizeof s->text, format, args);
    va_end(args);
    s->at_ms = clock_now_ms();
}

void trail_clear(struct trail *t)
{
    t->count = 0;
}

const struct trail_step *trail_step(const struct trail *t, size_t i)
{
    size_t first = t->count > TRAIL_STEPS ? t->count - TRAIL_STEPS : 0;
    return first + i < t->count ? &t->steps[(first + i) % TRAIL_STEPS] : NULL;
}
