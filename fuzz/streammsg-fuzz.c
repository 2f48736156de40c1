/* The messages of a source: what decodes must encode to the same bytes again. */
#include <assert.h>
#include <string.h>

#include "wire/streammsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t buf[STREAMMSG_MAX];
    struct streammsg m;
    if (streammsg_decode(&m, data, size) < 0)
        return 0;
    int n = streammsg_encode(&m, buf, sizeof buf);
    assert(n >= 0 && (size_t)n == size && memcmp(buf, data, size) == 0);
    return 0;
}
