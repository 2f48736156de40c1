/* The network of net.h: a list of packets in flight, two NATs that translate as RFC 4787 names it,
 * and the loop that asks the machines. */
#include "net.h"

#include "base/siphash.h"

#include <stdio.h>
#include <stdlib.h>

#define MS 1000u

void sim_mac(const uint8_t key[PUNCH_KEY], const void *bytes, size_t n, uint8_t ret_tag[PROBE_TAG])
{
    siphash128(key, bytes, n, ret_tag);
}

uint32_t sim_random(struct sim *s, uint32_t below)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (uint32_t)(s->random >> 33) % below;
}

static struct addr ip4(const char *text, uint16_t port)
{
    char whole[64];
    struct addr a = {.len = 0};
    (void)snprintf(whole, sizeof whole, "%s:%u", text, port);
    if (addr_parse(whole, &a) < 0)
        abort();
    return a;
}

static struct addr with_port(struct addr a, uint16_t port)
{
    addr_set_port(&a, port);
    return a;
}

static size_t word_of(const char **at, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(words[i]);
        if (strncmp(*at, words[i], n) == 0) {
            *at += n + ((*at)[n] == '/');
            return i;
        }
    }
    abort();
}

static void nat_init(struct sim_nat *nat, const char *text)
{
    static const char *const mapping[] = {"unknown", "none", "eim", "adm", "apdm", "blocked"};
    static const char *const filtering[] = {"unknown", "eif", "adf", "apdf"};
    static const char *const allocation[] = {"unknown", "keep", "sequence", "random", "block"};
    nat->is.mapping = (enum nat_mapping)word_of(&text, mapping, 6);
    nat->is.filtering = (enum nat_filtering)word_of(&text, filtering, 4);
    nat->is.allocation = (enum nat_allocation)word_of(&text, allocation, 5);
    nat->is.delta = (int16_t)strtol(text, NULL, 10);
    nat->is.block_first = 20480;
    nat->open_input = strstr(text, "open") != NULL;
    nat->next_port = 20000;
    nat->depth = 1;
}

struct sim *sim_new(const char *nat_a, const char *nat_b, uint64_t seed)
{
    struct sim *s = calloc(1, sizeof *s);
    if (!s)
        abort();
    s->random = (seed + 1) * 0x9e3779b97f4a7c15ull;
    s->now_us = 1000 * MS;
    s->delay_us = 20 * MS;
    s->hops = 5;
    s->introduced_us = 50 * MS;
    s->a.inside = ip4("10.0.1.2", 0);
    s->b.inside = ip4("10.0.2.2", 0);
    s->a.outside = ip4("11.1.0.10", 0);
    s->b.outside = ip4("11.2.0.10", 0);
    nat_init(&s->a.nat, nat_a);
    nat_init(&s->b.nat, nat_b);
    for (struct sim_host *h = &s->a; h; h = h == &s->a ? &s->b : NULL) {
        h->next_local = (uint16_t)(33000 + sim_random(s, 20000));
        if (h->nat.is.mapping == NAT_MAPPING_NONE)
            h->inside = h->outside;
    }
    return s;
}

void sim_free(struct sim *s)
{
    punch_free(s->a.machine);
    punch_free(s->b.machine);
    free(s);
}

static uint16_t local_port(struct sim_host *h, unsigned socket)
{
    if (socket >= SIM_SOCKETS)
        abort();
    if (h->ports[socket] == 0)
        h->ports[socket] = h->next_local++;
    return h->ports[socket];
}

static struct addr key_of(const struct sim_nat *nat, struct addr to)
{
    if (nat->is.mapping == NAT_MAPPING_ADM)
        return with_port(to, 1);
    return nat->is.mapping == NAT_MAPPING_APDM ? to : ip4("0.0.0.0", 1);
}

static bool port_is_taken(const struct sim_nat *nat, uint16_t port, const struct addr *to)
{
    for (size_t i = 0; i < nat->mapping_count; i++)
        if (nat->mappings[i].port == port)
            return true;
    for (size_t i = 0; i < nat->taken_count; i++)
        if (nat->taken[i].port == port && addr_equal(&nat->taken[i].from, to))
            return true;
    return false;
}

/* Ports that others have taken since the last time. */
static void take_for_others(struct sim *s, struct sim_nat *nat)
{
    for (; nat->busy_us + MS <= s->now_us; nat->busy_us += MS)
        if (sim_random(s, 80) < nat->busy)
            nat->next_port = (uint16_t)(nat->next_port + nat->is.delta);
}

