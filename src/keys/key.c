/* Signing and verifying by libsodium. Messages come in, signatures go out; the caller owns the
 * secrets. What is signed is the purpose's name, a NUL and the message, so that a signature made
 * for one purpose can never be shown for another. */
#include <assert.h>
#include <sodium.h>

#include "keys/keys.h"

static const char *const purposes[KEY_PURPOSE_COUNT] = {
    [KEY_RECORD] = "berth record 1",
    [KEY_LOGIN] = "berth login 1",
    [KEY_CLAIM] = "berth name claim 1",
    [KEY_RELEASE] = "berth name release 1",
};
#define PURPOSE_MAX 32

int keys_init(void)
{
    return sodium_init() < 0 ? -EIO : 0;
}

bool key_equal(const struct key *a, const struct key *b)
{
    return memcmp(a->b, b->b, KEY_BYTES) == 0;
}

void key_checksum(const char *label, const uint8_t bytes[KEY_BYTES], uint8_t *ret_sum, size_t n)
{
    uint8_t hash[crypto_generichash_BYTES];
    assert(n <= sizeof hash);
    (void)crypto_generichash(hash, sizeof hash, bytes, KEY_BYTES, (const uint8_t *)label,
                             strlen(label));
    memcpy(ret_sum, hash, n);
}

/* Length of what is signed; -EMSGSIZE when it is too long. */
static int compose(enum key_purpose purpose, struct str message,
                   uint8_t buf[PURPOSE_MAX + KEY_MESSAGE_MAX])
{
    size_t n = strlen(purposes[purpose]) + 1;
    if (message.n > KEY_MESSAGE_MAX)
        return -EMSGSIZE;
    memcpy(buf, purposes[purpose], n);
    if (message.n > 0)
        memcpy(buf + n, message.p, message.n);
    return (int)(n + message.n);
}

int key_sign(const struct identity *id, enum key_purpose purpose, struct str message,
             uint8_t ret_signature[KEY_SIGNATURE_BYTES])
{
    uint8_t buf[PURPOSE_MAX + KEY_MESSAGE_MAX];
    int n = compose(purpose, message, buf);
    if (n < 0)
        return n;
    (void)crypto_sign_detached(ret_signature, NULL, buf, (size_t)n, id->secret);
    return 0;
}

bool key_verify(const struct key *key, enum key_purpose purpose, struct str message,
                const uint8_t signature[KEY_SIGNATURE_BYTES])
{
    uint8_t buf[PURPOSE_MAX + KEY_MESSAGE_MAX];
    int n = compose(purpose, message, buf);
    return n >= 0 && crypto_sign_verify_detached(signature, buf, (size_t)n, key->b) == 0;
}

void identity_make(struct identity *ret_id)
{
    (void)crypto_sign_keypair(ret_id->key.b, ret_id->secret);
}

void identity_wipe(struct identity *id)
{
    sodium_memzero(id, sizeof *id);
}
