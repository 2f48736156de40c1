#pragma once
/* Asking a router for a port: PCP (RFC 6887), as much as a mapping for oneself needs, and its
 * predecessor NAT-PMP (RFC 6886), on the same UDP port of the gateway. The codec is pure. */

#include "base/addr.h"
#include "base/fd.h"

#define PCP_PORT        5351
#define PCP_REQUEST_MAX 60
#define PCP_ANSWER_MAX  1100 /* RFC 6887 7 */
#define PCP_NONCE       12

enum pcp_version { PCP_NATPMP = 0, PCP_PCP = 2 };
enum pcp_answer_kind { PCP_MAPPED, PCP_EXTERNAL_ADDRESS, PCP_REFUSED };

struct pcp_map {
    uint8_t nonce[PCP_NONCE]; /* PCP */
    struct addr client;       /* PCP: our own address, as the gateway sees it */
    uint8_t protocol;         /* IPPROTO_UDP or IPPROTO_TCP */
    uint16_t internal_port;
    uint16_t external_port; /* wished; 0: any */
    uint32_t lifetime_s;    /* 0: give it back */
};

struct pcp_answer {
    enum pcp_version version;
    enum pcp_answer_kind kind;
    uint16_t result; /* RFC 6887 7.4, RFC 6886 3.5; 0 unless refused */
    uint32_t epoch_s, lifetime_s;
    uint8_t nonce[PCP_NONCE]; /* PCP */
    uint8_t protocol;
    uint16_t internal_port;
    struct addr external; /* NAT-PMP: mapped has only the port, external address only the address */
};

enum { PCP_UNSUPPORTED_VERSION = 1 };

/* Length, or -EMSGSIZE. */
int pcp_map_encode(const struct pcp_map *m, void *buf, size_t size) WARN_UNUSED;
int natpmp_map_encode(const struct pcp_map *m, void *buf, size_t size) WARN_UNUSED;
int natpmp_address_encode(void *buf, size_t size) WARN_UNUSED;
/* Of either protocol. -EBADMSG: no answer to what is asked here. */
int pcp_decode(struct pcp_answer *ret_answer, const void *buf, size_t n) WARN_UNUSED;
