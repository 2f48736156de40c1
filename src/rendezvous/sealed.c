/* Puts the codec of offers and boxes together. Identities and bytes come in; nothing is kept. */
#include "rendezvous/sealed.h"

int sealed_offer_make(const struct identity *from, const struct key *to, const struct offer *o,
                      uint8_t buf[SEALED_OFFER_MAX])
{
    uint8_t plain[OFFER_MAX];
    int n = offer_encode(o, plain, sizeof plain);
    if (n < 0)
        return n;
    return key_seal(from, to, BOX_OFFER, (struct str){(const char *)plain, (size_t)n}, buf);
}

int sealed_offer_open(const struct identity *to, const struct key *from, struct str sealed,
                      struct offer *ret_offer)
{
    uint8_t plain[OFFER_MAX];
    if (sealed.n > SEALED_OFFER_MAX)
        return -EBADMSG;
    int n = key_open(to, from, BOX_OFFER, sealed, plain);
    return n < 0 ? n : offer_decode(ret_offer, plain, (size_t)n);
}

int sealed_offer_fits(const struct offer *o, uint64_t call, uint64_t unix_ms)
{
    uint64_t apart = o->unix_ms > unix_ms ? o->unix_ms - unix_ms : unix_ms - o->unix_ms;
    if (o->call != call)
        return -EINVAL;
    return apart > SEALED_OFFER_AGE_MS ? -ESTALE : 0;
}
