/* Any bytes come in as a router's answer; what decodes goes into the machine, which must live on.
 */
#include "punch/portmap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct portmap_config c = {.protocol = IPPROTO_UDP};
    struct portmap m;
    struct portmap_action a;
    static const uint8_t ip[4] = {192, 168, 1, 1};
    c.gateway = c.client = addr_make(AF_INET, ip, PCP_PORT);
    portmap_init(&m, &c, 1);
    for (uint64_t now_us = 1; now_us < 10; now_us++) {
        while (portmap_poll(&m, now_us, &a))
            continue;
        (void)!portmap_input(&m, (struct str){(const char *)data, size}, now_us);
    }
    return 0;
}
