/* SipHash-2-4 of 128 bits over what a cookie, token or word stands for: a pseudorandom function for
 * short messages, a tenth of the time of BLAKE2b, which makes the keys. No cookie or token is good
 * for longer than four minutes. Addresses, keys and the time come in; the caller owns the struct.
 */
#include "rendezvous/secrets.h"

#include <sodium.h>

#include "base/rd.h"
#include "base/wr.h"

/* No time comes to this one. */
#define NO_PERIOD UINT64_MAX

enum what { COOKIE = 1, TOKEN, WORD };

static void derive(const struct secrets *s, uint64_t period, uint8_t ret[32])
{
    uint8_t bytes[8];
    struct wr w = wr_init(bytes, sizeof bytes);
    wr_u64(&w, period);
    (void)crypto_generichash(ret, 32, bytes, sizeof bytes, s->master, sizeof s->master);
}

void secrets_init(struct secrets *s, const uint8_t master[SECRETS_MASTER])
{
    *s = (struct secrets){.period = NO_PERIOD};
    memcpy(s->master, master, SECRETS_MASTER);
    derive(s, NO_PERIOD, s->word_key);
}

void secrets_turn(struct secrets *s, uint64_t now_ms)
{
    /* Beyond zero, so that the first period has one before it. */
    uint64_t period = now_ms / (SECRETS_PERIOD_S * 1000) + 1;
    if (period == s->period)
        return;
    derive(s, period, s->keys[0]);
    derive(s, period - 1, s->keys[1]);
    s->period = period;
}

_Static_assert(crypto_shorthash_siphashx24_BYTES == RDVMSG_COOKIE, "the whole of it is shown");
_Static_assert(crypto_shorthash_siphashx24_KEYBYTES <= 32, "the key's first half");

static void mac(const uint8_t key[32], enum what what, const uint8_t *peer, const struct addr *a,
                uint8_t ret[RDVMSG_COOKIE])
{
    uint8_t bytes[64];
    struct wr w = wr_init(bytes, sizeof bytes);
    wr_u8(&w, (uint8_t)what);
    wr_u8(&w, (uint8_t)a->sa.sa_family);
    wr_u16(&w, addr_port(a));
    if (a->sa.sa_family == AF_INET6)
        wr_bytes(&w, &a->v6.sin6_addr, 16);
    else
        wr_bytes(&w, &a->v4.sin_addr, 4);
    if (peer)
        wr_bytes(&w, peer, RDVMSG_KEY);
    (void)crypto_shorthash_siphashx24(ret, bytes, w.used, key);
}

/* Under either key. ret_right is what this period's key makes. */
static bool good(const struct secrets *s, enum what what, const uint8_t *peer, const struct addr *a,
                 const uint8_t shown[RDVMSG_COOKIE], uint8_t ret_right[RDVMSG_COOKIE])
{
    uint8_t last[RDVMSG_COOKIE];
    mac(s->keys[0], what, peer, a, ret_right);
    if (sodium_memcmp(ret_right, shown, RDVMSG_COOKIE) == 0)
        return true;
    mac(s->keys[1], what, peer, a, last);
    return sodium_memcmp(last, shown, RDVMSG_COOKIE) == 0;
}

void secrets_cookie(const struct secrets *s, const struct addr *a, uint8_t ret[RDVMSG_COOKIE])
{
    mac(s->keys[0], COOKIE, NULL, a, ret);
}

bool secrets_cookie_good(const struct secrets *s, const struct addr *a,
                         const uint8_t cookie[RDVMSG_COOKIE])
{
    uint8_t right[RDVMSG_COOKIE];
    return !sodium_is_zero(cookie, RDVMSG_COOKIE) && good(s, COOKIE, NULL, a, cookie, right);
}

void secrets_token(const struct secrets *s, const uint8_t key[RDVMSG_KEY], const struct addr *a,
                   uint8_t ret[RDVMSG_COOKIE])
{
    mac(s->keys[0], TOKEN, key, a, ret);
}

bool secrets_token_good(const struct secrets *s, const uint8_t key[RDVMSG_KEY],
                        const struct addr *a, const uint8_t token[RDVMSG_COOKIE],
                        uint8_t ret_next[RDVMSG_COOKIE])
{
    return good(s, TOKEN, key, a, token, ret_next);
}

uint64_t secrets_word(const struct secrets *s, const uint8_t key[RDVMSG_KEY], const struct addr *a)
{
    uint8_t hash[RDVMSG_COOKIE];
    mac(s->word_key, WORD, key, a, hash);
    struct rd r = rd_init(hash, sizeof hash);
    return rd_u64(&r);
}
