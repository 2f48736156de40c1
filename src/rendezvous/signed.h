#pragma once
/* Records with their signature, and the signatures that log in, claim and release. */

#include "keys/keys.h"
#include "wire/rdvmsg.h"
#include "wire/record.h"

/* The record's key becomes the identity's. Length of the signed record, or -EMSGSIZE. */
int signed_record_make(const struct identity *id, struct record *r,
                       uint8_t buf[RECORD_MAX]) WARN_UNUSED;
/* RDV_OK, RDV_BAD_RECORD or RDV_BAD_VERSION: what can be said without the signature. */
enum rdv_reason signed_record_decode(struct str bytes, struct record *ret_record);
/* RDV_OK or RDV_FORGED. */
enum rdv_reason signed_record_check(struct str bytes);

/* Of the signed record (KEY_LOGIN) or of a name (KEY_CLAIM, KEY_RELEASE) with the server's cookie,
 * so that it is good for this server, this address and two minutes. */
int signed_request_make(const struct identity *id, enum key_purpose purpose,
                        const uint8_t cookie[RDVMSG_COOKIE], struct str what,
                        uint8_t ret_signature[KEY_SIGNATURE_BYTES]) WARN_UNUSED;
bool signed_request_check(const uint8_t key[KEY_BYTES], enum key_purpose purpose,
                          const struct rdvmsg *m, struct str what);
