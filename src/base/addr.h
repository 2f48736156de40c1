#pragma once
/* A socket address: IPv4, IPv6 or a Unix path. A value, copied freely. */

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/str.h"

struct addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
    };
    socklen_t len;
};

/* "[" + address + "]:" + port, or "unix:" + path. */
#define ADDR_TEXT_MAX 128

/* `127.0.0.1:80`, `[::1]:80`, `*:80` (IPv4 wildcard), `[::]:80`, `unix:/path`. -EINVAL otherwise.
 */
int addr_parse(const char *text, struct addr *ret_addr) WARN_UNUSED;
/* Writes the form that addr_parse() reads, always NUL-terminated, and returns buf. */
const char *addr_format(const struct addr *a, char buf[ADDR_TEXT_MAX]);

/* An address from raw parts: family AF_INET (4 bytes) or AF_INET6 (16 bytes), port in host order.
 */
struct addr addr_make(int family, const void *ip, uint16_t port);
/* Copies what a socket call wrote. Unknown families become an empty address (AF_UNSPEC). */
struct addr addr_from(const struct sockaddr *sa, socklen_t len);

uint16_t addr_port(const struct addr *a); /* host order; 0 for Unix */
void addr_set_port(struct addr *a, uint16_t port);
bool addr_is_wildcard(const struct addr *a);
bool addr_is_loopback(const struct addr *a); /* Unix counts as loopback */
bool addr_equal(const struct addr *a, const struct addr *b);
/* IPv4-mapped IPv6 addresses become IPv4, all others stay. */
struct addr addr_unmap(const struct addr *a);

/* Would a socket bound to `bound` receive a connection to `local`? A dual-stack [::] receives IPv4,
 * too. Ports must be equal. */
bool addr_covers(const struct addr *bound, bool v6only, const struct addr *local);
/* Is there a local address that both sockets would receive connections for? */
bool addr_overlap(const struct addr *a, bool a_v6only, const struct addr *b, bool b_v6only);

/* An address prefix, for `from=`. An empty prefix (AF_UNSPEC) matches everything. */
struct prefix {
    int family;
    uint8_t ip[16];
    uint8_t bits;
};

/* `192.168.0.0/16`, `2001:db8::/32`, or a plain address. -EINVAL otherwise, also for set host bits.
 */
int prefix_parse(struct str text, struct prefix *ret_prefix) WARN_UNUSED;
bool prefix_matches(const struct prefix *p, const struct addr *a);
