#pragma once
/* When two peers that were introduced to each other fire at once: each is told to wait so long from
 * when it hears of it. The round trips are from each of them to the server that introduces, through
 * whatever lies between. Pure arithmetic. */

#include <stdint.h>

/* So long after the slower one has heard of it: what its message may be late by. */
#define INSTANT_SLACK_US 8000
/* Two peers that say that they are further away are not waited for. */
#define INSTANT_RTT_MAX_US 2000000u

struct instant {
    uint32_t caller_wait_us, callee_wait_us;
};

static inline uint32_t instant_cut(uint32_t rtt_us)
{
    return rtt_us < INSTANT_RTT_MAX_US ? rtt_us : INSTANT_RTT_MAX_US;
}

/* Of a peer whose messages go through something that takes so long, there and back. What is not
 * known (0) stays so. */
static inline uint32_t instant_through(uint32_t rtt_us, uint32_t more_us)
{
    return rtt_us ? instant_cut(rtt_us) + instant_cut(more_us) : 0;
}

/* Of a round trip that is not known (0) the other's is the best guess. */
static inline struct instant instant_pick(uint32_t caller_us, uint32_t callee_us)
{
    uint32_t caller = instant_cut(caller_us ? caller_us : callee_us);
    uint32_t callee = instant_cut(callee_us ? callee_us : caller_us);
    uint32_t fire_us = (caller > callee ? caller : callee) / 2 + INSTANT_SLACK_US;
    return (struct instant){fire_us - caller / 2, fire_us - callee / 2};
}
