/* Classifies a NAT: samples of mapped addresses come in, mapping, filtering and allocation of ports
 * go out. Pure. */
#include "punch/classify.h"

#include "punch/candidate.h"

#include <stdio.h>
#include <stdlib.h>

#define ALLOCATION_MIN 4 /* sockets: with fewer any order is chance */
#define SEQUENCE_CLOSE 4 /* steps for each sample */

static const char *const mapping_words[] = {"unknown", "none", "eim", "adm", "apdm", "blocked"};
static const char *const filtering_words[] = {"unknown", "eif", "adf", "apdf"};
static const char *const allocation_words[] = {"unknown", "keep", "sequence", "random", "block"};

/* What two answers to one socket say. */
static enum nat_mapping mapping_of_two(const struct nat_sample *a, const struct nat_sample *b)
{
    if (a->socket != b->socket || addr_equal(&a->server, &b->server))
        return NAT_MAPPING_UNKNOWN;
    if (addr_equal(&a->mapped, &b->mapped))
        return NAT_MAPPING_EIM;
    return candidate_same_ip(&a->server, &b->server) ? NAT_MAPPING_APDM : NAT_MAPPING_ADM;
}

/* Two ports of one server tell APDM from the others; without such a pair what differs is taken for
 * the stricter kind. */
static enum nat_mapping mapping_of(const struct nat_sample *s, size_t n)
{
    bool ports_compared = false;
    enum nat_mapping found = NAT_MAPPING_UNKNOWN;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            enum nat_mapping two = mapping_of_two(&s[i], &s[j]);
            if (two > found)
                found = two;
            if (two != NAT_MAPPING_UNKNOWN && candidate_same_ip(&s[i].server, &s[j].server))
                ports_compared = true;
        }
    }
    return found == NAT_MAPPING_ADM && !ports_compared ? NAT_MAPPING_APDM : found;
}

/* Socket 0 is in use for other things: its mapping may be much older than those of the fresh ones,
 * so it does not count among enough of them. */
static bool has_fresh(const struct nat_sample *s, size_t n)
{
    unsigned fresh = 0;
    for (size_t i = 0; i < n; i++) {
        bool again = s[i].socket == 0;
        for (size_t j = 0; j < i && !again; j++)
            again = s[j].socket == s[i].socket;
        fresh += !again;
    }
    return fresh >= ALLOCATION_MIN;
}

/* The first answer to each socket, in the order of time. */
static size_t first_samples(const struct nat_sample *s, size_t n,
                            const struct nat_sample **ret_first)
{
    size_t count = 0;
    bool fresh = has_fresh(s, n);
    for (size_t i = 0; i < n && count < NAT_SAMPLES_MAX; i++) {
        bool known = fresh && s[i].socket == 0;
        for (size_t j = 0; j < count; j++)
            known = known || ret_first[j]->socket == s[i].socket;
        if (!known)
            ret_first[count++] = &s[i];
    }
    return count;
}

static bool all_kept(const struct nat_sample *const *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (addr_port(&s[i]->local) != addr_port(&s[i]->mapped))
            return false;
    return true;
}

/* The ports in ascending order, and how many of them lie below the one that was asked for before.
 */
static unsigned ports_sort(const struct nat_sample *const *s, size_t n, int ret_ports[])
{
    unsigned below = 0;
    for (size_t i = 0; i < n; i++) {
        int port = addr_port(&s[i]->mapped);
        size_t at = i;
        below += i > 0 && port < addr_port(&s[i - 1]->mapped);
        for (; at > 0 && ret_ports[at - 1] > port; at--)
            ret_ports[at] = ret_ports[at - 1];
        ret_ports[at] = port;
    }
    return below;
}

/* The step of a sequence, or 0. On a NAT that others use, too, some steps are multiples of it. Who
 * was asked a second time, because an answer was lost, stands late and may have its port from the
 * first time: a few such are allowed where the ports lie close together. */
static int step_of(const struct nat_sample *const *s, size_t n)
{
    int ports[NAT_SAMPLES_MAX], step = NAT_SEQUENCE_MAX + 1;
    unsigned below = ports_sort(s, n, ports), above = (unsigned)n - 1 - below;
    for (size_t i = 1; i < n; i++)
        if (ports[i] - ports[i - 1] < step)
            step = ports[i] - ports[i - 1];
    if (step == 0)
        return 0;
    for (size_t i = 1; i < n; i++) {
        int gap = ports[i] - ports[i - 1];
        if (gap > NAT_SEQUENCE_MAX || gap % step != 0)
            return 0;
    }
    unsigned stray = below < above ? below : above;
    bool close = ports[n - 1] - ports[0] <= SEQUENCE_CLOSE * (int)n * step;
    if (stray > (close ? n / 4 : 0))
        return 0;
    return below > above ? -step : step;
}

/* The smallest aligned block of a power of two that has all ports, or, when they lie across the
 * border of two, the ports and an eighth of their range on both sides. */
