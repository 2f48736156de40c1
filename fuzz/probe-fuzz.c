/* Any bytes come in as a connectivity check; what decodes must encode to the same bytes. */
#include <assert.h>

#include "wire/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t buf[PROBE_SIZE];
    struct probe p;
    if (probe_decode(&p, data, size) < 0)
        return 0;
    assert(probe_looks(data, size));
    int n = probe_encode(&p, buf, sizeof buf);
    assert(n == PROBE_SIZE && size == PROBE_SIZE && memcmp(buf, data, size) == 0);
    return 0;
}
