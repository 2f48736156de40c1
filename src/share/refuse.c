/* What a refused client is told: what was sniffed of it and a reason come in; a whole answer in its
 * own protocol goes out, written into the caller's buffer. Nothing is sent here. */
#include "base/wr.h"
#include "share/sniff.h"

#include <stdio.h>

/* Room that is left for everything but the text, in every protocol. */
#define REFUSAL_FRAME 256
/* RFC 9113 4.2: no larger frame without the client's permission. */
#define H2_DATA_MAX 16384

/* RFC 8446 6, RFC 6066 9 */
enum { ALERT_DECODE_ERROR = 50, ALERT_INTERNAL_ERROR = 80, ALERT_UNRECOGNIZED_NAME = 112 };
/* RFC 9113 6 and 7 */
enum { H2_DATA = 0, H2_HEADERS = 1, H2_SETTINGS = 4, H2_GOAWAY = 7 };
enum { H2_END_STREAM = 1, H2_ACK = 1, H2_END_HEADERS = 4 };
enum { H2_NO_ERROR = 0, H2_PROTOCOL_ERROR = 1, H2_ENHANCE_YOUR_CALM = 11 };

/* How one kind of refusal is said where there is no HTTP. */
struct saying {
    uint8_t alert;        /* TLS */
    uint8_t h2_error;     /* HTTP/2, when no request can be answered */
    const char *sqlstate; /* PostgreSQL */
};

static const struct saying sayings[] = {
    [REASON_KIND_NOBODY] = {ALERT_UNRECOGNIZED_NAME, H2_NO_ERROR, "3D000"},
    [REASON_KIND_BAD] = {ALERT_DECODE_ERROR, H2_PROTOCOL_ERROR, "08P01"},
    [REASON_KIND_LARGE] = {ALERT_DECODE_ERROR, H2_ENHANCE_YOUR_CALM, "08P01"},
    [REASON_KIND_BUSY] = {ALERT_INTERNAL_ERROR, H2_NO_ERROR, "57P03"},
};

/* A refusal with everything that is said of it worked out. */
struct said {
    uint16_t code;
    char status[8];
    char retry[12]; /* empty: nothing is said of it */
    const struct saying *saying;
};

static struct said refusal_say(const struct refusal *why)
{
    const struct reason_info *info = reason_info(why->reason);
    struct said f = {.code = why->status ? why->status : info->status,
                     .saying = &sayings[info->kind]};
    /* RFC 9110 15: three digits. */
    if (f.code < 400 || f.code > 599)
        f.code = 503;
    (void)snprintf(f.status, sizeof f.status, "%u", f.code);
    if (f.code == 503 || f.code == 429)
        (void)snprintf(f.retry, sizeof f.retry, "%u", why->retry_s ? why->retry_s : 1);
    return f;
}

static void put(struct wr *w, const char *text)
{
    wr_bytes(w, text, strlen(text));
}

/* RFC 9110 9.3.2: no content in an answer to HEAD. */
static bool wants_content(const struct sniffed *s)
{
    return !str_eq(s->method, STR("HEAD"));
}

static void http1_refuse(struct wr *w, const struct sniffed *s, const struct said *f,
                         struct str text)
{
    char head[REFUSAL_FRAME], retry[40] = "";
    if (f->retry[0])
        (void)snprintf(retry, sizeof retry, "Retry-After: %s\r\n", f->retry);
    (void)snprintf(head, sizeof head,
                   "HTTP/1.1 %s %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                   "Content-Length: %zu\r\n%sConnection: close\r\n\r\n",
                   f->status, reason_phrase(f->code), text.n, retry);
    put(w, head);
    if (wants_content(s))
        wr_bytes(w, text.p, text.n);
}

static void h2_frame(struct wr *w, size_t n, uint8_t type, uint8_t flags, uint32_t stream)
{
    wr_be(w, n, 3);
    wr_u8(w, type);
    wr_u8(w, flags);
    wr_u32(w, stream);
}

/* RFC 7541 6.2.2: a literal field without indexing, whose name has this number in the static table
 * (appendix A). Values are shorter than 127 bytes, so their length is one byte. */
static void h2_field(struct wr *w, uint8_t name, const char *value)
{
    if (name < 15) {
        wr_u8(w, name);
    } else {
        wr_u8(w, 15);
        wr_u8(w, (uint8_t)(name - 15));
    }
    wr_u8(w, (uint8_t)strlen(value));
    put(w, value);
}

