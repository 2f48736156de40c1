/* The table of pairs: plain look-ups and counting. What happens to a pair is decided in check.c. */
#include "punch/pair.h"

#define PAUSE_FIRST_US 20000u
#define PAUSE_LAST_US  320000u
/* Of a socket of a guess: the middle, and when the guess of 1.25 s is over. */
#define PAUSE_SOCKET_US      350000u
#define PAUSE_SOCKET_LAST_US 950000u

struct pair *pairs_add(struct pairs *ps, unsigned socket, enum candidate_kind kind,
                       const struct addr *to)
{
    if (ps->count == PAIRS_MAX)
        return NULL;
    struct pair *p = &ps->at[ps->count++];
    *p = (struct pair){.to = *to, .due_us = UINT64_MAX, .socket = (uint16_t)socket};
    p->kind = (uint8_t)kind;
    p->limit = PUNCH_PROBES_MAX;
    return p;
}

struct pair *pairs_find(struct pairs *ps, unsigned socket, const struct addr *to)
{
    for (size_t i = 0; i < ps->count; i++)
        if (ps->at[i].socket == socket && addr_equal(&ps->at[i].to, to))
            return &ps->at[i];
    return NULL;
}

struct pair *pairs_of_socket(struct pairs *ps, unsigned socket)
{
    for (size_t i = 0; i < ps->count; i++)
        if (ps->at[i].socket == socket)
            return &ps->at[i];
    return NULL;
}

uint64_t pair_pause_us(const struct pair *p)
{
    if (p->limit == PAIR_SOCKET_PROBES)
        return p->sent == 1 ? PAUSE_SOCKET_US : PAUSE_SOCKET_LAST_US;
    unsigned since = p->sent - p->before, doubled = since > 0 ? since - 1u : 0;
    uint64_t pause_us = doubled < 8 ? (uint64_t)PAUSE_FIRST_US << doubled : PAUSE_LAST_US;
    return pause_us < PAUSE_LAST_US ? pause_us : PAUSE_LAST_US;
}

unsigned pairs_sent_to_ip(const struct pairs *ps, const struct addr *a, bool *ret_answered)
{
    unsigned sent = 0;
    *ret_answered = false;
    for (size_t i = 0; i < ps->count; i++) {
        if (!candidate_same_ip(&ps->at[i].to, a))
            continue;
        sent += ps->at[i].sent;
        *ret_answered = *ret_answered || ps->at[i].state == PAIR_PROVEN;
    }
    return sent;
}

size_t pairs_count_kind(const struct pairs *ps, enum candidate_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < ps->count; i++)
        count += ps->at[i].kind == kind;
    return count;
}
