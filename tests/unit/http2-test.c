/* HTTP/2 with prior knowledge: first requests of real clients, and frames made by hand. */
#include "base/wr.h"
#include "first-flights.h"
#include "sniff-check.h"

static const struct str curl = {(const char *)first_flight_h2_curl, sizeof first_flight_h2_curl};
static const struct str node = {(const char *)first_flight_h2_node, sizeof first_flight_h2_node};

TEST("real clients are judged at the end of their first header block")
{
    struct sniffed s;
    CHECK_PREFIXES(http2_sniff, curl);
    CHECK_VERDICT(http2_sniff(curl, &s), SNIFF_DONE);
    CHECK_INT(s.proto, PROTO_H2);
    CHECK_STR(s.host, "blog.localhost");
    CHECK_STR(s.method, "GET");
    CHECK_STR(s.path, "/x/y");
    CHECK_INT(s.stream_id, 1);
    CHECK_PREFIXES(http2_sniff, node);
    CHECK_VERDICT(http2_sniff(node, &s), SNIFF_DONE);
    CHECK_STR(s.host, "api.localhost");
    CHECK_STR(s.path, "/b");
}

struct flight {
    uint8_t bytes[SNIFF_BYTES_MAX];
    struct wr w;
};

enum { DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION };

static void add(struct flight *f, uint8_t type, uint8_t flags, uint32_t stream, struct str body)
{
    wr_be(&f->w, body.n, 3);
    wr_u8(&f->w, type);
    wr_u8(&f->w, flags);
    wr_u32(&f->w, stream);
    wr_bytes(&f->w, body.p, body.n);
}

