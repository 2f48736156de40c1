#pragma once
/* Which way packets to the Internet would take now, as the kernel says, with all its tables and
 * rules. */

#include <stdint.h>

struct netroute {
    uint64_t hash; /* of links, gateways and sources, for both families; differs when they do */
    int links[2];  /* for IPv4 and IPv6; 0: there is no way */
};

struct netroute netroute_now(void);