static void h2_answer(struct wr *w, const struct sniffed *s, const struct said *f, struct str text)
{
    enum { STATUS = 8, CONTENT_LENGTH = 28, CONTENT_TYPE = 31, RETRY_AFTER = 53 };
    uint8_t block[96];
    struct wr b = wr_init(block, sizeof block);
    char length[24];
    (void)snprintf(length, sizeof length, "%zu", text.n);
    h2_field(&b, STATUS, f->status);
    h2_field(&b, CONTENT_TYPE, "text/plain; charset=utf-8");
    h2_field(&b, CONTENT_LENGTH, length);
    if (f->retry[0])
        h2_field(&b, RETRY_AFTER, f->retry);
    bool content = wants_content(s);
    uint8_t flags = H2_END_HEADERS | (content ? 0 : H2_END_STREAM);
    h2_frame(w, b.used, H2_HEADERS, flags, s->stream_id);
    wr_bytes(w, block, b.used);
    if (!content)
        return;
    h2_frame(w, text.n, H2_DATA, H2_END_STREAM, s->stream_id);
    wr_bytes(w, text.p, text.n);
}

static void h2_refuse(struct wr *w, const struct sniffed *s, const struct said *f, struct str text)
{
    if (text.n > H2_DATA_MAX)
        text.n = H2_DATA_MAX;
    h2_frame(w, 0, H2_SETTINGS, 0, 0);
    h2_frame(w, 0, H2_SETTINGS, H2_ACK, 0);
    if (s->stream_id)
        h2_answer(w, s, f, text);
    h2_frame(w, 8, H2_GOAWAY, 0, 0);
    wr_u32(w, s->stream_id);
    wr_u32(w, s->stream_id ? H2_NO_ERROR : f->saying->h2_error);
}

/* RFC 8446 6: a record with a fatal alert. */
static void tls_refuse(struct wr *w, const struct said *f)
{
    const uint8_t record[] = {21, 3, 3, 0, 2, 2, f->saying->alert};
    wr_bytes(w, record, sizeof record);
}

static void postgres_field(struct wr *w, char type, struct str value)
{
    wr_u8(w, (uint8_t)type);
    wr_bytes(w, value.p, value.n);
    wr_u8(w, 0);
}

/* ErrorResponse. In answer to an SSLRequest nothing but one letter would be understood. */
static void postgres_refuse(struct wr *w, const struct sniffed *s, const struct said *f,
                            struct str text)
{
    if (s->ssl_request)
        return;
    struct str state = str_of(f->saying->sqlstate);
    const char *nul = text.n > 0 ? memchr(text.p, 0, text.n) : NULL;
    if (nul)
        text.n = (size_t)(nul - text.p);
    while (text.n > 0 && text.p[text.n - 1] == '\n')
        text.n--;
    size_t n = 4 + 2 * (1 + STR("FATAL").n + 1) + (1 + state.n + 1) + (1 + text.n + 1) + 1;
    wr_u8(w, 'E');
    wr_u32(w, (uint32_t)n);
    postgres_field(w, 'S', STR("FATAL"));
    postgres_field(w, 'V', STR("FATAL"));
    postgres_field(w, 'C', state);
    postgres_field(w, 'M', text);
    wr_u8(w, 0);
}

/* A simple error is one line: only the first of the text. */
static void redis_refuse(struct wr *w, struct str text)
{
    size_t n = 0;
    while (n < text.n && text.p[n] != '\r' && text.p[n] != '\n')
        n++;
    put(w, "-ERR ");
    wr_bytes(w, text.p, n);
    put(w, "\r\n");
}

struct str sniff_refusal(const struct sniffed *s, const struct refusal *why, struct str text,
                         char *buf, size_t size)
{
    struct wr w = wr_init(buf, size);
    const struct said said = refusal_say(why), *f = &said;
    size_t room = size > REFUSAL_FRAME ? size - REFUSAL_FRAME : 0;
    if (text.n > room)
        text.n = room;
    switch (s->proto) {
    case PROTO_HTTP:
        http1_refuse(&w, s, f, text);
        break;
    case PROTO_H2:
        h2_refuse(&w, s, f, text);
        break;
    case PROTO_TLS:
        tls_refuse(&w, f);
        break;
    case PROTO_POSTGRES:
        postgres_refuse(&w, s, f, text);
        break;
    case PROTO_REDIS:
        redis_refuse(&w, text);
        break;
    default:
        break;
    }
    return (struct str){buf, wr_ok(&w) ? w.used : 0};
}
