/* The check machine, driven by bytes: the first few are what an introduction told, the others are
 * probes, rightly signed or not, lost sockets and time that passes. It lives on, and what it sends
 * stays within its bounds. */
#include <stdlib.h>

#include "base/rd.h"
#include "punch/punch.h"

#define SENT_MAX (2000 + GUESS_PROBES_MAX)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Easily made: whoever fuzzes has no keys. */
static void mac(const uint8_t key[PUNCH_KEY], const void *bytes, size_t n,
                uint8_t ret_tag[PROBE_TAG])
{
    (void)bytes, (void)n;
    memcpy(ret_tag, key, PROBE_TAG);
}

static struct addr address(struct rd *rd)
{
    uint8_t ip[16] = {0x20, 1, 0xd, 0xb8};
    uint8_t how = rd_u8(rd);
    ip[15] = how & 15;
    if (how & 128)
        return addr_make(AF_INET6, ip, rd_u16(rd));
    const uint8_t ip4[4] = {how & 64 ? 192 : 11, 168, 0, how & 15};
    return addr_make(AF_INET, ip4, rd_u16(rd));
}

static void config_read(struct punch_config *c, struct rd *rd)
{
    uint8_t flags = rd_u8(rd), hint = rd_u8(rd);
    struct addr at = address(rd);
    c->caller = flags & 1;
    c->again = flags & 2;
    c->may_guess = flags & 4;
    c->peer_seen = flags & 8 ? at : (struct addr){.len = 0};
    c->hint = (enum technique)(hint % TECHNIQUE_END);
    c->mac = mac;
    c->attempt = 1;
    c->seed = rd_u32(rd);
    c->ports_spent = rd_u16(rd);
    uint8_t mapping = rd_u8(rd), allocation = rd_u8(rd);
    c->own = nat_from_wire(mapping, allocation, (int16_t)rd_u16(rd), &at);
    mapping = rd_u8(rd);
    allocation = rd_u8(rd);
    c->peer = nat_from_wire(mapping, allocation, (int16_t)rd_u16(rd), &c->peer_seen);
    c->own.filtering = (enum nat_filtering)(hint >> 6);
    for (unsigned n = rd_u8(rd) % 20; n > 0 && rd_ok(rd); n--) {
        uint8_t kind = rd_u8(rd);
        struct addr a = address(rd);
        (void)candidates_add(kind & 16 ? &c->local : &c->remote, (enum candidate_kind)(kind & 7),
                             CANDIDATE_UDP, &a);
    }
}

/* A probe of the peer's; one of three wrong in some place. */
static void probe_in(struct punch *p, const struct punch_config *c, struct rd *rd, uint64_t now_us)
{
    uint8_t bytes[PROBE_SIZE], how = rd_u8(rd);
    struct addr from = address(rd);
    struct probe probe = {how & 1 ? PROBE_PING : PROBE_PONG, !c->caller, 1, rd_u32(rd), {0}};
    if (how & 2) /* an answer to one of the first that went out */
        probe.sequence = (uint32_t)(c->seed >> 16) + probe.sequence % 64;
    if (probe_encode(&probe, bytes, sizeof bytes) != PROBE_SIZE)
        abort();
    memcpy(bytes + PROBE_SIGNED, c->own_key, PROBE_TAG);
    if (how & 4)
        bytes[rd_u8(rd) % PROBE_SIZE] ^= rd_u8(rd);
    (void)!punch_input(p, how >> 4, &from,
                       (struct str){(const char *)bytes, PROBE_SIZE - (how & 8)}, now_us);
}

static unsigned poll_all(struct punch *p, uint64_t now_us)
{
    struct punch_action a;
    unsigned pings = 0;
    while (punch_poll(p, now_us, &a))
        pings += a.type == PUNCH_SEND && a.bytes[2] == PROBE_PING;
    if (punch_next(p) <= now_us)
        abort();
    return pings;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rd rd = rd_init(data, size);
    struct punch_config c = {.start_us = 1000};
    struct punch_tried tried[8];
    config_read(&c, &rd);
    struct punch *p = punch_new(&c);
    uint64_t now_us = 1000;
    unsigned pings = 0;
    if (!p)
        return 0;
    while (rd.left > 0 && rd_ok(&rd)) {
        uint8_t what = rd_u8(&rd);
        pings += poll_all(p, now_us);
        if (what < 128)
            probe_in(p, &c, &rd, now_us);
        else if (what < 144)
            punch_lost(p, rd_u8(&rd));
        else
            now_us += (uint64_t)(what - 143) * 1000;
    }
    for (; punch_next(p) != UINT64_MAX; now_us = punch_next(p))
        pings += poll_all(p, now_us);
    if (pings > SENT_MAX || punch_tried(p, tried, 8) > 8)
        abort();
    punch_free(p);
    return 0;
}
