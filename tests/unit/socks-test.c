/* SOCKS greetings of all three kinds. */
#include "sniff-check.h"

TEST("each version's first message is judged when it is whole")
{
    struct sniffed s;
    CHECK_PREFIXES(socks_sniff, STR("\5\2\0\1"));
    CHECK_PREFIXES(socks_sniff, STR("\4\1\0\x50\x7f\0\0\1alice\0"));
    CHECK_PREFIXES(socks_sniff, STR("\4\2\0\x50\1\2\3\4\0"));
    CHECK_PREFIXES(socks_sniff, STR("\4\1\0\x50\0\0\0\1\0x.example\0"));
    CHECK_VERDICT(socks_sniff(STR("\5\1\0more"), &s), SNIFF_DONE);
    CHECK_INT(s.proto, PROTO_SOCKS);
}

TEST("what is not SOCKS is said to be so at once")
{
    CHECK_SNIFF(socks_sniff, "\3", SNIFF_NOT);
    CHECK_SNIFF(socks_sniff, "\5\0", SNIFF_NOT);
    CHECK_SNIFF(socks_sniff, "\4\3", SNIFF_NOT);
    CHECK_SNIFF(socks_sniff, "\4\1\0\x50\1\2\3\4a\nb", SNIFF_NOT);
    CHECK_SNIFF(socks_sniff, "\4\1\0\x50\0\0\0\1\0\0", SNIFF_NOT);
}