static void block_of(struct nat *nat, unsigned low, unsigned high)
{
    unsigned size = 64;
    while (size <= NAT_BLOCK_MAX && low / size != high / size)
        size *= 2;
    nat->allocation = NAT_ALLOCATION_RANDOM;
    if (size <= NAT_BLOCK_MAX) {
        nat->block_first = (uint16_t)(low / size * size);
    } else if (high - low < NAT_BLOCK_MAX / 2) {
        unsigned more = (high - low) / 8 + 1;
        nat->block_first = (uint16_t)(low > more ? low - more : 1);
        size = high + more - nat->block_first;
    } else {
        return;
    }
    nat->allocation = NAT_ALLOCATION_BLOCK;
    nat->delta = (int16_t)size;
}

static void allocation_of(struct nat *nat, const struct nat_sample *const *s, size_t n)
{
    unsigned low = UINT16_MAX, high = 0;
    if (n < ALLOCATION_MIN)
        return;
    for (size_t i = 0; i < n; i++) {
        unsigned port = addr_port(&s[i]->mapped);
        low = port < low ? port : low;
        high = port > high ? port : high;
    }
    if (all_kept(s, n)) {
        nat->allocation = NAT_ALLOCATION_KEEP;
        return;
    }
    nat->delta = (int16_t)step_of(s, n);
    if (nat->delta != 0)
        nat->allocation = NAT_ALLOCATION_SEQUENCE;
    else
        block_of(nat, low, high);
}

static enum nat_filtering filtering_of(struct nat_filter_test test)
{
    if (test.other_address == NAT_HEARD)
        return NAT_FILTERING_EIF;
    if (test.other_port == NAT_HEARD)
        return NAT_FILTERING_ADF;
    bool asked = test.other_address == NAT_SILENT && test.other_port == NAT_SILENT;
    return asked ? NAT_FILTERING_APDF : NAT_FILTERING_UNKNOWN;
}

struct nat nat_classify(const struct nat_sample *samples, size_t n, struct nat_filter_test test)
{
    const struct nat_sample *first[NAT_SAMPLES_MAX];
    struct nat nat = {.filtering = filtering_of(test)};
    size_t count = first_samples(samples, n, first);
    if (n == 0) {
        nat.mapping = NAT_MAPPING_BLOCKED;
        return nat;
    }
    nat.mapping = mapping_of(samples, n);
    allocation_of(&nat, first, count);
    bool no_other = nat.mapping == NAT_MAPPING_EIM || nat.mapping == NAT_MAPPING_UNKNOWN;
    if (no_other && addr_equal(&samples[0].local, &samples[0].mapped))
        nat.mapping = NAT_MAPPING_NONE;
    return nat;
}

struct nat nat_from_wire(uint8_t mapping, uint8_t allocation, int16_t delta,
                         const struct addr *seen)
{
    struct nat nat = {.delta = delta};
    if (mapping < NAT_MAPPING_END)
        nat.mapping = (enum nat_mapping)mapping;
    if (allocation < NAT_ALLOCATION_END)
        nat.allocation = (enum nat_allocation)allocation;
    if (nat.allocation == NAT_ALLOCATION_SEQUENCE && (delta == 0 || abs(delta) > NAT_SEQUENCE_MAX))
        nat.allocation = NAT_ALLOCATION_RANDOM;
    if (nat.allocation != NAT_ALLOCATION_BLOCK)
        return nat;
    if (delta < 64 || delta > NAT_BLOCK_MAX) {
        nat.allocation = NAT_ALLOCATION_RANDOM;
        return nat;
    }
    unsigned port = addr_port(seen), size = (unsigned)delta;
    if ((size & (size - 1)) == 0) {
        nat.block_first = (uint16_t)(port / size * size);
        return nat;
    }
    /* Where in the block the port lies is not known. */
    nat.block_first = (uint16_t)(port > size ? port - size : 1);
    nat.delta = (int16_t)(2 * size > NAT_BLOCK_MAX ? NAT_BLOCK_MAX : 2 * size);
    return nat;
}

const char *nat_format(const struct nat *nat, char buf[NAT_TEXT_MAX])
{
    char more[16] = "";
    if (nat->allocation == NAT_ALLOCATION_SEQUENCE)
        (void)snprintf(more, sizeof more, "%+d", nat->delta);
    if (nat->allocation == NAT_ALLOCATION_BLOCK)
        (void)snprintf(more, sizeof more, "%d", nat->delta);
    (void)snprintf(buf, NAT_TEXT_MAX, "%s/%s/%s%s", mapping_words[nat->mapping],
                   filtering_words[nat->filtering], allocation_words[nat->allocation], more);
    return buf;
}

bool nat_is_symmetric(const struct nat *nat)
{
    bool depends = nat->mapping == NAT_MAPPING_ADM || nat->mapping == NAT_MAPPING_APDM;
    return depends && nat->allocation != NAT_ALLOCATION_KEEP;
}

bool nat_counts(const struct nat *nat)
{
    return nat_is_symmetric(nat) && nat->allocation == NAT_ALLOCATION_SEQUENCE;
}
