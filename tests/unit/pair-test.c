/* Pairs of connected sockets: who is at the other end is who was meant. */
#include "ipc/pair.h"

#include "test.h"
#include "wire/streammsg.h"

TEST("a pair is connected, its addresses are true, and the far end is accepted where it must be")
{
    struct key key = {{1, 2, 3}};
    struct addr at = addr_make(AF_INET, STREAMMSG_IP, 0);
    struct addr from = pair_address(&key), peer = {.len = sizeof peer.v4};
    struct addr here = {.len = sizeof here.v4};
    struct pair p;
    char byte = 0;
    CHECK(pair_make(&from, &at, &p) == 0);
    CHECK(getpeername(p.theirs, &peer.sa, &peer.len) == 0 && addr_equal(&peer, &p.ours_addr));
    CHECK(getsockname(p.theirs, &here.sa, &here.len) == 0 && addr_equal(&here, &p.theirs_addr));
    CHECK(memcmp(&here.v4.sin_addr, STREAMMSG_IP, 4) == 0);
    CHECK(send(p.ours, "x", 1, 0) == 1 && recv(p.theirs, &byte, 1, 0) == 1 && byte == 'x');
    CHECK(shutdown(p.theirs, SHUT_WR) == 0 && recv(p.ours, &byte, 1, 0) == 0);
    (void)fd_close(p.ours);
    (void)fd_close(p.theirs);
}

TEST("a key has one address, in 127.64.0.0/10")
{
    for (int i = 0; i < 256; i++) {
        struct key key = {{(uint8_t)i, (uint8_t)(i * 7), (uint8_t)i}};
        struct addr a = pair_address(&key), b = pair_address(&key);
        uint32_t ip = ntohl(a.v4.sin_addr.s_addr);
        CHECK(addr_equal(&a, &b) && ip >> 22 == (127u << 2 | 1) && (ip & 255) != 0 &&
              (ip & 255) != 255);
    }
}
