/* An address and the time come in; whether it may be sent to goes out. Owns nothing. */
#include "peerd/targets.h"

#include <sodium.h>

#define NETWORK_V6 8

void targets_init(struct targets *t)
{
    *t = (struct targets){.since_ms = 0};
    randombytes_buf(t->key, sizeof t->key);
}

static uint8_t *bucket(struct targets *t, const struct addr *a)
{
    uint8_t bytes[NETWORK_V6] = {0}, hash[SIPHASH_TAG];
    if (a->sa.sa_family == AF_INET6)
        memcpy(bytes, &a->v6.sin6_addr, NETWORK_V6);
    else
        memcpy(bytes, &a->v4.sin_addr, sizeof a->v4.sin_addr);
    siphash128(t->key, bytes, sizeof bytes, hash);
    return &t->starts[(hash[0] | hash[1] << 8) % TARGETS_BUCKETS];
}

bool targets_take(struct targets *t, const struct addr *a, uint64_t now_ms)
{
    uint8_t *starts = bucket(t, a);
    if (now_ms - t->since_ms >= TARGETS_PERIOD_MS) {
        memset(t->starts, 0, sizeof t->starts);
        t->since_ms = now_ms;
    }
    if (*starts >= TARGETS_STARTS)
        return false;
    ++*starts;
    return true;
}
