#pragma once
/* How the user-space NAT is to behave: `key=value` words of its command line. */

#include <linux/if.h>
#include <stdbool.h>
#include <stdint.h>

#define PORT_LOWEST 1024

enum { MODE_NAT, MODE_WIRE };
enum { BY_NOTHING, BY_ADDRESS, BY_BOTH }; /* what of the remote end counts (RFC 4787 4.1 and 5) */
enum { PORTS_RANDOM, PORTS_SEQUENCE, PORTS_KEEP };

/* inside is a /16; addresses in host order. */
struct options {
    long mode, map, filter, ports;
    long first, count, step; /* ports that may be used */
    long hairpin, reject, timeout_s;
    long delay_us, jitter_us, loss_ppm, seed;
    uint32_t outside, inside;
    char dev[IFNAMSIZ], back[IFNAMSIZ];
};

/* false, with a line on standard error, when a word is not understood. */
bool options_parse(struct options *o, int argc, char **argv);
