/* Any bytes come in as the helper's answer; what is taken is an address of IPv4 with a port, or
 * none. */
#include <stdlib.h>

#include "peerd/mapping-upnp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct upnp_answer a;
    if (upnp_answer_parse((struct str){(const char *)data, size}, &a) < 0)
        return 0;
    bool address = a.external.sa.sa_family == AF_INET && addr_port(&a.external) != 0;
    bool wanted = a.state == PORTMAP_MAPPED || a.state == PORTMAP_USELESS;
    if (a.which >= MAPPING_PORTS || address != wanted)
        abort();
    return 0;
}
