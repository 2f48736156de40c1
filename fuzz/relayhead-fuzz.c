/* Any bytes come in as a packet to be relayed; what decodes must be written to the same bytes, and
 * is of one form only. */
#include <assert.h>

#include "wire/relay.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t head[RELAY_EARLY_HEAD];
    uint32_t channel;
    uint64_t call;
    struct str payload;
    bool usual = relay_decode(data, size, &channel, &payload) == 0;
    bool early = relay_early_decode(data, size, &call) == 0;
    assert(!(usual && early) && (relay_looks(data, size) || !(usual || early)));
    if (usual) {
        relay_head(head, channel);
        assert(memcmp(head, data, RELAY_HEAD) == 0 && payload.n == size - RELAY_HEAD);
    }
    if (early) {
        relay_early_head(head, call);
        assert(memcmp(head, data, RELAY_EARLY_HEAD) == 0);
    }
    return 0;
}
