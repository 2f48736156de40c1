/* Any bytes come in as a signed record; what decodes must encode and decode again alike. */
#include <assert.h>

#include "wire/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t buf[RECORD_MAX], again[RECORD_MAX];
    struct record r, d;
    if (record_decode(&r, data, size) < 0)
        return 0;
    int n = record_encode(&r, buf, sizeof buf);
    assert(n > 0 && (size_t)n + RECORD_SIGNATURE <= size);
    memset(buf + n, 0, RECORD_SIGNATURE);
    int e = record_decode(&d, buf, (size_t)n + RECORD_SIGNATURE);
    assert(e == 0);
    e = record_encode(&d, again, sizeof again);
    assert(e == n && memcmp(buf, again, (size_t)n) == 0);
    return 0;
}
