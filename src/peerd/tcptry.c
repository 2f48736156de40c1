/* The time comes in, places of a list go out. Nothing is owned. */
#include "peerd/tcptry.h"

#include "punch/candidate.h"

static uint64_t random_below(struct tcptries *t, uint64_t n)
{
    t->random = t->random * 6364136223846793005u + 1442695040888963407u;
    return (t->random >> 33) % n;
}

void tcptries_init(struct tcptries *t, uint64_t rtt_ms, uint64_t seed)
{
    *t = (struct tcptries){.random = seed, .renew_ms = TCPTRY_RENEW_MS};
    /* Anew before the answer can have come would end what is about to succeed. */
    if (rtt_ms + rtt_ms / 2 > t->renew_ms)
        t->renew_ms = rtt_ms + rtt_ms / 2;
    if (t->renew_ms > TCPTRY_RENEW_MAX_MS)
        t->renew_ms = TCPTRY_RENEW_MAX_MS;
}

bool tcptries_add(struct tcptries *t, const struct addr *to, uint64_t at_ms)
{
    for (size_t i = 0; i < t->count; i++)
        if (addr_equal(&t->at[i].to, to))
            return false;
    if (t->count == TCPTRY_MAX)
        return false;
    t->at[t->count++] = (struct tcptry){.to = *to, .due_ms = at_ms};
    return true;
}

static unsigned tries_at_ip(const struct tcptries *t, const struct addr *ip)
{
    unsigned n = 0;
    for (size_t i = 0; i < t->count; i++)
        if (candidate_same_ip(&t->at[i].to, ip))
            n += t->at[i].tries;
    return n;
}

static bool is_open(const struct tcptry *y)
{
    return y->state == TCPTRY_WAITS || y->state == TCPTRY_OPENING;
}

static void begin(struct tcptries *t, struct tcptry *y, uint64_t now_ms)
{
    if (y->tries == TCPTRY_TRIES || tries_at_ip(t, &y->to) >= TCPTRY_TRIES_IP) {
        y->state = TCPTRY_OVER;
        return;
    }
    y->silent = y->state == TCPTRY_OPENING ? y->silent + 1 : 0;
    uint64_t wait_ms = t->renew_ms << (y->silent < 4 ? y->silent : 4);
    y->state = TCPTRY_OPENING;
    y->tries++;
    y->due_ms = now_ms + (wait_ms < TCPTRY_RENEW_MAX_MS ? wait_ms : TCPTRY_RENEW_MAX_MS);
}

int tcptries_next(struct tcptries *t, uint64_t now_ms)
{
    for (size_t i = 0; i < t->count; i++) {
        if (!is_open(&t->at[i]) || t->at[i].due_ms > now_ms)
            continue;
        begin(t, &t->at[i], now_ms);
        return (int)i;
    }
    return -EAGAIN;
}

void tcptries_stands(struct tcptries *t, size_t i)
{
    t->at[i].state = TCPTRY_STANDS;
}

void tcptries_refused(struct tcptries *t, size_t i, uint64_t now_ms)
{
    t->at[i].state = TCPTRY_WAITS;
    t->at[i].due_ms = now_ms + TCPTRY_PAUSE_MS + random_below(t, TCPTRY_PAUSE_MS + 1);
}

void tcptries_end(struct tcptries *t, size_t i)
{
    t->at[i].state = TCPTRY_OVER;
}

uint64_t tcptries_due(const struct tcptries *t)
{
    uint64_t due_ms = UINT64_MAX;
    for (size_t i = 0; i < t->count; i++)
        if (is_open(&t->at[i]) && t->at[i].due_ms < due_ms)
            due_ms = t->at[i].due_ms;
    return due_ms;
}
