/* What dispatch writes beside a parked socket. */
#include "share/parked.h"
#include "test.h"

TEST("a parked connection is read as it was written")
{
    struct parked p = {.proto = PROTO_H2, .heard = true, .stream = true, .claim = 7}, q;
    uint8_t bytes[PARKED_BYTES];
    p.since_ms = 1ull << 40;
    CHECK_INT(addr_parse("[2001:db8::1]:4711", &p.peer), 0);
    parked_encode(&p, bytes);
    CHECK_INT(parked_decode(&q, bytes, sizeof bytes), 0);
    CHECK_INT(q.proto, PROTO_H2);
    CHECK(q.heard && q.stream && !q.proxy);
    CHECK_INT(q.claim, 7);
    CHECK(q.since_ms == p.since_ms);
    CHECK(addr_equal(&q.peer, &p.peer));
}

TEST("anything else is bad")
{
    struct parked p = {.proxy = true}, q;
    uint8_t bytes[PARKED_BYTES + 1] = {0};
    parked_encode(&p, bytes);
    CHECK_INT(parked_decode(&q, bytes, PARKED_BYTES), 0);
    CHECK(q.proxy && !q.heard);
    CHECK_INT(parked_decode(&q, bytes, PARKED_BYTES - 1), -EBADMSG);
    CHECK_INT(parked_decode(&q, bytes, PARKED_BYTES + 1), -EBADMSG);
    CHECK_INT(parked_decode(&q, bytes, 0), -EBADMSG);
    bytes[3] = PROTO_COUNT;
    CHECK_INT(parked_decode(&q, bytes, PARKED_BYTES), -EBADMSG);
    bytes[3] = 0;
    bytes[2] = 0x80;
    CHECK_INT(parked_decode(&q, bytes, PARKED_BYTES), -EBADMSG);
}