static uint16_t port_pick(struct sim *s, struct sim_nat *nat, uint16_t local, const struct addr *to)
{
    uint16_t port = local;
    if (nat->is.allocation == NAT_ALLOCATION_SEQUENCE) {
        take_for_others(s, nat);
        nat->next_port = (uint16_t)(nat->next_port + nat->is.delta);
        return nat->next_port;
    }
    bool keep = nat->is.allocation == NAT_ALLOCATION_KEEP;
    bool block = nat->is.allocation == NAT_ALLOCATION_BLOCK;
    while (!keep || port_is_taken(nat, port, to)) {
        keep = true;
        port = block ? (uint16_t)(nat->is.block_first + sim_random(s, (uint32_t)nat->is.delta))
                     : (uint16_t)(1024 + sim_random(s, 64512));
    }
    return port;
}

/* A router that kept the flow for itself gives this one connection another port. */
static bool flow_is_taken(const struct sim_nat *nat, uint16_t port, const struct addr *to)
{
    for (size_t i = 0; i < nat->taken_count; i++)
        if (nat->taken[i].port == port && addr_equal(&nat->taken[i].from, to))
            return true;
    return false;
}

static struct addr translate_out(struct sim *s, struct sim_host *h, uint16_t local, struct addr to)
{
    struct sim_nat *nat = &h->nat;
    struct addr key = key_of(nat, to);
    if (nat->is.mapping == NAT_MAPPING_NONE)
        return with_port(h->outside, local);
    for (size_t i = 0; local == h->ports[0] && i < nat->through_count; i++)
        if (addr_equal(&nat->through[i], &to))
            return with_port(h->outside, nat->mapped);
    if (nat->permitted_count < SIM_MAPPINGS) {
        nat->permitted[nat->permitted_count].local = local;
        nat->permitted[nat->permitted_count++].to = to;
    }
    for (size_t i = 0; i < nat->mapping_count; i++) {
        struct sim_mapping *m = &nat->mappings[i];
        if (m->local == local && addr_equal(&m->key, &key) && !flow_is_taken(nat, m->port, &to))
            return with_port(h->outside, m->port);
    }
    if (nat->mapping_count == SIM_MAPPINGS)
        abort();
    struct sim_mapping *m = &nat->mappings[nat->mapping_count++];
    *m = (struct sim_mapping){.local = local, .key = key, .used = true};
    m->port = 0;
    m->port = port_pick(s, nat, local, &to);
    return with_port(h->outside, m->port);
}

static bool is_permitted(const struct sim_nat *nat, uint16_t local, const struct addr *from)
{
    if (nat->is.filtering == NAT_FILTERING_EIF)
        return true;
    for (size_t i = 0; i < nat->permitted_count; i++) {
        if (nat->permitted[i].local != local)
            continue;
        if (nat->is.filtering == NAT_FILTERING_ADF ? candidate_same_ip(&nat->permitted[i].to, from)
                                                   : addr_equal(&nat->permitted[i].to, from))
            return true;
    }
    return false;
}

/* The local port that this packet reaches, or 0. */
static uint16_t translate_in(struct sim_host *h, const struct addr *to, const struct addr *from)
{
    struct sim_nat *nat = &h->nat;
    if (nat->is.mapping == NAT_MAPPING_NONE)
        return addr_port(to);
    if (nat->mapped != 0 && nat->mapped == addr_port(to) && nat->through_count < 64) {
        nat->through[nat->through_count++] = *from;
        return h->ports[0];
    }
    for (size_t i = 0; i < nat->mapping_count; i++) {
        struct sim_mapping *m = &nat->mappings[i];
        struct addr key = key_of(nat, *from);
        bool for_everybody = nat->is.filtering == NAT_FILTERING_EIF;
        if (m->port == addr_port(to) && (for_everybody || addr_equal(&m->key, &key)) &&
            is_permitted(nat, m->local, from))
            return m->local;
    }
    if (nat->open_input && nat->taken_count < 64) {
        nat->taken[nat->taken_count].port = addr_port(to);
        nat->taken[nat->taken_count++].from = *from;
    }
    return 0;
}

struct addr sim_seen(struct sim *s, struct sim_host *h, unsigned socket, struct addr server)
{
    return translate_out(s, h, local_port(h, socket), server);
}

