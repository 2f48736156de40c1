/* What dispatch finds in a base queue: what decodes must encode to the same bytes again, but for
 * those that nothing reads. */
#include <assert.h>

#include "share/parked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct parked p, again;
    uint8_t bytes[PARKED_BYTES];
    if (parked_decode(&p, data, size) < 0)
        return 0;
    parked_encode(&p, bytes);
    int r = parked_decode(&again, bytes, sizeof bytes);
    assert(r == 0 && again.since_ms == p.since_ms && again.claim == p.claim);
    assert(again.proto == p.proto && again.heard == p.heard && again.proxy == p.proxy);
    return 0;
}
