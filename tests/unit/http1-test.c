/* HTTP/1.x heads: what routes them, and what is refused. */
#include "sniff-check.h"

static const char *const good[] = {
    "GET / HTTP/1.1\r\nHost: blog.localhost\r\n\r\n",
    "POST /api/v1?q=1 HTTP/1.1\r\nHost: a:8080\r\nContent-Length: 3\r\nX-Y: \tz \x80\xff\r\n\r\n",
    "GET http://shop.example/x HTTP/1.1\r\nHost: other.example\r\n\r\n",
    "CONNECT db.example:443 HTTP/1.1\r\nHost: db.example:443\r\n\r\n",
    "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: blog.localhost\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.0\r\nUser-Agent: old\r\n\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "propfind /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "GET / HTTP/1.1\r\nhOST:a\r\n\r\n",
};

TEST("a request is judged when its head is whole, and not before")
{
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_PREFIXES(http1_sniff, str_of(good[i]));
}

#define CHECK_REQUEST(text, want_host, want_path)                                                  \
    do {                                                                                           \
        struct sniffed r_;                                                                         \
        CHECK_VERDICT(http1_sniff(str_of(text), &r_), SNIFF_DONE);                                 \
        CHECK_STR(r_.host, want_host);                                                             \
        CHECK_STR(r_.path, want_path);                                                             \
    } while (0)

TEST("host and path come from the place that counts")
{
    CHECK_REQUEST(good[0], "blog.localhost", "/");
    CHECK_REQUEST(good[1], "a", "/api/v1");
    CHECK_REQUEST(good[2], "shop.example", "/x");
    CHECK_REQUEST(good[3], "db.example", "/");
    CHECK_REQUEST(good[4], "2001:db8::1", "/");
    CHECK_REQUEST(good[5], "blog.localhost", "/");
    CHECK_REQUEST(good[6], "", "/");
    CHECK_REQUEST(good[9], "::1", "/x");
    CHECK_REQUEST(good[12], "", "/");
    CHECK_REQUEST("GET http://h?q HTTP/1.1\r\nHost: x\r\n\r\n", "h", "/");
    CHECK_REQUEST("GET HTTP://H.:80/.. HTTP/1.0\r\n\r\n", "h", "/");
    CHECK_REQUEST("GET /a HTTP/1.1\r\nHost: a.B.\r\n\r\nGET /b HTTP/1.1\r\n", "a.b", "/a");
}

TEST("method and version are told")
{
    struct sniffed s;
    CHECK_VERDICT(http1_sniff(str_of(good[1]), &s), SNIFF_DONE);
    CHECK_STR(s.method, "POST");
    CHECK_INT(s.proto, PROTO_HTTP);
    CHECK(!s.http10);
    CHECK_VERDICT(http1_sniff(str_of(good[6]), &s), SNIFF_DONE);
    CHECK(s.http10);
}

TEST("a request without a name or with two is refused")
{
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\n\r\n", "NoHost");
    CHECK_BAD(http1_sniff, "GET http://a/ HTTP/1.1\r\n\r\n", "NoHost");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "TwoHosts");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n", "TwoHosts");
}

TEST("two lengths, or a length and a coding, are refused")
{
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
    CHECK_BAD(http1_sniff, POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
              "BadRequest");
    CHECK_BAD(http1_sniff, POST "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
              "BadRequest");
    CHECK_BAD(http1_sniff, POST "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, POST "Content-Length: 1, 1\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, POST "Content-Length: +1\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, POST "Content-Length:\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, POST "Transfer-Encoding: xchunked\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
              "BadRequest");
    CHECK_BAD(http1_sniff, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "BadRequest");
#undef POST
}

TEST("a head that two servers may read in two ways is refused")
{
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\nHost: a\n\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\nHost: a\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\nHost: a\r\n\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\nHost : a\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\n Host: a\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\nX: \x7f\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\n: a\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\nHost\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET /\0 HTTP/1.1\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET /a b HTTP/1.1\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1 HTTP/1.1\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1 \r\n", "BadRequest");
}

TEST("a target or a version that the RFC does not know is refused")
{
    CHECK_BAD(http1_sniff, "GET / HTTP/2.0\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.10\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/9\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET * HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET http://u@h/ HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET x:y HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "CONNECT /a HTTP/1.1\r\nHost: a\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "BadRequest");
    CHECK_BAD(http1_sniff, "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", "BadRequest");
}

TEST("what is not HTTP is said to be so at once")
{
    CHECK_SNIFF(http1_sniff, "SSH-", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "\x16", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "\0", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "<", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "\n", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "\rG", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "\r\n\r\n\r\n\r\n\r\n", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "PING\r\n", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "*1\r\n", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "SET foo ", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "EHLO mail.example\r\n", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "INVITE sip:bob@example SIP/2.0\r\n", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "OPTIONS rtsp://a/b RTSP/1.0\r\n", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "GET /\r\n", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "GET /a b\r\n", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "PRI * HTTP/2", SNIFF_NOT);
    CHECK_SNIFF(http1_sniff, "a-token-that-no-method-is-as-long-as", SNIFF_NOT);
}
