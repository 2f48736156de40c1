/* The text form of a key: base32 (RFC 4648 alphabet, lower case, no padding) of the key and three
 * bytes of checksum. Nearly any 32 bytes are accepted as a public key, so without the checksum a
 * mistyped letter in an allow-list would silently name a stranger who does not exist; and with it
 * every text of 56 characters has no spare bits, so a key has one text only. */
#include <string.h>

#include "keys/keys.h"

#define SUM_BYTES 3

static const char key_label[] = "berth key text 1";
static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

void base32_format(const uint8_t *bytes, size_t n, char *buf)
{
    size_t used = 0;
    uint32_t bits = 0, count = 0;
    for (size_t i = 0; i < n; i++) {
        bits = bits << 8 | bytes[i];
        for (count += 8; count >= 5; count -= 5)
            buf[used++] = alphabet[bits >> (count - 5) & 31];
    }
    if (count > 0)
        buf[used++] = alphabet[bits << (5 - count) & 31];
    buf[used] = '\0';
}

static int digit(char c)
{
    c = ascii_lower(c);
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

int base32_parse(struct str text, uint8_t *ret_bytes, size_t n)
{
    size_t used = 0;
    uint32_t bits = 0, count = 0;
    if (text.n != (n * 8 + 4) / 5)
        return -EINVAL;
    for (size_t i = 0; i < text.n; i++) {
        int d = digit(text.p[i]);
        if (d < 0)
            return -EINVAL;
        bits = bits << 5 | (uint32_t)d;
        count += 5;
        if (count >= 8) {
            count -= 8;
            ret_bytes[used++] = (uint8_t)(bits >> count);
        }
    }
    return (bits & ((1u << count) - 1)) == 0 ? 0 : -EINVAL;
}

const char *key_format(const struct key *key, char buf[KEY_TEXT_MAX])
{
    uint8_t bytes[KEY_BYTES + SUM_BYTES];
    memcpy(bytes, key->b, KEY_BYTES);
    key_checksum(key_label, key->b, bytes + KEY_BYTES, SUM_BYTES);
    base32_format(bytes, sizeof bytes, buf);
    return buf;
}

int key_parse(struct str text, struct key *ret_key)
{
    uint8_t bytes[KEY_BYTES + SUM_BYTES], sum[SUM_BYTES];
    int r = base32_parse(text, bytes, sizeof bytes);
    if (r < 0)
        return r;
    key_checksum(key_label, bytes, sum, sizeof sum);
    if (memcmp(sum, bytes + KEY_BYTES, sizeof sum) != 0)
        return -EBADMSG;
    memcpy(ret_key->b, bytes, KEY_BYTES);
    return 0;
}
