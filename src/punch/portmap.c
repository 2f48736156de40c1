/* The machine of portmap.h: one question at a time, asked again with growing pauses, and anew when
 * half of the lifetime is over. It owns nothing. */
#include "punch/portmap.h"

#include "punch/candidate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define RETRY_US (600 * 1000000ull) /* a router that did not answer may be another one by then */
#define LEAST_S  60

static const char *const state_words[PORTMAP_STATE_END] = {"asking", "mapped", "useless", "refused",
                                                           "silent"};

const char *portmap_state_word(enum portmap_state state)
{
    return state < PORTMAP_STATE_END ? state_words[state] : "unknown";
}

static void ask_anew(struct portmap *m, enum pcp_version version, uint64_t now_us)
{
    m->version = version;
    m->tries = 0;
    m->due_us = now_us;
    m->address_known = m->mapping_known = false;
}

void portmap_init(struct portmap *m, const struct portmap_config *config, uint64_t now_us)
{
    *m = (struct portmap){.c = *config};
    ask_anew(m, PCP_PCP, now_us);
}

static struct pcp_map request(const struct portmap *m)
{
    struct pcp_map map = {.protocol = m->c.protocol, .client = m->c.client};
    map.internal_port = addr_port(&m->c.client);
    map.external_port = m->external.len ? addr_port(&m->external) : map.internal_port;
    map.lifetime_s = m->closing ? 0 : PORTMAP_LIFETIME_S;
    /* RFC 6887 11.2: the same nonce each time, or the router takes us for somebody else. */
    for (size_t i = 0; i < PCP_NONCE; i++)
        map.nonce[i] = (uint8_t)(m->c.seed >> 8 * (i % 8)) ^ (uint8_t)(i < 8 ? 0 : m->c.protocol);
    return map;
}

static int encode(const struct portmap *m, uint8_t bytes[PCP_REQUEST_MAX])
{
    struct pcp_map map = request(m);
    if (m->version == PCP_PCP)
        return pcp_map_encode(&map, bytes, PCP_REQUEST_MAX);
    if (!m->address_known && !m->closing)
        return natpmp_address_encode(bytes, PCP_REQUEST_MAX);
    return natpmp_map_encode(&map, bytes, PCP_REQUEST_MAX);
}

static void give_up(struct portmap *m, enum portmap_state state, uint64_t now_us)
{
    m->state = state;
    m->external = (struct addr){.len = 0};
    ask_anew(m, PCP_PCP, now_us + RETRY_US);
}

/* No address is the same as none. */
static bool same_address(const struct addr *a, const struct addr *b)
{
    return a->len == 0 || b->len == 0 ? a->len == b->len : addr_equal(a, b);
}

static bool tell(struct portmap *m, struct portmap_action *ret_action)
{
    bool same = m->state == m->told && same_address(&m->external, &m->told_external);
    if (same || m->state == PORTMAP_ASKING)
        return false;
    m->told = m->state;
    m->told_external = m->external;
    *ret_action = (struct portmap_action){.changed = true};
    return true;
}

bool portmap_poll(struct portmap *m, uint64_t now_us, struct portmap_action *ret_action)
{
    if (now_us >= m->due_us && m->tries == PORTMAP_TRIES && m->version == PCP_NATPMP)
        give_up(m, PORTMAP_SILENT, now_us);
    /* Two unanswered questions: perhaps a router that passes over what it does not know. */
    if (now_us >= m->due_us && m->tries == 2 && m->version == PCP_PCP)
        ask_anew(m, PCP_NATPMP, now_us);
    if (tell(m, ret_action))
        return true;
    if (now_us < m->due_us)
        return false;
    *ret_action = (struct portmap_action){.changed = false};
    int n = encode(m, ret_action->bytes);
    m->due_us = m->closing ? UINT64_MAX : now_us + ((uint64_t)PORTMAP_FIRST_US << m->tries);
    m->tries++;
    ret_action->n = n > 0 ? (size_t)n : 0;
    return n > 0;
}

uint64_t portmap_next(const struct portmap *m)
{
    return m->due_us;
}

