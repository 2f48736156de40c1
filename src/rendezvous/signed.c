/* Puts codec and signatures together. Identities and bytes come in; nothing is kept. */
#include "rendezvous/signed.h"

int signed_record_make(const struct identity *id, struct record *r, uint8_t buf[RECORD_MAX])
{
    memcpy(r->key, id->key.b, sizeof r->key);
    int n = record_encode(r, buf, RECORD_MAX);
    if (n < 0)
        return n;
    int e = key_sign(id, KEY_RECORD, (struct str){(char *)buf, (size_t)n}, buf + n);
    return e < 0 ? e : n + RECORD_SIGNATURE;
}

enum rdv_reason signed_record_decode(struct str bytes, struct record *ret_record)
{
    int r = record_decode(ret_record, bytes.p, bytes.n);
    return r == 0 ? RDV_OK : r == -EPROTONOSUPPORT ? RDV_BAD_VERSION : RDV_BAD_RECORD;
}

enum rdv_reason signed_record_check(struct str bytes)
{
    struct record r;
    struct str body;
    const uint8_t *signature;
    struct key key;
    enum rdv_reason reason = signed_record_decode(bytes, &r);
    if (reason != RDV_OK)
        return reason;
    if (record_split(bytes, &body, &signature) < 0)
        return RDV_BAD_RECORD;
    memcpy(key.b, r.key, sizeof key.b);
    return key_verify(&key, KEY_RECORD, body, signature) ? RDV_OK : RDV_FORGED;
}

int signed_request_make(const struct identity *id, enum key_purpose purpose,
                        const uint8_t cookie[RDVMSG_COOKIE], struct str what,
                        uint8_t ret_signature[KEY_SIGNATURE_BYTES])
{
    uint8_t buf[RDVMSG_SIGNED_MAX];
    int n = rdvmsg_signed(cookie, what, buf);
    return n < 0 ? n : key_sign(id, purpose, (struct str){(char *)buf, (size_t)n}, ret_signature);
}

bool signed_request_check(const uint8_t key[KEY_BYTES], enum key_purpose purpose,
                          const struct rdvmsg *m, struct str what)
{
    uint8_t buf[RDVMSG_SIGNED_MAX];
    struct key k;
    memcpy(k.b, key, sizeof k.b);
    int n = rdvmsg_signed(m->cookie, what, buf);
    return n >= 0 && key_verify(&k, purpose, (struct str){(char *)buf, (size_t)n}, m->signature);
}