struct nat sim_classify(struct sim *s, struct sim_host *h)
{
    struct nat_sample samples[10];
    struct nat_filter_test test = {NAT_SILENT, NAT_SILENT};
    static const char *const servers[] = {"11.0.0.1", "11.0.0.2"};
    for (unsigned i = 0; i < 10; i++) {
        unsigned socket = i < 2 ? SIM_SOCKETS - 10 : SIM_SOCKETS - 11 + i;
        struct addr server = ip4(servers[i == 1], i == 2 ? 3479 : 3478);
        socket = i == 2 ? SIM_SOCKETS - 10 : socket;
        samples[i].socket = socket;
        samples[i].server = server;
        samples[i].mapped = sim_seen(s, h, socket, server);
        samples[i].local = with_port(h->inside, local_port(h, socket));
    }
    if (h->nat.is.filtering == NAT_FILTERING_EIF)
        test.other_address = test.other_port = NAT_HEARD;
    if (h->nat.is.filtering == NAT_FILTERING_ADF)
        test.other_port = NAT_HEARD;
    return nat_classify(samples, 10, test);
}

static void gather(struct sim *s, struct sim_host *h, struct candidates *ret_list,
                   struct addr *ret_seen)
{
    struct addr seen = sim_seen(s, h, 0, ip4("11.0.0.1", 3478));
    struct addr host = with_port(h->inside, local_port(h, 0));
    *ret_seen = seen;
    /* The newest of all: that is where a counting NAT stands. */
    if (h->nat.is.allocation == NAT_ALLOCATION_SEQUENCE)
        seen = sim_seen(s, h, SIM_SOCKETS - 1, ip4("11.0.0.1", 3478));
    (void)candidates_add(ret_list, CANDIDATE_HOST, CANDIDATE_UDP, &host);
    (void)candidates_add(ret_list, CANDIDATE_REFLEXIVE, CANDIDATE_UDP, &seen);
    struct addr mapped = with_port(h->outside, h->nat.mapped);
    if (h->nat.mapped != 0)
        (void)candidates_add(ret_list, CANDIDATE_MAPPED, CANDIDATE_UDP, &mapped);
}

static void machine_new(struct sim *s, struct sim_host *h, struct punch_config *c)
{
    c->mac = sim_mac;
    c->attempt = 0x1122334455667788;
    c->may_guess = true;
    c->again = s->again;
    c->hint = s->hint;
    c->seed = (uint64_t)sim_random(s, 1u << 30) << 32 | sim_random(s, 1u << 30);
    memset(c->own_key, c->caller ? 'a' : 'b', PUNCH_KEY);
    memset(c->peer_key, c->caller ? 'b' : 'a', PUNCH_KEY);
    punch_free(h->machine);
    h->machine = punch_new(c);
    if (!h->machine)
        abort();
    h->proven = h->done = h->failed = false;
}

void sim_introduce(struct sim *s, uint64_t late_us)
{
    struct punch_config a = {.caller = true, .start_us = s->now_us + s->introduced_us};
    struct punch_config b = {.start_us = s->now_us + s->introduced_us + late_us};
    a.own = sim_classify(s, &s->a);
    b.own = sim_classify(s, &s->b);
    gather(s, &s->a, &a.local, &b.peer_seen);
    gather(s, &s->b, &b.local, &a.peer_seen);
    a.remote = b.local;
    b.remote = a.local;
    a.peer = nat_from_wire(b.own.mapping, b.own.allocation, b.own.delta, &a.peer_seen);
    b.peer = nat_from_wire(a.own.mapping, a.own.allocation, a.own.delta, &b.peer_seen);
    a.peer.filtering = b.own.filtering;
    b.peer.filtering = a.own.filtering;
    machine_new(s, &s->a, &a);
    machine_new(s, &s->b, &b);
}

void sim_again(struct sim *s, uint64_t late_us)
{
    for (struct sim_host *h = &s->a; h; h = h == &s->a ? &s->b : NULL) {
        memset(h->ports, 0, sizeof h->ports);
        h->sent = h->opened = 0;
    }
    s->packet_count = 0;
    s->again = true;
    sim_introduce(s, late_us);
}

void sim_rebind(struct sim *s)
{
    for (struct sim_host *h = &s->a; h; h = h == &s->a ? &s->b : NULL)
        h->nat.mapping_count = h->nat.permitted_count = h->nat.taken_count = 0;
}

