#pragma once
/* STUN Binding (RFC 8489), as much as a server without credentials needs, and the attributes of
 * RFC 5780 for finding out how a NAT behaves. Pure. */

#include "base/addr.h"
#include "base/fd.h"
#include "base/str.h"

#define STUN_HEAD        20
#define STUN_COOKIE      0x2112a442u
#define STUN_TRANSACTION 12
#define STUN_MAX         548 /* RFC 8489 6.1: a message without path MTU knowledge, over IPv4 */
#define STUN_UNKNOWN_MAX 8
#define STUN_FILL_MAX    96

/* Class and method together. */
enum stun_type {
    STUN_REQUEST = 0x0001,
    STUN_INDICATION = 0x0011,
    STUN_SUCCESS = 0x0101,
    STUN_FAILURE = 0x0111
};

enum { STUN_CHANGE_IP = 4, STUN_CHANGE_PORT = 2 }; /* RFC 5780 7.2 */

/* An address that is not there has no family (AF_UNSPEC). */
struct stun {
    enum stun_type type;
    uint8_t transaction[STUN_TRANSACTION];
    bool classic;        /* RFC 3489: no magic cookie; the mapped address is not XORed */
    uint32_t old_cookie; /* what stands in the cookie's place then: it belongs to the transaction */
    struct addr mapped;  /* success: where the request came from */
    struct addr origin;  /* RFC 5780: RESPONSE-ORIGIN */
    struct addr other;   /* RFC 5780: OTHER-ADDRESS */
    uint32_t change;     /* RFC 5780: CHANGE-REQUEST, STUN_CHANGE_* */
    bool has_change;
    uint16_t response_port; /* RFC 5780: the answer goes to this port of the asker's address */
    bool has_response_port;
    size_t pad_to; /* encoding: at least so long, but not above STUN_FILL_MAX, by a SOFTWARE */
    bool has_fingerprint;               /* decoded: was there and right; encoding: is added */
    uint16_t error;                     /* failure: 300 to 699 */
    uint16_t unknown[STUN_UNKNOWN_MAX]; /* attributes that must be understood and are not */
    size_t unknown_count;
};

/* Could these bytes be STUN at all? What shares a port with other protocols asks this first. */
bool stun_looks(const void *buf, size_t n);
/* -EBADMSG. */
int stun_decode(struct stun *ret_stun, const void *buf, size_t n) WARN_UNUSED;
/* Length, or -EMSGSIZE. */
int stun_encode(const struct stun *s, void *buf, size_t size) WARN_UNUSED;
