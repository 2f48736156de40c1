/* Any bytes come in as a message between servers; what decodes must encode to the same bytes. */
#include <assert.h>

#include "wire/nodemsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t buf[NODEMSG_MAX];
    struct nodemsg m;
    if (nodemsg_decode(&m, data, size) < 0)
        return 0;
    int n = nodemsg_encode(&m, buf, sizeof buf);
    assert(n > 0 && (size_t)n == size && memcmp(buf, data, size) == 0);
    return 0;
}
