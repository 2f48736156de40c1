/* Any bytes come in as a datagram of sd_notify; what is read of them must be fit to be shown. */
#include <assert.h>

#include "launch/notify.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct notify n;
    notify_parse(data, size, &n);
    assert(memchr(n.status, 0, sizeof n.status));
    assert(n.has_status || n.status[0] == 0);
    assert(n.main_pid >= 0);
    for (const char *p = n.status; *p; p++)
        assert((unsigned char)*p >= 0x20 && *p != 0x7f);
    return 0;
}