static void fly(struct sim *s, struct addr from, const struct punch_action *a)
{
    unsigned copies = sim_random(s, 100) < s->loss ? 0 : 1;
    copies += sim_random(s, 100) < s->doubled ? 1 : 0;
    for (unsigned i = 0; i < copies; i++) {
        if (s->packet_count == SIM_PACKETS)
            abort();
        struct sim_packet *p = &s->packets[s->packet_count++];
        *p = (struct sim_packet){.from = from, .to = a->to, .order = s->order++, .ttl = a->ttl};
        p->due_us = s->now_us + s->delay_us;
        if (s->jitter_us > 0)
            p->due_us += sim_random(s, (uint32_t)s->jitter_us);
        memcpy(p->bytes, a->bytes, PROBE_SIZE);
    }
}

static void send_out(struct sim *s, struct sim_host *h, const struct punch_action *a)
{
    if (h->sent < 8192)
        h->sent_at_us[h->sent] = s->now_us;
    h->sent++;
    s->victim_packets += candidate_same_ip(&a->to, &s->victim);
    uint16_t local = local_port(h, a->socket);
    bool inner = !candidate_is_public(&a->to);
    if (inner && s->same_lan)
        return fly(s, with_port(h->inside, local), a);
    if (a->ttl > 0 && a->ttl <= h->nat.depth)
        return;
    struct addr from = translate_out(s, h, local, a->to);
    if (!inner && (a->ttl == 0 || a->ttl >= s->hops))
        fly(s, from, a);
}

static void act(struct sim *s, struct sim_host *h, const struct punch_action *a)
{
    switch (a->type) {
    case PUNCH_SEND:
        return send_out(s, h, a);
    case PUNCH_OPEN:
        h->opened += a->count;
        return;
    case PUNCH_PROVEN:
        if (!h->proven)
            h->proven_us = s->now_us;
        h->proven = true;
        h->path = a->path;
        return;
    case PUNCH_DONE:
        h->done = true;
        return;
    case PUNCH_FAILED:
        h->failed = true;
        h->reason = a->reason;
        return;
    }
}

static void arrive(struct sim *s, struct sim_packet p)
{
    for (struct sim_host *h = &s->a; h; h = h == &s->a ? &s->b : NULL) {
        uint16_t local = 0;
        if (candidate_same_ip(&h->outside, &p.to))
            local = translate_in(h, &p.to, &p.from);
        if (p.ttl > 0 && p.ttl <= s->hops)
            local = 0; /* that was the last router */
        if (s->same_lan && candidate_same_ip(&h->inside, &p.to))
            local = addr_port(&p.to);
        for (unsigned i = 0; local != 0 && i < SIM_SOCKETS; i++)
            if (h->ports[i] == local)
                (void)!punch_input(h->machine, i, &p.from,
                                   (struct str){(const char *)p.bytes, PROBE_SIZE}, s->now_us);
    }
}

static size_t first_packet(const struct sim *s)
{
    size_t first = 0;
    for (size_t i = 1; i < s->packet_count; i++) {
        const struct sim_packet *p = &s->packets[i], *q = &s->packets[first];
        if (p->due_us < q->due_us || (p->due_us == q->due_us && p->order < q->order))
            first = i;
    }
    return first;
}

static bool is_over(const struct sim_host *h)
{
    return h->done || h->failed;
}

void sim_run(struct sim *s, uint64_t until_us)
{
    while (s->now_us < until_us) {
        uint64_t next_us = until_us;
        for (struct sim_host *h = &s->a; h; h = h == &s->a ? &s->b : NULL) {
            struct punch_action a;
            while (punch_poll(h->machine, s->now_us, &a))
                act(s, h, &a);
            uint64_t at_us = punch_next(h->machine);
            if (at_us < next_us)
                next_us = at_us > s->now_us ? at_us : s->now_us + 1;
        }
        if (is_over(&s->a) && is_over(&s->b))
            return;
        size_t first = first_packet(s);
        if (s->packet_count > 0 && s->packets[first].due_us <= next_us) {
            struct sim_packet p = s->packets[first];
            s->packets[first] = s->packets[--s->packet_count];
            s->now_us = p.due_us > s->now_us ? p.due_us : s->now_us;
            arrive(s, p);
        } else {
            s->now_us = next_us;
        }
    }
}
