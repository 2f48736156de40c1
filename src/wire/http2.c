/* HTTP/2 with prior knowledge: the peeked bytes come in; method, host and path of the first request
 * go out. Frames in front of the first HEADERS are stepped over, its header block is inflated by
 * nghttp2, whose inflater is the only thing that is allocated, and freed before the answer. */
#include <nghttp2/nghttp2.h>

#include "base/rd.h"
#include "wire/scratch.h"
#include "wire/sniffed.h"
#include "wire/uri.h"

/* RFC 9113 3.4: the connection preface. */
#define H2_PREFACE STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
/* RFC 9113 4.2: all implementations MUST be capable of receiving frames up to 2^14 octets; larger
 * ones need a SETTINGS of ours, which no client has seen yet. */
#define H2_FRAME_MAX  16384
#define H2_FRAMES_MAX 64
/* Parts of one header block: HEADERS and its CONTINUATIONs. */
#define H2_PARTS_MAX  8
#define H2_FIELDS_MAX 256
#define H2_METHOD_MAX 24

struct frame {
    uint8_t type, flags;
    uint32_t stream;
    struct str body;
};

struct block {
    struct str parts[H2_PARTS_MAX];
    unsigned count;
    uint32_t stream;
    bool end;
};

/* What the fields of the header block say. A count is how often the field was there. */
struct request {
    struct sniffed *out;
    struct str host, authority;
    unsigned fields, methods, schemes, paths, authorities, protocols, hosts;
    const char *reason;
};

static enum sniff_verdict frame_read(struct rd *r, struct frame *ret)
{
    if (r->left < 9)
        return SNIFF_MORE;
    size_t n = rd_u24(r);
    struct frame f = {.type = rd_u8(r), .flags = rd_u8(r)};
    /* RFC 9113 4.1: the reserved bit MUST be ignored when receiving. */
    f.stream = rd_u32(r) & 0x7fffffff;
    if (n > H2_FRAME_MAX)
        return SNIFF_BAD;
    if (r->left < n)
        return SNIFF_MORE;
    f.body = rd_bytes(r, n);
    *ret = f;
    return SNIFF_DONE;
}

/* Frames that a client may send before its first request, and their sizes (RFC 9113 6). Types that
 * nobody knows MUST be ignored (5.5). */
static bool frame_may_precede(const struct frame *f)
{
    switch (f->type) {
    case NGHTTP2_SETTINGS:
        return f->stream == 0 && f->body.n % 6 == 0 &&
               (!(f->flags & NGHTTP2_FLAG_ACK) || !f->body.n);
    case NGHTTP2_PING:
        return f->stream == 0 && f->body.n == 8;
    case NGHTTP2_WINDOW_UPDATE:
        return f->body.n == 4;
    case NGHTTP2_PRIORITY:
        return f->stream != 0 && f->body.n == 5;
    default:
        return f->type > NGHTTP2_CONTINUATION;
    }
}

/* The header block fragment of a HEADERS frame: without padding and priority (RFC 9113 6.2). */
static bool headers_open(const struct frame *f, struct block *b)
{
    struct rd r = rd_init(f->body.p, f->body.n);
    size_t pad = f->flags & NGHTTP2_FLAG_PADDED ? rd_u8(&r) : 0;
    if (f->flags & NGHTTP2_FLAG_PRIORITY)
        (void)rd_bytes(&r, 5);
    /* RFC 9113 5.1.1: streams initiated by a client MUST use odd-numbered identifiers. */
    if (!rd_ok(&r) || pad > r.left || f->stream % 2 == 0)
        return false;
    b->parts[b->count++] = rd_bytes(&r, r.left - pad);
    b->stream = f->stream;
    b->end = f->flags & NGHTTP2_FLAG_END_HEADERS;
    return true;
}

/* RFC 9113 6.10: nothing but CONTINUATION of the same stream may follow an open header block. */
static bool headers_continue(const struct frame *f, struct block *b)
{
    if (f->type != NGHTTP2_CONTINUATION || f->stream != b->stream || b->count == H2_PARTS_MAX)
        return false;
    b->parts[b->count++] = f->body;
    b->end = f->flags & NGHTTP2_FLAG_END_HEADERS;
    return true;
}

/* Collects the first whole header block. */
static enum sniff_verdict block_find(struct str in, struct block *b)
{
    struct rd r = rd_init(in.p, in.n);
    for (unsigned i = 0; i < H2_FRAMES_MAX; i++) {
        struct frame f;
        enum sniff_verdict v = frame_read(&r, &f);
        if (v != SNIFF_DONE)
            return v;
        /* RFC 9113 3.4: the preface MUST be followed by a SETTINGS frame. */
        if (i == 0 && f.type != NGHTTP2_SETTINGS)
            return SNIFF_BAD;
        bool ok = b->count > 0                ? headers_continue(&f, b)
                  : f.type == NGHTTP2_HEADERS ? headers_open(&f, b)
                                              : frame_may_precede(&f);
        if (!ok)
            return SNIFF_BAD;
        if (b->end)
            return SNIFF_DONE;
    }
    return SNIFF_BAD;
}