static void mapped(struct portmap *m, uint32_t lifetime_s, uint64_t now_us)
{
    uint64_t half_s = (lifetime_s < LEAST_S ? LEAST_S : lifetime_s) / 2;
    m->state = candidate_is_public(&m->external) ? PORTMAP_MAPPED : PORTMAP_USELESS;
    ask_anew(m, m->version, now_us + half_s * 1000000);
}

static void on_natpmp(struct portmap *m, const struct pcp_answer *a, uint64_t now_us)
{
    uint16_t port = m->external.len ? addr_port(&m->external) : 0;
    if (a->kind == PCP_EXTERNAL_ADDRESS && !m->address_known) {
        m->external = a->external;
        addr_set_port(&m->external, port);
        m->address_known = true;
        m->tries = 0;
        m->due_us = now_us;
        return;
    }
    if (a->kind != PCP_MAPPED || !m->address_known)
        return;
    addr_set_port(&m->external, addr_port(&a->external));
    mapped(m, a->lifetime_s, now_us);
}

static bool is_ours(const struct portmap *m, const struct pcp_answer *a)
{
    struct pcp_map map = request(m);
    if (a->kind == PCP_EXTERNAL_ADDRESS || a->result == PCP_UNSUPPORTED_VERSION ||
        (a->kind == PCP_REFUSED && a->version == PCP_NATPMP))
        return true;
    if (a->version == PCP_PCP && memcmp(a->nonce, map.nonce, PCP_NONCE) != 0)
        return false;
    return a->protocol == map.protocol && a->internal_port == map.internal_port;
}

int portmap_input(struct portmap *m, struct str bytes, uint64_t now_us)
{
    struct pcp_answer a;
    int r = pcp_decode(&a, bytes.p, bytes.n);
    if (r < 0)
        return r;
    /* What was not asked just now is not believed. */
    if (m->closing || m->tries == 0 || !is_ours(m, &a))
        return -ENOENT;
    if (m->version == PCP_PCP && a.result == PCP_UNSUPPORTED_VERSION) {
        ask_anew(m, PCP_NATPMP, now_us); /* RFC 6887 appendix A */
        return 0;
    }
    if (a.version != m->version)
        return -ENOENT;
    if (a.kind == PCP_REFUSED) {
        give_up(m, PORTMAP_REFUSED, now_us);
    } else if (a.version == PCP_NATPMP) {
        on_natpmp(m, &a, now_us);
    } else {
        m->external = a.external;
        mapped(m, a.lifetime_s, now_us);
    }
    return 0;
}

void portmap_renew(struct portmap *m, uint64_t now_us)
{
    if (m->tries == 0 && !m->closing)
        ask_anew(m, m->version, now_us);
}

void portmap_close(struct portmap *m, uint64_t now_us)
{
    bool has = m->state == PORTMAP_MAPPED || m->state == PORTMAP_USELESS;
    m->closing = true;
    m->due_us = has ? now_us : UINT64_MAX;
    m->tries = 0;
}

/* Iface Destination Gateway Flags RefCnt Use Metric Mask ..., numbers in the order of the machine.
 */
static bool default_route(struct str line, struct addr *ret_gateway)
{
    char text[256];
    unsigned destination, gateway, flags, mask;
    (void)snprintf(text, sizeof text, STR_FMT, STR_ARG(line));
    if (sscanf(text, "%*s %x %x %x %*d %*d %*d %x", &destination, &gateway, &flags, &mask) != 4)
        return false;
    uint32_t ip = gateway;
    *ret_gateway = addr_make(AF_INET, &ip, PCP_PORT);
    return destination == 0 && mask == 0 && gateway != 0;
}

int portmap_gateway(struct str routes, struct addr *ret_gateway)
{
    struct addr gateway;
    while (routes.n > 0) {
        const char *end = memchr(routes.p, '\n', routes.n);
        size_t n = end ? (size_t)(end - routes.p) : routes.n;
        if (default_route((struct str){routes.p, n}, &gateway)) {
            *ret_gateway = gateway;
            return 0;
        }
        routes = str_skip(routes, n + 1);
    }
    return -ENOENT;
}
