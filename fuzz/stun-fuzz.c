/* Any bytes come in as a STUN message; what decodes must encode, and that decode to the same. */
#include <assert.h>

#include "wire/stun.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t buf[STUN_MAX], again[STUN_MAX];
    struct stun s, d;
    if (stun_decode(&s, data, size) < 0)
        return 0;
    assert(stun_looks(data, size));
    if (s.type == STUN_FAILURE)
        return 0; /* the list of unknown attributes goes one way only */
    int n = stun_encode(&s, buf, sizeof buf);
    assert(n >= STUN_HEAD);
    int r = stun_decode(&d, buf, (size_t)n);
    assert(r == 0);
    r = stun_encode(&d, again, sizeof again);
    assert(r == n && memcmp(buf, again, (size_t)n) == 0);
    return 0;
}