static void begin(struct flight *f)
{
    f->w = wr_init(f->bytes, sizeof f->bytes);
    wr_bytes(&f->w, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    add(f, SETTINGS, 0, 0, STR(""));
}

static struct str bytes_of(const struct flight *f)
{
    return (struct str){(const char *)f->bytes, f->w.used};
}

/* A field as HPACK has it without any table: 0x00, name, value. */
struct field {
    const char *name, *value;
};

static struct str block(const struct field *fields, char buf[1024])
{
    struct wr w = wr_init(buf, 1024);
    for (; fields->name; fields++) {
        wr_u8(&w, 0);
        wr_u8(&w, (uint8_t)strlen(fields->name));
        wr_bytes(&w, fields->name, strlen(fields->name));
        wr_u8(&w, (uint8_t)strlen(fields->value));
        wr_bytes(&w, fields->value, strlen(fields->value));
    }
    return (struct str){buf, w.used};
}

#define REQUEST                                                                                    \
    {":method", "POST"}, {":scheme", "http"}, {":path", "/a/./b?c"},                               \
    {                                                                                              \
        ":authority", "A.B:80"                                                                     \
    }

TEST("padding, priority and continuations are stepped over")
{
    static const struct field fields[] = {REQUEST, {"x", "y"}, {NULL, NULL}};
    struct flight f;
    struct sniffed s;
    char buf[1024], first[1024] = "\3\0\0\0\0\20";
    struct str b = block(fields, buf);
    begin(&f);
    add(&f, PRIORITY, 0, 5, STR("\0\0\0\0\1"));
    add(&f, WINDOW, 0, 0, STR("\0\0\1\0"));
    add(&f, PING, 0, 0, STR("12345678"));
    add(&f, 0xbb, 0xff, 7, STR("grease"));
    memcpy(first + 6, b.p, 20);
    add(&f, HEADERS, 0x28, 7, (struct str){first, 6 + 20 + 3});
    add(&f, CONTINUATION, 0, 7, STR(""));
    add(&f, CONTINUATION, 4, 7, str_skip(b, 20));
    CHECK_PREFIXES(http2_sniff, bytes_of(&f));
    CHECK_VERDICT(http2_sniff(bytes_of(&f), &s), SNIFF_DONE);
    CHECK_STR(s.host, "a.b");
    CHECK_STR(s.path, "/a/b");
    CHECK_STR(s.method, "POST");
    CHECK_INT(s.stream_id, 7);
}

static void check_fields(const struct field *fields, enum sniff_verdict want, const char *word)
{
    struct flight f;
    struct sniffed s = {.reason = NULL};
    char buf[1024];
    begin(&f);
    add(&f, HEADERS, 5, 1, block(fields, buf));
    CHECK_VERDICT(sniff_guarded(http2_sniff, bytes_of(&f), &s), want);
    if (want == SNIFF_BAD)
        CHECK_TEXT(s.reason, word);
    CHECK_INT(s.stream_id, 1);
}

#define CHECK_FIELDS(want, word, ...)                                                              \
    do {                                                                                           \
        static const struct field fields_[] = {__VA_ARGS__, {NULL, NULL}};                         \
        check_fields(fields_, want, word);                                                         \
    } while (0)

TEST("a request has one of each pseudo-header and one name")
{
    CHECK_FIELDS(SNIFF_DONE, "", REQUEST, {"host", "a.b"});
    CHECK_FIELDS(SNIFF_DONE, "", {":method", "GET"}, {":scheme", "http"}, {":path", "/"},
                 {"host", "a.b"});
    CHECK_FIELDS(SNIFF_DONE, "", {":method", "CONNECT"}, {":authority", "a:1"});
    CHECK_FIELDS(SNIFF_DONE, "", {":method", "OPTIONS"}, {":scheme", "http"}, {":path", "*"},
                 {":authority", "a"});
    CHECK_FIELDS(SNIFF_BAD, "NoHost", {":method", "GET"}, {":scheme", "http"}, {":path", "/"});
    CHECK_FIELDS(SNIFF_BAD, "TwoHosts", REQUEST, {"host", "a.b"}, {"host", "a.b"});
    CHECK_FIELDS(SNIFF_BAD, "BadRequest", REQUEST, {"host", "a.c"});
    CHECK_FIELDS(SNIFF_BAD, "BadRequest", REQUEST, {":path", "/"});
    CHECK_FIELDS(SNIFF_BAD, "BadRequest", REQUEST, {":authority", "a.b"});
    CHECK_FIELDS(SNIFF_BAD, "BadRequest", {"x", "y"}, REQUEST);
    CHECK_FIELDS(SNIFF_BAD, "BadRequest", REQUEST, {":status", "200"});
    CHECK_FIELDS(SNIFF_BAD, "BadRequest", REQUEST, {"Host", "a.b"});
    CHECK_FIELDS(SNIFF_BAD, "BadRequest", REQUEST, {"x", "a\nb"});
    CHECK_FIELDS(SNIFF_BAD, "BadRequest", {":method", "GET"}, {":authority", "a"});
    CHECK_FIELDS(SNIFF_BAD, "BadRequest", {":method", "G T"}, {":authority", "a"});
    CHECK_FIELDS(SNIFF_BAD, "BadRequest", {":scheme", "http"}, {":path", "/"}, {"host", "a"});
    CHECK_FIELDS(SNIFF_BAD, "BadRequest", {":method", "GET"}, {":scheme", "http"}, {":path", "a"});
}

static void check_frame(uint8_t type, uint8_t flags, uint32_t stream, struct str body)
{
    struct flight f;
    struct sniffed s = {.reason = NULL};
    begin(&f);
    add(&f, type, flags, stream, body);
    CHECK_VERDICT(sniff_guarded(http2_sniff, bytes_of(&f), &s), SNIFF_BAD);
    CHECK_TEXT(s.reason, "BadRequest");
}

TEST("frames that may not stand in front of a request are refused")
{
    check_frame(DATA, 0, 1, STR("x"));
    check_frame(RST, 0, 1, STR("\0\0\0\0"));
    check_frame(PUSH, 4, 1, STR("\0\0\0\2"));
    check_frame(CONTINUATION, 4, 1, STR("\x82"));
    check_frame(GOAWAY, 0, 0, STR("\0\0\0\0\0\0\0\0"));
    check_frame(SETTINGS, 0, 0, STR("12345"));
    check_frame(SETTINGS, 0, 1, STR(""));
    check_frame(PING, 0, 0, STR("1234567"));
    check_frame(WINDOW, 0, 0, STR("123"));
    check_frame(PRIORITY, 0, 0, STR("12345"));
    check_frame(HEADERS, 4, 0, STR("\x82"));
    check_frame(HEADERS, 4, 2, STR("\x82"));
    check_frame(HEADERS, 12, 1, STR("\2\x82"));
    check_frame(HEADERS, 0x24, 1, STR("1234"));
    check_frame(HEADERS, 4, 1, STR("\xff\xff\xff\xff\xff\xff\xff"));
    check_frame(HEADERS, 4, 1, STR(""));
    CHECK_BAD(http2_sniff, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\1\5\0\0\0\1", "BadRequest");
    CHECK_BAD(http2_sniff, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\x40\1\4\0\0\0\0\0", "BadRequest");
}

TEST("an endless row of harmless frames is refused")
{
    struct flight f;
    struct sniffed s;
    begin(&f);
    for (int i = 0; i < 100; i++)
        add(&f, PING, 0, 0, STR("12345678"));
    CHECK_VERDICT(sniff_guarded(http2_sniff, bytes_of(&f), &s), SNIFF_BAD);
}

TEST("what differs from the preface is not HTTP/2")
{
    CHECK_SNIFF(http2_sniff, "PRI * HTTP/1", SNIFF_NOT);
    CHECK_SNIFF(http2_sniff, "G", SNIFF_NOT);
}
