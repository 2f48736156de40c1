#pragma once
/* The one UDP socket of berth-peer: batches in and out. */

#include "base/addr.h"
#include "loop/loop.h"

#define UDP_BATCH  16
#define UDP_BYTES  65536
#define UDP_BURST  64 /* segments of one send, as the kernel has it */
#define UDP_ROUNDS 4  /* batches read for one event */

struct udp {
    int fd;      /* owned; -EBADF: closed */
    bool v6;     /* dual stack: IPv4 addresses are mapped */
    bool no_gso; /* this kernel or device cannot */
    uint16_t port;
    struct loop *loop;
    struct watch watch;
    uint8_t *buffer; /* owned: UDP_BATCH * UDP_BYTES */
    void *ctx;
    /* n bytes, in datagrams of `segment` (the last may be shorter), from one address. */
    void (*input)(void *ctx, const struct addr *from, const uint8_t *bytes, size_t n,
                  size_t segment);
    uint64_t dropped; /* datagrams that the kernel did not take */
};

/* Port 0: any. With input, ctx and loop set. */
int udp_open(struct udp *u, uint16_t port) WARN_UNUSED;
void udp_close(struct udp *u);
/* The address that the kernel would use on the way there; port 0. */
int udp_own_address(const struct addr *to, struct addr *ret_own) WARN_UNUSED;
/* n bytes in datagrams of `segment` bytes; segment >= n: one. What the kernel does not take at once
 * is lost, as datagrams are. */
void udp_send(struct udp *u, const struct addr *to, const void *bytes, size_t n, size_t segment);
/* One datagram with this TTL for IPv4; 0: the usual one. */
void udp_send_ttl(struct udp *u, const struct addr *to, const void *bytes, size_t n, unsigned ttl);
