/* RDP connection requests. */
#include "sniff-check.h"

#define NOTHING "\3\0\0\x0b\6\xe0\0\0\0\0\0"

TEST("a request is judged when its packet is whole, and gives the user of its cookie")
{
    struct sniffed s;
    CHECK_PREFIXES(rdp_sniff,
                   STR("\3\0\0\x2b\x26\xe0\0\0\0\0\0Cookie: mstshash=alice\r\n\1\0\x08\0\3\0\0\0"));
    CHECK_PREFIXES(rdp_sniff, STR(NOTHING));
    CHECK_PREFIXES(rdp_sniff, STR("\3\0\0\x13\x0e\xe0\0\0\0\0\0\1\0\x08\0\3\0\0\0"));
    CHECK_VERDICT(rdp_sniff(STR("\3\0\0\x23\x1e\xe0\0\0\0\0\0Cookie: mstshash=alice\r\n"), &s),
                  SNIFF_DONE);
    CHECK_INT(s.proto, PROTO_RDP);
    CHECK_STR(s.user, "alice");
}

TEST("a cookie without its end or with odd bytes is refused")
{
    CHECK_BAD(rdp_sniff, "\3\0\0\x1d\x18\xe0\0\0\0\0\0Cookie: mstshash=a", "BadRequest");
    CHECK_BAD(rdp_sniff, "\3\0\0\x1f\x1a\xe0\0\0\0\0\0Cookie: mstshash=\0\r\n", "BadRequest");
}

TEST("what is not RDP is said to be so at once")
{
    CHECK_SNIFF(rdp_sniff, "\4", SNIFF_NOT);
    CHECK_SNIFF(rdp_sniff, "\3\1", SNIFF_NOT);
    CHECK_SNIFF(rdp_sniff, "\3\0\0\x0a", SNIFF_NOT);
    CHECK_SNIFF(rdp_sniff, "\3\0\x7f\x0a", SNIFF_NOT);
    CHECK_SNIFF(rdp_sniff, "\3\0\0\x0b\7", SNIFF_NOT);
    CHECK_SNIFF(rdp_sniff, "\3\0\0\x0b\6\xd0", SNIFF_NOT);
    CHECK_SNIFF(rdp_sniff, "\3\0\0\x0b\6\xe0\1", SNIFF_NOT);
}
