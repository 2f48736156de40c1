/* SipHash-2-4-128, as the paper and its reference describe it. A key and bytes come in, a tag goes
 * out. */
#include "base/siphash.h"

struct sip {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotl(uint64_t x, unsigned bits)
{
    return x << bits | x >> (64 - bits);
}

static uint64_t le64(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static void sip_rounds(struct sip *s, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        s->v0 += s->v1;
        s->v1 = rotl(s->v1, 13) ^ s->v0;
        s->v0 = rotl(s->v0, 32);
        s->v2 += s->v3;
        s->v3 = rotl(s->v3, 16) ^ s->v2;
        s->v0 += s->v3;
        s->v3 = rotl(s->v3, 21) ^ s->v0;
        s->v2 += s->v1;
        s->v1 = rotl(s->v1, 17) ^ s->v2;
        s->v2 = rotl(s->v2, 32);
    }
}

static void sip_word(struct sip *s, uint64_t m)
{
    s->v3 ^= m;
    sip_rounds(s, 2);
    s->v0 ^= m;
}

static void sip_out(struct sip *s, uint8_t *out)
{
    sip_rounds(s, 4);
    uint64_t v = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
    for (size_t i = 0; i < 8; i++)
        out[i] = (uint8_t)(v >> 8 * i);
}

void siphash128(const uint8_t key[SIPHASH_KEY], const void *bytes, size_t n,
                uint8_t ret_tag[SIPHASH_TAG])
{
    const uint8_t *p = bytes;
    uint64_t k0 = le64(key, 8), k1 = le64(key + 8, 8);
    struct sip s = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d ^ 0xee,
                    k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573};
    size_t at = 0;
    for (; n - at >= 8; at += 8)
        sip_word(&s, le64(p + at, 8));
    sip_word(&s, le64(p + at, n - at) | (uint64_t)n << 56);
    s.v2 ^= 0xee;
    sip_out(&s, ret_tag);
    s.v1 ^= 0xdd;
    sip_out(&s, ret_tag + 8);
}
