/* Pauses between introductions: numbers come in, milliseconds go out. The first failure is mended
 * by a fresh socket more often than by time; what fails again and again is asked more rarely. */
#include "peerd/pause.h"

#define DOUBLED_MAX_MS 300000u
#define LAST_MS        3600000u

/* After that it doubles, and the last one is for good. */
static const struct {
    unsigned first_ms, second_ms, third_ms;
} pauses[PATH_HOPES] = {
    [PATH_HOPE] = {10, 2000, 4000},
    [PATH_GUESS_HOPE] = {10, 1000, 15000},
    [PATH_LITTLE_HOPE] = {10, 15000, 30000},
    [PATH_ROUTER_HOPE] = {2500, 10000, 20000},
    [PATH_NO_HOPE] = {60000, 300000, LAST_MS},
};

static uint64_t longer_ms(uint64_t ms)
{
    if (ms >= DOUBLED_MAX_MS)
        return LAST_MS;
    return 2 * ms > DOUBLED_MAX_MS ? DOUBLED_MAX_MS : 2 * ms;
}

uint64_t pause_ms(enum path_hope hope, unsigned failures)
{
    uint64_t ms = pauses[hope].third_ms;
    if (failures == 0)
        return pauses[hope].first_ms;
    if (failures == 1)
        return pauses[hope].second_ms;
    for (unsigned i = 2; i < failures; i++)
        ms = longer_ms(ms);
    return ms;
}