static bool take_method(struct request *q, struct str value)
{
    if (value.n == 0 || uri_token_span(value) < value.n || value.n > H2_METHOD_MAX ||
        q->methods++ > 0)
        return false;
    q->out->method = sniffed_keep(q->out, value);
    return q->out->method.p;
}

static bool take_path(struct request *q, struct str value)
{
    const char *query = value.n > 0 ? memchr(value.p, '?', value.n) : NULL;
    if (memchr(value.p ? value.p : "", '#', value.n))
        return false;
    if (query)
        value.n = (size_t)(query - value.p);
    if (q->paths++ > 0)
        return false;
    /* RFC 9113 8.3.1: an OPTIONS without a path has the value "*". */
    return uri_path(str_eq(value, STR("*")) ? STR("/") : value, q->out, &q->out->path) == 0;
}

/* RFC 9113 8.3: pseudo-header fields stand in front of all others, and each at most once. */
static bool take_pseudo(struct request *q, struct str name, struct str value)
{
    if (q->fields > 0)
        return false;
    if (str_eq(name, STR(":method")))
        return take_method(q, value);
    if (str_eq(name, STR(":path")))
        return take_path(q, value);
    if (str_eq(name, STR(":scheme")))
        return value.n > 0 && q->schemes++ == 0;
    if (str_eq(name, STR(":protocol")))
        return q->protocols++ == 0;
    if (!str_eq(name, STR(":authority")) || q->authorities++ > 0)
        return false;
    return uri_host(value, q->out, &q->authority) == 0;
}

static bool take_field(struct request *q, const nghttp2_nv *nv)
{
    struct str name = {(const char *)nv->name, nv->namelen};
    struct str value = {(const char *)nv->value, nv->valuelen};
    if (!nghttp2_check_header_name(nv->name, nv->namelen) ||
        !nghttp2_check_header_value(nv->value, nv->valuelen))
        return false;
    if (name.p[0] == ':')
        return take_pseudo(q, name, value);
    if (++q->fields > H2_FIELDS_MAX) {
        q->reason = "TooLarge";
        return false;
    }
    if (!str_eq(name, STR("host")))
        return true;
    if (q->hosts++ > 0) {
        q->reason = "TwoHosts";
        return false;
    }
    return uri_host(value, q->out, &q->host) == 0;
}

/* One part of the header block. */
static bool part_inflate(nghttp2_hd_inflater *inflater, struct str part, bool last,
                         struct request *q)
{
    for (;;) {
        nghttp2_nv nv;
        int flags = 0;
        ssize_t n =
            nghttp2_hd_inflate_hd2(inflater, &nv, &flags, (const uint8_t *)part.p, part.n, last);
        if (n < 0 || ((flags & NGHTTP2_HD_INFLATE_EMIT) && !take_field(q, &nv)))
            return false;
        part = str_skip(part, (size_t)n);
        if (flags & NGHTTP2_HD_INFLATE_FINAL)
            return true;
        if (!(flags & NGHTTP2_HD_INFLATE_EMIT) && part.n == 0)
            return !last;
    }
}

static bool block_inflate(const struct block *b, struct request *q)
{
    nghttp2_hd_inflater *inflater;
    if (nghttp2_hd_inflate_new(&inflater) != 0) {
        q->reason = "NoMemory";
        return false;
    }
    bool ok = true;
    for (unsigned i = 0; ok && i < b->count; i++)
        ok = part_inflate(inflater, b->parts[i], i + 1 == b->count, q);
    nghttp2_hd_inflate_del(inflater);
    return ok;
}

/* RFC 9113 8.3.1: exactly one :method, :scheme and :path, but for a plain CONNECT (8.5), which has
 * only its :authority. */
static enum sniff_verdict judge(struct request *q)
{
    bool connect = str_eq(q->out->method, STR("CONNECT")) && q->protocols == 0;
    unsigned want = connect ? 0 : 1;
    if (q->methods != 1 || q->schemes != want || q->paths != want)
        return sniffed_bad(q->out, "BadRequest");
    if (connect && uri_path(STR("/"), q->out, &q->out->path) < 0)
        return sniffed_bad(q->out, "BadRequest");
    if (q->authorities + q->hosts == 0)
        return sniffed_bad(q->out, "NoHost");
    /* RFC 9113 8.3.1: a Host that differs from :authority SHOULD be treated as malformed. */
    if (q->authorities && q->hosts && !str_eq(q->authority, q->host))
        return sniffed_bad(q->out, "BadRequest");
    q->out->host = q->authorities ? q->authority : q->host;
    return SNIFF_DONE;
}

enum sniff_verdict http2_sniff(struct str in, struct sniffed *out)
{
    enum sniff_verdict v = sniff_starts(in, H2_PREFACE);
    if (v != SNIFF_DONE)
        return v;
    struct block b = {.count = 0};
    sniffed_reset(out, PROTO_H2);
    v = block_find(str_skip(in, H2_PREFACE.n), &b);
    out->stream_id = b.stream;
    if (v == SNIFF_BAD)
        return sniffed_bad(out, "BadRequest");
    if (v == SNIFF_MORE)
        return v;
    struct request q = {.out = out};
    if (!block_inflate(&b, &q))
        return sniffed_bad(out, q.reason ? q.reason : "BadRequest");
    return judge(&q);
}
