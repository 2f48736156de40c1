#pragma once
/* What a sniffer answers, and what it found. A sniffer is a pure function over all bytes that have
 * arrived so far (they are peeked anew each time, never consumed): no state, no I/O, no allocation.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* No protocol below needs more than this to show its name; longer is refused as TooLarge. */
#define SNIFF_BYTES_MAX 16384

enum sniff_verdict {
    SNIFF_MORE, /* may be this protocol: more bytes are needed to tell */
    SNIFF_DONE, /* it is, and everything that routes it is in struct sniffed */
    SNIFF_BAD,  /* it is, but no server should be shown it: sniffed.reason says why */
    SNIFF_NOT,  /* these bytes do not begin this protocol */
};

enum proto {
    PROTO_NONE, /* nothing sniffed: no byte came, or no protocol that we know */
    PROTO_HTTP,
    PROTO_H2, /* HTTP/2 with prior knowledge (h2c) */
    PROTO_TLS,
    PROTO_SSH,
    PROTO_SOCKS,
    PROTO_RDP,
    PROTO_POSTGRES,
    PROTO_REDIS,
    PROTO_MQTT,
    PROTO_XMPP,
    PROTO_COUNT,
};

#define SNIFFED_SCRATCH  2048
#define SNIFFED_ALPN_MAX 16

/* Slices point into the sniffed bytes or into scratch; they live as long as both do, so a struct
 * sniffed is passed by pointer, never copied. */
struct sniffed {
    enum proto proto;
    const char *reason; /* static word for SNIFF_BAD: TwoHosts, BadRequest, TooLarge, ... */
    struct str host; /* Host, :authority or SNI: lower case, no port, no final dot; may be empty */
    struct str method;   /* HTTP */
    struct str path;     /* HTTP: without query, percent-decoded where unreserved, dots resolved */
    struct str user;     /* PostgreSQL, MQTT, RDP (mstshash cookie) */
    struct str database; /* PostgreSQL */
    struct str alpn[SNIFFED_ALPN_MAX]; /* TLS, in the client's order */
    uint8_t alpn_count;
    uint32_t stream_id; /* HTTP/2: stream of the request, for the refusal */
    bool ech;           /* TLS: encrypted ClientHello present; host is the outer name */
    bool ssl_request;   /* PostgreSQL: SSLRequest or GSSENCRequest: no name will be visible */
    bool http10;        /* HTTP/1.0 */
    uint16_t scratch_used;
    char scratch[SNIFFED_SCRATCH];
};

typedef enum sniff_verdict sniff_fn(struct str in, struct sniffed *out);

/* RFC 9112 (HTTP/1.x), strict: whole head needed; RFC 9113 section 3.3 (h2 prior knowledge), RFC
 * 7541 */
sniff_fn http1_sniff, http2_sniff;
/* RFC 8446 section 4.1.2 and 5.1, RFC 6066 section 3 (SNI), RFC 7301 (ALPN) */
sniff_fn tlshello_sniff;
/* RFC 4253 section 4.2; RFC 1928 and SOCKS4(a); MS-RDPBCGR 2.2.1.1 over TPKT (RFC 1006) */
sniff_fn ssh_sniff, socks_sniff, rdp_sniff;
/* PostgreSQL protocol 3 message formats; RESP2/RESP3 and inline commands; MQTT 3.1.1 and 5.0; RFC
 * 6120 */
sniff_fn postgres_sniff, redis_sniff, mqtt_sniff, xmpp_sniff;

/* A header in front of the protocol. On DONE: ret_len bytes of header, and the addresses it states
 * (AF_UNSPEC for LOCAL/UNKNOWN). HAProxy's PROXY protocol specification, version 1 and 2. */
struct addr;
enum sniff_verdict proxy_sniff(struct str in, size_t *ret_len, struct addr *ret_src,
                               struct addr *ret_dst);
