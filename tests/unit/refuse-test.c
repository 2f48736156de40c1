/* What refused clients are told. HTTP/2 answers are read by nghttp2 as a client would. */
#include <nghttp2/nghttp2.h>

#include "share/sniff.h"
#include "test.h"

static const struct refusal nobody = {.reason = REASON_NO_ROUTE};

static struct str refuse(const struct sniffed *s, enum reason reason, char buf[1024])
{
    return sniff_refusal(s, &(struct refusal){.reason = reason}, STR("no such name\n"), buf, 1024);
}

TEST("HTTP/1 gets a whole answer with the status of the reason")
{
    struct sniffed s = {.proto = PROTO_HTTP, .method = STR("GET")};
    char buf[1024];
    CHECK_STR(refuse(&s, REASON_NO_ROUTE, buf), "HTTP/1.1 404 Not Found\r\n"
                                                "Content-Type: text/plain; charset=utf-8\r\n"
                                                "Content-Length: 13\r\nConnection: close\r\n\r\n"
                                                "no such name\n");
    CHECK_STR(refuse(&s, REASON_QUEUE_FULL, buf), "HTTP/1.1 503 Service Unavailable\r\n"
                                                  "Content-Type: text/plain; charset=utf-8\r\n"
                                                  "Content-Length: 13\r\nRetry-After: 1\r\n"
                                                  "Connection: close\r\n\r\nno such name\n");
    CHECK(str_starts(refuse(&s, REASON_APP_STOPPED, buf), STR("HTTP/1.1 503 ")));
    CHECK(str_starts(refuse(&s, REASON_BAD_REQUEST, buf), STR("HTTP/1.1 400 ")));
    CHECK(str_starts(refuse(&s, REASON_TWO_HOSTS, buf), STR("HTTP/1.1 400 ")));
    CHECK(str_starts(refuse(&s, REASON_NO_HOST, buf), STR("HTTP/1.1 400 ")));
    CHECK(str_starts(refuse(&s, REASON_TOO_LARGE, buf), STR("HTTP/1.1 431 ")));
}

TEST("HEAD gets the head only")
{
    struct sniffed s = {.proto = PROTO_HTTP, .method = STR("HEAD")};
    char buf[1024];
    struct str r = refuse(&s, REASON_NO_ROUTE, buf);
    CHECK(r.n > 4 && memcmp(r.p + r.n - 4, "\r\n\r\n", 4) == 0);
}

TEST("a text that does not fit is cut, and a frame that does not fit is not sent")
{
    struct sniffed s = {.proto = PROTO_HTTP, .method = STR("GET")};
    char buf[300], text[1000];
    memset(text, 'x', sizeof text);
    struct str r = sniff_refusal(&s, &nobody, (struct str){text, sizeof text}, buf, sizeof buf);
    CHECK(memmem(r.p, r.n, "Content-Length: 44\r\n", 20));
    CHECK_INT(sniff_refusal(&s, &nobody, STR("a"), buf, 40).n, 0);
    CHECK_INT(sniff_refusal(&s, &nobody, STR("a"), buf, 0).n, 0);
}

/* What a client of HTTP/2 sees. */
struct seen {
    char status[8], text[64], retry[8];
    bool ended, goaway;
    uint32_t goaway_error;
};

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct seen *seen = user;
    (void)session;
    (void)frame;
    (void)flags;
    char *to = name_len == 7 && memcmp(name, ":status", 7) == 0         ? seen->status
               : name_len == 11 && memcmp(name, "retry-after", 11) == 0 ? seen->retry
                                                                        : NULL;
    if (to)
        (void)snprintf(to, 8, "%.*s", (int)value_len, (const char *)value);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
                   size_t n, void *user)
{
    struct seen *seen = user;
    (void)session;
    (void)flags;
    CHECK_INT(stream, 1);
    (void)snprintf(seen->text, sizeof seen->text, "%.*s", (int)n, (const char *)data);
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct seen *seen = user;
    (void)session;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        seen->goaway = true;
        seen->goaway_error = frame->goaway.error_code;
    } else if (frame->hd.type != NGHTTP2_SETTINGS && frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
        seen->ended = true;
    }
    return 0;
}

