#pragma once
/* The PROXY protocol's header, written: who connected to what, in front of a connection's own
 * bytes. HAProxy's specification, versions 1 and 2. (Reading one is proxy_sniff() in sniffed.h.) */

#include "base/addr.h"
#include "base/fd.h"
#include "base/str.h"

/* Room for any header that is written here. */
#define PROXY_MAX 512

/* Parts of a version 2 header that berth adds for a connection that a peer dialled: "types in the
 * range 0xE0 to 0xEF are for application-specific data" (2.2.8). */
enum {
    PROXY_TLV_PEER_KEY = 0xe0,     /* 32 bytes: the public key */
    PROXY_TLV_PEER_NAME = 0xe1,    /* where the peer is known by one */
    PROXY_TLV_PEER_SERVICE = 0xe2, /* what it dialled */
};

struct proxy_tlv {
    uint8_t type;
    struct str value;
};

struct proxy_header {
    struct addr src, dst;
    const struct proxy_tlv *tlvs; /* version 2 */
    size_t tlv_count;
};

/* Version 1 or 2. Addresses that are not both IPv4 or both IPv6 become UNKNOWN, and UNSPEC in
 * version 2. Bytes written, or -EMSGSIZE. */
int proxy_encode(unsigned version, const struct proxy_header *h, void *buf,
                 size_t size) WARN_UNUSED;
