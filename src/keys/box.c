/* Seals by libsodium: X25519 between the two keys, and from that one key for each purpose and
 * direction, so that a box cannot be sent back to who made it or shown elsewhere. Identities and
 * bytes come in, bytes go out; nothing is kept. */
#include "keys/box.h"

#include <assert.h>
#include <sodium.h>

#define NONCE crypto_secretbox_NONCEBYTES
static_assert(NONCE + crypto_secretbox_MACBYTES == BOX_OVERHEAD, "the header says so");

static const char *const purposes[BOX_PURPOSE_COUNT] = {
    [BOX_OFFER] = "berth offer 1",
    [BOX_LAN_QUERY] = "berth lan query 1",
    [BOX_LAN_ANSWER] = "berth lan answer 1",
};

/* BLAKE2b, keyed with the X25519 secret, over purpose, NUL, sender's key and receiver's key. */
static void derive(const uint8_t shared[crypto_box_BEFORENMBYTES], const char *purpose,
                   const struct key *from, const struct key *to, uint8_t *ret_key)
{
    crypto_generichash_state h;
    (void)crypto_generichash_init(&h, shared, crypto_box_BEFORENMBYTES, crypto_secretbox_KEYBYTES);
    (void)crypto_generichash_update(&h, (const uint8_t *)purpose, strlen(purpose) + 1);
    (void)crypto_generichash_update(&h, from->b, sizeof from->b);
    (void)crypto_generichash_update(&h, to->b, sizeof to->b);
    (void)crypto_generichash_final(&h, ret_key, crypto_secretbox_KEYBYTES);
    sodium_memzero(&h, sizeof h);
}

/* What the identity and the other key have in common. -EINVAL for a key of small order, or none. */
static int agree(const struct identity *own, const struct key *other,
                 uint8_t ret_shared[crypto_box_BEFORENMBYTES])
{
    uint8_t public[crypto_box_PUBLICKEYBYTES], secret[crypto_box_SECRETKEYBYTES];
    if (crypto_sign_ed25519_pk_to_curve25519(public, other->b) < 0 ||
        crypto_sign_ed25519_sk_to_curve25519(secret, own->secret) < 0)
        return -EINVAL;
    int r = crypto_box_beforenm(ret_shared, public, secret);
    sodium_memzero(secret, sizeof secret);
    return r < 0 ? -EINVAL : 0;
}

int key_seal(const struct identity *from, const struct key *to, enum box_purpose purpose,
             struct str plain, uint8_t *ret_sealed)
{
    uint8_t shared[crypto_box_BEFORENMBYTES], key[crypto_secretbox_KEYBYTES];
    int r = agree(from, to, shared);
    if (r < 0)
        return r;
    derive(shared, purposes[purpose], &from->key, to, key);
    randombytes_buf(ret_sealed, NONCE);
    (void)crypto_secretbox_easy(ret_sealed + NONCE, (const uint8_t *)plain.p, plain.n, ret_sealed,
                                key);
    sodium_memzero(shared, sizeof shared);
    sodium_memzero(key, sizeof key);
    return (int)(plain.n + BOX_OVERHEAD);
}

int key_open(const struct identity *to, const struct key *from, enum box_purpose purpose,
             struct str sealed, uint8_t *ret_plain)
{
    uint8_t shared[crypto_box_BEFORENMBYTES], key[crypto_secretbox_KEYBYTES];
    const uint8_t *bytes = (const uint8_t *)sealed.p;
    if (sealed.n < BOX_OVERHEAD || agree(to, from, shared) < 0)
        return -EBADMSG;
    derive(shared, purposes[purpose], from, &to->key, key);
    int r = crypto_secretbox_open_easy(ret_plain, bytes + NONCE, sealed.n - NONCE, bytes, key);
    sodium_memzero(shared, sizeof shared);
    sodium_memzero(key, sizeof key);
    return r < 0 ? -EBADMSG : (int)(sealed.n - BOX_OVERHEAD);
}

int key_hide(const struct key *to, struct str plain, uint8_t *ret_sealed)
{
    uint8_t public[crypto_box_PUBLICKEYBYTES];
    static_assert(crypto_box_SEALBYTES == BOX_HIDDEN_OVERHEAD, "the header says so");
    if (crypto_sign_ed25519_pk_to_curve25519(public, to->b) < 0 ||
        crypto_box_seal(ret_sealed, (const uint8_t *)plain.p, plain.n, public) < 0)
        return -EINVAL;
    return (int)(plain.n + BOX_HIDDEN_OVERHEAD);
}

int key_unhide(const struct identity *to, struct str sealed, uint8_t *ret_plain)
{
    uint8_t public[crypto_box_PUBLICKEYBYTES], secret[crypto_box_SECRETKEYBYTES];
    if (sealed.n < BOX_HIDDEN_OVERHEAD ||
        crypto_sign_ed25519_pk_to_curve25519(public, to->key.b) < 0 ||
        crypto_sign_ed25519_sk_to_curve25519(secret, to->secret) < 0)
        return -EBADMSG;
    int r = crypto_box_seal_open(ret_plain, (const uint8_t *)sealed.p, sealed.n, public, secret);
    sodium_memzero(secret, sizeof secret);
    return r < 0 ? -EBADMSG : (int)(sealed.n - BOX_HIDDEN_OVERHEAD);
}
