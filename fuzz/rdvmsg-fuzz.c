/* Any bytes come in as a rendezvous message; what decodes must encode and decode again alike. */
#include <assert.h>

#include "wire/rdvmsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t buf[RDVMSG_MAX], again[RDVMSG_MAX];
    static struct rdvmsg m, d;
    if (rdvmsg_decode(&m, data, size) < 0)
        return 0;
    int n = rdvmsg_encode(&m, buf, sizeof buf);
    assert(n >= RDVMSG_HEAD && (size_t)n <= size);
    assert(memcmp(buf, data, (size_t)n) == 0);
    int r = rdvmsg_decode(&d, buf, (size_t)n);
    assert(r == 0);
    r = rdvmsg_encode(&d, again, sizeof again);
    assert(r == n && memcmp(buf, again, (size_t)n) == 0);
    return 0;
}
