/* XMPP stream headers. */
#include "sniff-check.h"

static const char *const good[] = {
    "<?xml version='1.0'?><stream:stream xmlns='jabber:client' to='Im.Example' version='1.0'>",
    "<stream:stream to=\"im.example\">",
    "<?xml version='1.0'?>\r\n<stream:stream\n  xmlns:stream = 'a>b' to= 'im.example'\t>",
    "<stream:stream>",
    "<stream:stream to='b\xc3\xbc"
    "cher.example'>",
};

TEST("a stream header is judged at its end, and its `to` is the host")
{
    const char *hosts[] = {"im.example", "im.example", "im.example", "", ""};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct sniffed s;
        CHECK_PREFIXES(xmpp_sniff, str_of(good[i]));
        CHECK_VERDICT(xmpp_sniff(str_of(good[i]), &s), SNIFF_DONE);
        CHECK_INT(s.proto, PROTO_XMPP);
        CHECK_STR(s.host, hosts[i]);
    }
}

TEST("a header that is no XML, or has two names, is refused")
{
    CHECK_BAD(xmpp_sniff, "<stream:stream to='a' to='b'>", "BadRequest");
    CHECK_BAD(xmpp_sniff, "<stream:stream to='a'x='b'>", "BadRequest");
    CHECK_BAD(xmpp_sniff, "<stream:stream to='a b'>", "BadRequest");
    CHECK_BAD(xmpp_sniff, "<stream:stream to='a<'>", "BadRequest");
    CHECK_BAD(xmpp_sniff, "<stream:stream to=a>", "BadRequest");
    CHECK_BAD(xmpp_sniff, "<stream:stream to>", "BadRequest");
    CHECK_BAD(xmpp_sniff, "<stream:stream to x", "BadRequest");
    CHECK_BAD(xmpp_sniff, "<stream:stream \0='a'>", "BadRequest");
    CHECK_BAD(xmpp_sniff, "<stream:stream a='b'/>", "BadRequest");
}

TEST("what is not XMPP is said to be so at once")
{
    CHECK_SNIFF(xmpp_sniff, "<p", SNIFF_NOT);
    CHECK_SNIFF(xmpp_sniff, "<?xmlx", SNIFF_NOT);
    CHECK_SNIFF(xmpp_sniff, "<?xml \0", SNIFF_NOT);
    CHECK_SNIFF(xmpp_sniff, "<?xml version='1.0'?><html", SNIFF_NOT);
    CHECK_SNIFF(xmpp_sniff, "<stream:streams", SNIFF_NOT);
    CHECK_SNIFF(xmpp_sniff,
                "<?xml                                                                "
                "                                                                     ",
                SNIFF_NOT);
}
