/* Any bytes come in as the beginning of a stream; a header that decodes must encode to the same. */
#include <assert.h>

#include "session/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t again[STREAM_HEADER_MAX];
    struct str service;
    size_t used;
    if (stream_header_decode(data, size, &service, &used) < 0)
        return 0;
    assert(used <= size && stream_service_is_fit(service));
    size_t n = stream_header_encode(service, again);
    assert(n == used && memcmp(again, data, n) == 0);
    return 0;
}
