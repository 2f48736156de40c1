/* Any bytes come in as an offer; what decodes must encode and decode again alike. */
#include <assert.h>

#include "wire/offer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t buf[OFFER_MAX], again[OFFER_MAX];
    struct offer o, d;
    if (offer_decode(&o, data, size) < 0)
        return 0;
    int n = offer_encode(&o, buf, sizeof buf);
    /* Two fields may be missing. */
    assert(n > 0 && (size_t)n <= size + 2);
    int e = offer_decode(&d, buf, (size_t)n);
    assert(e == 0);
    e = offer_encode(&d, again, sizeof again);
    assert(e == n && memcmp(buf, again, (size_t)n) == 0);
    return 0;
}
