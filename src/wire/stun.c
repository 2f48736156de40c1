/* Encodes and decodes STUN messages. Bytes in, values out; nothing is kept. Requests with
 * credentials are not for us: MESSAGE-INTEGRITY and USERNAME are passed over, because a Binding
 * request to a public server needs none (RFC 8489 14). */
#include "wire/stun.h"

#include "base/rd.h"
#include "base/wr.h"

enum {
    A_MAPPED = 0x0001,
    A_CHANGE = 0x0003,
    A_USERNAME = 0x0006,
    A_INTEGRITY = 0x0008,
    A_ERROR = 0x0009,
    A_UNKNOWN = 0x000a,
    A_INTEGRITY256 = 0x001c,
    A_XOR_MAPPED = 0x0020,
    A_PADDING = 0x0026,
    A_RESPONSE_PORT = 0x0027,
    A_SOFTWARE = 0x8022,
    A_FINGERPRINT = 0x8028,
    A_ORIGIN = 0x802b,
    A_OTHER = 0x802c,
};

/* RFC 8489 5: attributes from here on may be passed over. */
#define OPTIONAL_FROM   0x8000
#define FINGERPRINT_XOR 0x5354554eu

/* The CRC of ISO 3309 (zlib's), bit by bit: fingerprints are rare on our port. */
static uint32_t crc32(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

bool stun_looks(const void *buf, size_t n)
{
    struct rd r = rd_init(buf, n);
    uint16_t type = rd_u16(&r), length = rd_u16(&r);
    /* RFC 7983: the first byte is 0 to 3. */
    return n >= STUN_HEAD && rd_ok(&r) && type < 0x0400 && length % 4 == 0 &&
           length + (size_t)STUN_HEAD == n;
}

/* The address in an attribute, XORed with the mask where it is such a one. */
static int addr_decode(struct str value, const uint8_t mask[16], struct addr *ret_addr)
{
    struct rd r = rd_init(value.p, value.n);
    (void)rd_u8(&r);
    uint8_t family = rd_u8(&r), ip[16];
    uint16_t port = rd_u16(&r);
    size_t n = family == 2 ? 16 : 4;
    struct str bytes = rd_bytes(&r, n);
    if (!rd_ok(&r) || r.left > 0 || (family != 1 && family != 2))
        return -EBADMSG;
    for (size_t i = 0; i < n; i++)
        ip[i] = (uint8_t)bytes.p[i] ^ mask[i];
    port ^= (uint16_t)(mask[0] << 8 | mask[1]);
    *ret_addr = addr_make(n == 16 ? AF_INET6 : AF_INET, ip, port);
    return 0;
}

/* RFC 8489 14.2: the magic cookie and the transaction. */
static void mask_make(const struct stun *s, uint8_t mask[16])
{
    struct wr w = wr_init(mask, 16);
    wr_u32(&w, STUN_COOKIE);
    wr_bytes(&w, s->transaction, sizeof s->transaction);
}

static int error_decode(struct stun *s, struct str value)
{
    struct rd r = rd_init(value.p, value.n);
    uint32_t v = rd_u32(&r);
    uint32_t hundreds = v >> 8 & 7, rest = v & 0xff;
    if (!rd_ok(&r) || hundreds < 3 || hundreds > 6 || rest > 99)
        return -EBADMSG;
    s->error = (uint16_t)(hundreds * 100 + rest);
    return 0;
}

static void unknown_add(struct stun *s, uint16_t type)
{
    if (s->unknown_count < STUN_UNKNOWN_MAX)
        s->unknown[s->unknown_count++] = type;
}

static int attribute_decode(struct stun *s, uint16_t type, struct str value)
{
    static const uint8_t zeros[16];
    struct rd r = rd_init(value.p, value.n);
    uint8_t mask[16];
    switch (type) {
    case A_XOR_MAPPED:
        mask_make(s, mask);
        return addr_decode(value, mask, &s->mapped);
    case A_MAPPED:
        return s->mapped.len ? 0 : addr_decode(value, zeros, &s->mapped);
    case A_ORIGIN:
        return addr_decode(value, zeros, &s->origin);
    case A_OTHER:
        return addr_decode(value, zeros, &s->other);
    case A_CHANGE:
        s->change = rd_u32(&r);
        s->has_change = true;
        return rd_ok(&r) && r.left == 0 ? 0 : -EBADMSG;
    case A_RESPONSE_PORT:
        /* RFC 5780 7.5: two bytes, which the length may or may not fill up to four. */
        s->response_port = rd_u16(&r);
        s->has_response_port = true;
        return rd_ok(&r) && (r.left == 0 || r.left == 2) ? 0 : -EBADMSG;
    case A_ERROR:
        return error_decode(s, value);
    case A_UNKNOWN:
    case A_USERNAME:
    case A_INTEGRITY:
    case A_INTEGRITY256:
    case A_PADDING:
        return 0;
    default:
        if (type < OPTIONAL_FROM)
            unknown_add(s, type);
        return 0;
    }
}

/* RFC 8489 14.7: the last attribute, over everything before it. */
static int fingerprint_check(struct stun *s, const uint8_t *buf, size_t before, struct str value,
                             size_t left)
{
    struct rd r = rd_init(value.p, value.n);
    uint32_t got = rd_u32(&r);
    if (!rd_ok(&r) || r.left > 0 || left > 0 || got != (crc32(buf, before) ^ FINGERPRINT_XOR))
        return -EBADMSG;
    s->has_fingerprint = true;
    return 0;
}

static int attributes_decode(struct stun *s, const uint8_t *buf, struct rd *r)
{
    while (r->left > 0) {
        size_t before = (size_t)(r->p - buf);
        uint16_t type = rd_u16(r);
        struct str value = rd_vec(r, 2);
        (void)rd_bytes(r, (4 - value.n % 4) % 4);
        if (!rd_ok(r))
            return -EBADMSG;
        int e = type == A_FINGERPRINT ? fingerprint_check(s, buf, before, value, r->left)
                                      : attribute_decode(s, type, value);
        if (e < 0)
            return e;
    }
    return 0;
}

int stun_decode(struct stun *ret_stun, const void *buf, size_t n)
{
    struct stun s = {0};
    if (!stun_looks(buf, n))
        return -EBADMSG;
    struct rd r = rd_init(buf, n);
    s.type = (enum stun_type)rd_u16(&r);
    (void)rd_u16(&r);
    uint32_t cookie = rd_u32(&r);
    struct str transaction = rd_bytes(&r, STUN_TRANSACTION);
    if (!rd_ok(&r) || (s.type != STUN_REQUEST && s.type != STUN_INDICATION &&
                       s.type != STUN_SUCCESS && s.type != STUN_FAILURE))
        return -EBADMSG;
    memcpy(s.transaction, transaction.p, STUN_TRANSACTION);
    s.classic = cookie != STUN_COOKIE;
    s.old_cookie = s.classic ? cookie : 0;
    int e = attributes_decode(&s, buf, &r);
    if (e == 0)
        *ret_stun = s;
    return e;
}

static void addr_encode(struct wr *w, uint16_t type, const struct addr *a, const uint8_t mask[16])
{
    bool v6 = a->sa.sa_family == AF_INET6;
    size_t n = v6 ? 16 : 4;
    uint8_t ip[16];
    memcpy(ip, v6 ? (const void *)&a->v6.sin6_addr : (const void *)&a->v4.sin_addr, n);
    for (size_t i = 0; i < n; i++)
        ip[i] ^= mask[i];
    wr_u16(w, type);
    wr_u16(w, (uint16_t)(4 + n));
    wr_u8(w, 0);
    wr_u8(w, v6 ? 2 : 1);
    wr_u16(w, (uint16_t)(addr_port(a) ^ (mask[0] << 8 | mask[1])));
    wr_bytes(w, ip, n);
}

static void error_encode(struct wr *w, const struct stun *s)
{
    wr_u16(w, A_ERROR);
    wr_u16(w, 4); /* without a phrase: it would be for nobody and makes the answer longer */
    wr_u32(w, (uint32_t)(s->error / 100 << 8 | s->error % 100));
    if (s->unknown_count == 0)
        return;
    wr_u16(w, A_UNKNOWN);
    wr_u16(w, (uint16_t)(2 * s->unknown_count));
    for (size_t i = 0; i < s->unknown_count; i++)
        wr_u16(w, s->unknown[i]);
    if (s->unknown_count % 2)
        wr_u16(w, 0);
}

static void attributes_encode(struct wr *w, const struct stun *s)
{
    static const uint8_t zeros[16];
    uint8_t mask[16];
    mask_make(s, mask);
    if (s->mapped.len)
        addr_encode(w, s->classic ? A_MAPPED : A_XOR_MAPPED, &s->mapped, s->classic ? zeros : mask);
    if (s->origin.len)
        addr_encode(w, A_ORIGIN, &s->origin, zeros);
    if (s->other.len)
        addr_encode(w, A_OTHER, &s->other, zeros);
    if (s->has_change) {
        wr_u16(w, A_CHANGE);
        wr_u16(w, 4);
        wr_u32(w, s->change);
    }
    if (s->has_response_port) {
        wr_u16(w, A_RESPONSE_PORT);
        wr_u16(w, 4);
        wr_u16(w, s->response_port);
        wr_u16(w, 0);
    }
    if (s->type == STUN_FAILURE)
        error_encode(w, s);
}

/* RFC 8489 14.14: at most 128 characters, which mean nothing to the other side. */
static void fill_encode(struct wr *w, size_t pad_to)
{
    size_t missing = pad_to > w->used ? pad_to - w->used : 0;
    size_t n = missing > 4 ? (missing - 4 + 3) / 4 * 4 : 0;
    if (missing == 0)
        return;
    wr_u16(w, A_SOFTWARE);
    wr_u16(w, (uint16_t)n);
    for (size_t i = 0; i < n; i++)
        wr_u8(w, ' ');
}

/* The length stands in the head, so it is written again when it is known. */
static void length_encode(const struct wr *w, size_t n)
{
    struct wr head = wr_init(w->p + 2, 2);
    wr_u16(&head, (uint16_t)n);
}

int stun_encode(const struct stun *s, void *buf, size_t size)
{
    struct wr w = wr_init(buf, size < STUN_MAX ? size : STUN_MAX);
    wr_u16(&w, (uint16_t)s->type);
    wr_u16(&w, 0);
    wr_u32(&w, s->classic ? s->old_cookie : STUN_COOKIE);
    wr_bytes(&w, s->transaction, sizeof s->transaction);
    attributes_encode(&w, s);
    fill_encode(&w, s->pad_to < STUN_FILL_MAX ? s->pad_to : STUN_FILL_MAX);
    if (!wr_ok(&w))
        return -EMSGSIZE;
    if (s->has_fingerprint) {
        /* RFC 8489 14.7: the length counts the fingerprint before it is computed. */
        length_encode(&w, w.used - STUN_HEAD + 8);
        uint32_t crc = crc32(w.p, w.used) ^ FINGERPRINT_XOR;
        wr_u16(&w, A_FINGERPRINT);
        wr_u16(&w, 4);
        wr_u32(&w, crc);
    }
    if (!wr_ok(&w))
        return -EMSGSIZE;
    length_encode(&w, w.used - STUN_HEAD);
    return (int)w.used;
}
