/* Encodes requests to a router and decodes its answers, PCP and NAT-PMP. Bytes in, values out. */
#include "wire/pcp.h"

#include "base/rd.h"
#include "base/wr.h"

#include <errno.h>

enum { OP_MAP = 1, NATPMP_ADDRESS = 0, NATPMP_UDP = 1, NATPMP_TCP = 2, ANSWER = 128 };

/* RFC 6887 5: an IPv4 address stands as ::ffff:a.b.c.d. */
static void ip_encode(struct wr *w, const struct addr *a)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, any[16];
    if (a->sa.sa_family == AF_INET6) {
        wr_bytes(w, &a->v6.sin6_addr, 16);
    } else if (a->sa.sa_family == AF_INET) {
        wr_bytes(w, mapped, sizeof mapped);
        wr_bytes(w, &a->v4.sin_addr, 4);
    } else {
        wr_bytes(w, any, sizeof any);
    }
}

int pcp_map_encode(const struct pcp_map *m, void *buf, size_t size)
{
    static const uint8_t any4[4];
    struct addr wished =
        m->client.sa.sa_family == AF_INET ? addr_make(AF_INET, any4, 0) : (struct addr){.len = 0};
    struct wr w = wr_init(buf, size);
    wr_u8(&w, PCP_PCP);
    wr_u8(&w, OP_MAP);
    wr_u16(&w, 0);
    wr_u32(&w, m->lifetime_s);
    ip_encode(&w, &m->client);
    wr_bytes(&w, m->nonce, PCP_NONCE);
    wr_u8(&w, m->protocol);
    wr_be(&w, 0, 3);
    wr_u16(&w, m->internal_port);
    wr_u16(&w, m->external_port);
    ip_encode(&w, &wished);
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

int natpmp_map_encode(const struct pcp_map *m, void *buf, size_t size)
{
    struct wr w = wr_init(buf, size);
    wr_u8(&w, PCP_NATPMP);
    wr_u8(&w, m->protocol == IPPROTO_TCP ? NATPMP_TCP : NATPMP_UDP);
    wr_u16(&w, 0);
    wr_u16(&w, m->internal_port);
    wr_u16(&w, m->external_port);
    wr_u32(&w, m->lifetime_s);
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

int natpmp_address_encode(void *buf, size_t size)
{
    struct wr w = wr_init(buf, size);
    wr_u8(&w, PCP_NATPMP);
    wr_u8(&w, NATPMP_ADDRESS);
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

static int natpmp_decode(struct pcp_answer *a, struct rd *r, uint8_t op)
{
    a->result = rd_u16(r);
    a->epoch_s = rd_u32(r);
    if (!rd_ok(r) || op < ANSWER || op > ANSWER + NATPMP_TCP)
        return -EBADMSG;
    if (a->result != 0) {
        a->kind = PCP_REFUSED;
        return 0;
    }
    if (op == ANSWER + NATPMP_ADDRESS) {
        struct str ip = rd_bytes(r, 4);
        a->kind = PCP_EXTERNAL_ADDRESS;
        a->external = rd_ok(r) ? addr_make(AF_INET, ip.p, 0) : (struct addr){.len = 0};
        return rd_ok(r) ? 0 : -EBADMSG;
    }
    static const uint8_t any[4];
    a->kind = PCP_MAPPED;
    a->protocol = op == ANSWER + NATPMP_TCP ? IPPROTO_TCP : IPPROTO_UDP;
    a->internal_port = rd_u16(r);
    a->external = addr_make(AF_INET, any, rd_u16(r));
    a->lifetime_s = rd_u32(r);
    return rd_ok(r) ? 0 : -EBADMSG;
}

static int map_decode(struct pcp_answer *a, struct rd *r, uint8_t op)
{
    (void)rd_u8(r);
    a->result = rd_u8(r);
    a->lifetime_s = rd_u32(r);
    a->epoch_s = rd_u32(r);
    (void)rd_bytes(r, 12);
    if (!rd_ok(r) || op != ANSWER + OP_MAP)
        return -EBADMSG;
    a->kind = a->result == 0 ? PCP_MAPPED : PCP_REFUSED;
    /* RFC 6887 8.3: an answer to a version that the router does not know has no more than a head.
     */
    if (a->result == PCP_UNSUPPORTED_VERSION)
        return 0;
    struct str nonce = rd_bytes(r, PCP_NONCE);
    a->protocol = rd_u8(r);
    (void)rd_bytes(r, 3);
    a->internal_port = rd_u16(r);
    uint16_t port = rd_u16(r);
    struct str ip = rd_bytes(r, 16);
    if (!rd_ok(r))
        return -EBADMSG;
    memcpy(a->nonce, nonce.p, PCP_NONCE);
    struct addr raw = addr_make(AF_INET6, ip.p, port);
    a->external = addr_unmap(&raw);
    return 0;
}

int pcp_decode(struct pcp_answer *ret_answer, const void *buf, size_t n)
{
    struct rd r = rd_init(buf, n);
    struct pcp_answer a = {.external = {.len = 0}};
    uint8_t version = rd_u8(&r), op = rd_u8(&r);
    if (!rd_ok(&r) || n > PCP_ANSWER_MAX || (version != PCP_NATPMP && version != PCP_PCP))
        return -EBADMSG;
    a.version = (enum pcp_version)version;
    int result = version == PCP_PCP ? map_decode(&a, &r, op) : natpmp_decode(&a, &r, op);
    if (result == 0)
        *ret_answer = a;
    return result;
}
