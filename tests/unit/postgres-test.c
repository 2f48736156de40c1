/* PostgreSQL startup packets. */
#include "sniff-check.h"

#define SHOP "\0\0\0\x22\0\3\0\0user\0alice\0database\0shop\0\0"

TEST("a packet is judged when it is whole")
{
    CHECK_PREFIXES(postgres_sniff, STR(SHOP));
    CHECK_PREFIXES(postgres_sniff, STR("\0\0\0\x08\4\xd2\x16\x2f"));
    CHECK_PREFIXES(postgres_sniff, STR("\0\0\0\x08\4\xd2\x16\x30"));
    CHECK_PREFIXES(postgres_sniff, STR("\0\0\0\x10\4\xd2\x16\x2e"
                                       "12345678"));
}

TEST("user and database are told, and the database defaults to the user")
{
    struct sniffed s;
    CHECK_VERDICT(postgres_sniff(STR(SHOP), &s), SNIFF_DONE);
    CHECK_INT(s.proto, PROTO_POSTGRES);
    CHECK_STR(s.user, "alice");
    CHECK_STR(s.database, "shop");
    CHECK(!s.ssl_request);
    CHECK_VERDICT(postgres_sniff(STR("\0\0\0\x10\0\3\0\2user\0bo\0"), &s), SNIFF_BAD);
    CHECK_VERDICT(postgres_sniff(STR("\0\0\0\x11\0\3\0\2user\0bo\0\0"), &s), SNIFF_DONE);
    CHECK_STR(s.database, "bo");
}

TEST("a wish for encryption is told")
{
    struct sniffed s;
    CHECK_VERDICT(postgres_sniff(STR("\0\0\0\x08\4\xd2\x16\x2f"), &s), SNIFF_DONE);
    CHECK(s.ssl_request);
    CHECK_VERDICT(postgres_sniff(STR("\0\0\0\x08\4\xd2\x16\x30"), &s), SNIFF_DONE);
    CHECK(s.ssl_request);
    CHECK_VERDICT(postgres_sniff(STR("\0\0\0\x10\4\xd2\x16\x2e"
                                     "12345678"),
                                 &s),
                  SNIFF_DONE);
    CHECK(!s.ssl_request);
}

TEST("parameters that are no pairs, or name no user, are refused")
{
    CHECK_BAD(postgres_sniff, "\0\0\0\x09\0\3\0\0\0", "BadRequest");
    CHECK_BAD(postgres_sniff, "\0\0\0\x0c\0\3\0\0user", "BadRequest");
    CHECK_BAD(postgres_sniff, "\0\0\0\x0f\0\3\0\0user\0\0\0", "BadRequest");
    CHECK_BAD(postgres_sniff, "\0\0\0\x11\0\3\0\0user\0a\0\0x", "BadRequest");
    CHECK_BAD(postgres_sniff, "\0\0\0\x17\0\3\0\0user\0a\0user\0b\0\0", "BadRequest");
}

TEST("what is not PostgreSQL is said to be so at once")
{
    CHECK_SNIFF(postgres_sniff, "\1", SNIFF_NOT);
    CHECK_SNIFF(postgres_sniff, "\0\1", SNIFF_NOT);
    CHECK_SNIFF(postgres_sniff, "\0\0\0\7", SNIFF_NOT);
    CHECK_SNIFF(postgres_sniff, "\0\0\x27\x11", SNIFF_NOT);
    CHECK_SNIFF(postgres_sniff, "\0\0\0\x09\1", SNIFF_NOT);
    CHECK_SNIFF(postgres_sniff, "\0\0\0\x09\0\2", SNIFF_NOT);
    CHECK_SNIFF(postgres_sniff, "\0\0\0\x09\4\xd2\x16\x2f", SNIFF_NOT);
    CHECK_SNIFF(postgres_sniff, "\0\0\0\x08\4\xd2\x16\x31", SNIFF_NOT);
}