static nghttp2_nv field(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), 0};
}

/* A client that has sent a request of this method and now reads `answer`. */
static struct seen h2_client(const char *method, struct str answer)
{
    struct seen seen = {.ended = false};
    nghttp2_session_callbacks *callbacks;
    nghttp2_session *session;
    (void)nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    (void)nghttp2_session_client_new(&session, callbacks, &seen);
    nghttp2_nv request[] = {field(":method", method), field(":scheme", "http"), field(":path", "/"),
                            field(":authority", "a")};
    const uint8_t *out;
    (void)nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, NULL, 0);
    (void)nghttp2_submit_request(session, NULL, request, 4, NULL, NULL);
    while (nghttp2_session_mem_send(session, &out) > 0)
        ;
    CHECK_INT(nghttp2_session_mem_recv(session, (const uint8_t *)answer.p, answer.n), answer.n);
    CHECK(!nghttp2_session_want_write(session) || seen.goaway);
    nghttp2_session_del(session);
    nghttp2_session_callbacks_del(callbacks);
    return seen;
}

TEST("an HTTP/2 client reads status, text and goodbye")
{
    struct sniffed s = {.proto = PROTO_H2, .method = STR("GET"), .stream_id = 1};
    char buf[1024];
    struct seen seen = h2_client("GET", refuse(&s, REASON_NO_ROUTE, buf));
    CHECK_TEXT(seen.status, "404");
    CHECK_TEXT(seen.text, "no such name\n");
    CHECK(seen.ended && seen.goaway);
    CHECK_INT(seen.goaway_error, NGHTTP2_NO_ERROR);
    seen = h2_client("GET", refuse(&s, REASON_QUEUE_FULL, buf));
    CHECK_TEXT(seen.status, "503");
    CHECK_TEXT(seen.retry, "1");
    s.method = STR("HEAD");
    seen = h2_client("HEAD", refuse(&s, REASON_TOO_LARGE, buf));
    CHECK_TEXT(seen.status, "431");
    CHECK_TEXT(seen.text, "");
    CHECK(seen.ended);
}

TEST("an HTTP/2 client whose request was not understood reads why the connection ends")
{
    struct sniffed s = {.proto = PROTO_H2};
    char buf[1024];
    struct seen seen = h2_client("GET", refuse(&s, REASON_BAD_REQUEST, buf));
    CHECK(seen.goaway && !seen.ended);
    CHECK_INT(seen.goaway_error, NGHTTP2_PROTOCOL_ERROR);
}

TEST("a TLS client gets a fatal alert")
{
    struct sniffed s = {.proto = PROTO_TLS};
    char buf[1024];
    struct str r = refuse(&s, REASON_NO_ROUTE, buf);
    CHECK_INT(r.n, 7);
    CHECK(str_eq(r, STR("\x15\3\3\0\2\2\x70")));
    CHECK(str_eq(refuse(&s, REASON_QUEUE_FULL, buf), STR("\x15\3\3\0\2\2\x50")));
    CHECK(str_eq(refuse(&s, REASON_BAD_REQUEST, buf), STR("\x15\3\3\0\2\2\x32")));
}

TEST("a PostgreSQL client gets an error that it prints, but none instead of encryption")
{
    struct sniffed s = {.proto = PROTO_POSTGRES};
    char buf[1024];
    CHECK(str_eq(refuse(&s, REASON_NO_ROUTE, buf), STR("E\0\0\0\x28"
                                                       "SFATAL\0VFATAL\0C3D000\0"
                                                       "Mno such name\0\0")));
    s.ssl_request = true;
    CHECK_INT(refuse(&s, REASON_NO_ROUTE, buf).n, 0);
}

TEST("a Redis client gets one line, and others nothing")
{
    struct sniffed s = {.proto = PROTO_REDIS};
    char buf[1024];
    CHECK_STR(refuse(&s, REASON_NO_ROUTE, buf), "-ERR no such name\r\n");
    s.proto = PROTO_SSH;
    CHECK_INT(refuse(&s, REASON_NO_ROUTE, buf).n, 0);
    s.proto = PROTO_NONE;
    CHECK_INT(refuse(&s, REASON_NO_ROUTE, buf).n, 0);
}
