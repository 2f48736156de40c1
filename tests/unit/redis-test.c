/* Redis: arrays and inline commands. */
#include "sniff-check.h"

TEST("an array is judged at its first bulk string, an inline command at its end")
{
    struct sniffed s;
    CHECK_PREFIXES(redis_sniff, STR("*1\r\n$4\r\n"));
    CHECK_PREFIXES(redis_sniff, STR("*1000000\r\n$123456789\r\n"));
    CHECK_PREFIXES(redis_sniff, STR("PING\r\n"));
    CHECK_PREFIXES(redis_sniff, STR("PING\n"));
    CHECK_PREFIXES(redis_sniff, STR("auth user secret\r\n"));
    CHECK_PREFIXES(redis_sniff, STR("HELLO 3 SETNAME a\r\n"));
    CHECK_VERDICT(redis_sniff(STR("*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"), &s), SNIFF_DONE);
    CHECK_INT(s.proto, PROTO_REDIS);
}

TEST("what is not Redis is said to be so at once")
{
    CHECK_SNIFF(redis_sniff, "G", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "PINGX", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "PIN ", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, " ", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "\n", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "*0", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "* ", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "*12345678", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "*1\n", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "*1\r\r", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "*1\r\n+", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "*1\r\n$\r", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "PING a\0", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "INFO /", SNIFF_NOT);
    CHECK_SNIFF(redis_sniff, "INFO a: HTTP/1\r\n", SNIFF_NOT);
}
