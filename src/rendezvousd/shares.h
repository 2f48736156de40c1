#pragma once
/* Shares of a busy thread: no pair that is relayed takes more than its part of it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHARES 128

struct shares {
    bool strict; /* there is more than we can do */
    uint32_t busy;
    size_t total, pairs;
    struct {
        uint32_t pair;
        size_t asked, passed;
    } of[SHARES];
};

/* A batch of datagrams begins, which is a full one or not. */
void shares_begin(struct shares *s, bool full);
/* For each of its datagrams, when it is strict, before the first is taken. */
void shares_ask(struct shares *s, const uint8_t *bytes, size_t n);
/* May the pair of this channel send so much more of the batch? Counts it. */
bool shares_take(struct shares *s, uint32_t channel, size_t n);
