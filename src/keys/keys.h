#pragma once
/* Who a peer is: an Ed25519 key pair. The public half is its name for everybody, the secret half
 * signs. keys_init() comes before everything else. */

#include <stdbool.h>
#include <stdint.h>

#include "base/fd.h"
#include "base/str.h"

#define KEY_BYTES           32
#define KEY_SECRET_BYTES    64
#define KEY_SIGNATURE_BYTES 64
/* 35 bytes (the key and a checksum of three) in base32: exactly 56 characters, no spare bits. */
#define KEY_TEXT     56
#define KEY_TEXT_MAX (KEY_TEXT + 1)
/* The longest message that is signed. */
#define KEY_MESSAGE_MAX 2048

struct key {
    uint8_t b[KEY_BYTES];
};

/* Holds a secret: identity_wipe() when it is needed no more. */
struct identity {
    struct key key;
    uint8_t secret[KEY_SECRET_BYTES];
};

/* What a signature is for. A signature for one purpose is none for another, because its name is
 * signed with the message. */
enum key_purpose { KEY_RECORD, KEY_LOGIN, KEY_CLAIM, KEY_RELEASE, KEY_PURPOSE_COUNT };

/* -EIO when there is no source of randomness. */
int keys_init(void) WARN_UNUSED;

/* Lower case, without padding, NUL-terminated. Returns buf. */
const char *key_format(const struct key *key, char buf[KEY_TEXT_MAX]);
/* -EINVAL: no key at all; -EBADMSG: it looks like one, but the checksum says that it was mistyped.
 * Upper case is read, too. */
int key_parse(struct str text, struct key *ret_key) WARN_UNUSED;
bool key_equal(const struct key *a, const struct key *b);

/* -EMSGSIZE for a message above KEY_MESSAGE_MAX. */
int key_sign(const struct identity *id, enum key_purpose purpose, struct str message,
             uint8_t ret_signature[KEY_SIGNATURE_BYTES]) WARN_UNUSED;
bool key_verify(const struct key *key, enum key_purpose purpose, struct str message,
                const uint8_t signature[KEY_SIGNATURE_BYTES]);

void identity_make(struct identity *ret_id);
void identity_wipe(struct identity *id);
/* 0, or negative errno with a sentence for people in trouble: -ENOENT (there is none), -EPERM
 * (others can read it, or it is another user's), -EBADMSG (not a key file), ... */
int identity_load(const char *path, struct identity *ret_id, char *trouble,
                  size_t size) WARN_UNUSED;
/* Makes the folder and the file, mode 0600, all or nothing. -EEXIST when there is one: an identity
 * is never overwritten. */
int identity_save(const char *path, const struct identity *id) WARN_UNUSED;

/* Makes the folders above a file, for their user only. */
int keys_folder_make(const char *path) WARN_UNUSED;

/* Used by the forms above: n bytes become base32 text with NUL; and back, where exactly n bytes
 * must come out. */
void base32_format(const uint8_t *bytes, size_t n, char *buf);
int base32_parse(struct str text, uint8_t *ret_bytes, size_t n) WARN_UNUSED;
/* BLAKE2b of the bytes, keyed with the label (16 characters or more), cut to n. */
void key_checksum(const char *label, const uint8_t bytes[KEY_BYTES], uint8_t *ret_sum, size_t n);
