/* HTTP/1.x: the peeked bytes come in; method, host and path of the first request go out. The whole
 * head is needed, and it is read as strictly as RFC 9112 allows: whatever two servers could read in
 * two ways is refused here, so that nobody behind us is asked to guess. Memory is the caller's. */
#include <errno.h>

#include "wire/scratch.h"
#include "wire/sniffed.h"
#include "wire/uri.h"

/* RFC 9112 2.2: a server SHOULD ignore at least one empty line received before the request-line. */
#define HTTP1_EMPTY_LINES_MAX 4
/* The longest registered method has 17 characters (UPDATEREDIRECTREF). */
#define HTTP1_METHOD_MAX 24

struct head {
    struct str target;
    struct str host;         /* of the Host field */
    struct str target_host;  /* of an absolute-form or authority-form target */
    struct str length;       /* value of Content-Length */
    unsigned hosts, codings; /* how many Host and Transfer-Encoding fields */
    bool has_length, has_form_host;
};

/* Takes one line off `rest`, without its line end. A bare LF is -EBADMSG, and no LF yet -EAGAIN. */
static int line_take(struct str *rest, struct str *ret_line)
{
    const char *lf = rest->n > 0 ? memchr(rest->p, '\n', rest->n) : NULL;
    if (!lf)
        return -EAGAIN;
    size_t n = (size_t)(lf - rest->p);
    if (n == 0 || rest->p[n - 1] != '\r')
        return -EBADMSG;
    *ret_line = (struct str){rest->p, n - 1};
    *rest = str_skip(*rest, n + 1);
    return 0;
}

static bool is_visible(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x21 || s.p[i] > 0x7e)
            return false;
    return true;
}

/* In what follows the method and its space: do all forms but the origin-form keep to visible
 * characters, one space and the version? `connect`: an authority need not have a scheme. */
static enum sniff_verdict guess_target(struct str rest, bool connect)
{
    size_t n = 0;
    bool colon = connect;
    while (n < rest.n && rest.p[n] != ' ') {
        char c = rest.p[n++];
        if (c < 0x21 || c > 0x7e)
            return SNIFF_NOT;
        if (c == ':')
            colon = true;
        else if (!colon && !ascii_is_alpha(c) && !ascii_is_digit(c) && !strchr("+-.", c))
            return SNIFF_NOT;
    }
    if (n == rest.n)
        return SNIFF_MORE;
    if (!colon || n == 0)
        return SNIFF_NOT;
    return sniff_starts(str_skip(rest, n + 1), STR("HTTP/1.")) == SNIFF_NOT ? SNIFF_NOT
                                                                            : SNIFF_MORE;
}

/* May this be the beginning of a request line? MORE when it may, or is one. With a path in the
 * place of a target nothing but HTTP is likely any more, so odd bytes are BAD from there on. */
static enum sniff_verdict guess_line(struct str line)
{
    size_t n = uri_token_span(line);
    if (n > HTTP1_METHOD_MAX || str_starts(line, STR("SSH-")))
        return SNIFF_NOT;
    if (n == line.n)
        return SNIFF_MORE;
    if (n == 0 || line.p[n] != ' ')
        return SNIFF_NOT;
    struct str rest = str_skip(line, n + 1);
    if (rest.n == 0)
        return SNIFF_MORE;
    if (rest.p[0] == '*')
        return sniff_starts(rest, STR("* HTTP/1.")) == SNIFF_NOT ? SNIFF_NOT : SNIFF_MORE;
    if (rest.p[0] != '/')
        return guess_target(rest, str_starts(line, STR("CONNECT ")));
    for (size_t i = 0; i < rest.n; i++)
        if (rest.p[i] < 0x20 || rest.p[i] > 0x7e)
            return SNIFF_BAD;
    return SNIFF_MORE;
}

/* A whole line: "method SP target SP HTTP/1.x". */
static enum sniff_verdict request_line(struct str line, struct head *h, struct sniffed *out)
{
    const char *first = line.n > 0 ? memchr(line.p, ' ', line.n) : NULL;
    const char *last = line.n > 0 ? memrchr(line.p, ' ', line.n) : NULL;
    if (!first || first == last)
        return SNIFF_NOT;
    struct str version = str_skip(line, (size_t)(last - line.p) + 1);
    if (!str_starts(version, STR("HTTP/")))
        return memmem(line.p, line.n, " HTTP/1.", 8) ? SNIFF_BAD : SNIFF_NOT;
    out->method = (struct str){line.p, (size_t)(first - line.p)};
    h->target = (struct str){first + 1, (size_t)(last - first) - 1};
    if (version.n != 8 || !str_starts(version, STR("HTTP/1.")) || !ascii_is_digit(version.p[7]))
        return SNIFF_BAD;
    out->http10 = version.p[7] == '0';
    return h->target.n > 0 && is_visible(h->target) ? SNIFF_DONE : SNIFF_BAD;
}

/* Puts the first line into *h and takes it off *rest. */
static enum sniff_verdict first_line(struct str *rest, struct head *h, struct sniffed *out)
{
    const char *lf = rest->n > 0 ? memchr(rest->p, '\n', rest->n) : NULL;
    struct str line = {rest->p, lf ? (size_t)(lf - rest->p) : rest->n};
    bool cr = line.n > 0 && line.p[line.n - 1] == '\r';
    line.n -= cr;
    enum sniff_verdict v = guess_line(line);
    if (!lf)
        return v;
    if (v == SNIFF_MORE)
        v = request_line(line, h, out);
    if (v == SNIFF_DONE && !cr)
        return SNIFF_BAD;
    *rest = str_skip(*rest, (size_t)(lf - rest->p) + 1);
    return v;
}

static struct str trim(struct str s)
{
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = str_skip(s, 1);
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
        s.n--;
    return s;
}

/* Without a branch in the loop the compiler makes vectors of it: most of a head is values. */
static bool is_field_value(struct str s)
{
    bool odd = false;
    for (size_t i = 0; i < s.n; i++)
        odd |= ((uint8_t)s.p[i] < 0x20 && s.p[i] != '\t') || s.p[i] == 0x7f;
    return !odd;
}

static bool take_length(struct head *h, struct str value)
{
    for (size_t i = 0; i < value.n; i++)
        if (!ascii_is_digit(value.p[i]))
            return false;
    if (value.n == 0 || (h->has_length && !str_eq(h->length, value)))
        return false;
    h->has_length = true;
    h->length = value;
    return true;
}

static const char *take_host(struct head *h, struct str value, struct sniffed *out)
{
    if (h->hosts++ > 0)
        return "TwoHosts";
    /* RFC 9112 3.2: the field value is empty when the target has no authority. */
    if (value.n > 0 && uri_host(value, out, &h->host) < 0)
        return "BadRequest";
    return NULL;
}

/* One field line. NULL, or why the request is refused. A line that is folded begins with a space,
 * which no name does (RFC 9112 5.2: a server MUST reject or unfold). */
static const char *take_field(struct head *h, struct str line, struct sniffed *out)
{
    size_t n = uri_token_span(line);
    if (n == 0 || n == line.n || line.p[n] != ':')
        return "BadRequest";
    struct str name = {line.p, n}, value = trim(str_skip(line, n + 1));
    if (!is_field_value(value))
        return "BadRequest";
    if (str_eq_nocase(name, STR("host")))
        return take_host(h, value, out);
    if (str_eq_nocase(name, STR("content-length")))
        return take_length(h, value) ? NULL : "BadRequest";
    /* Other codings than chunked are used by nobody but those who look for two servers that
     * disagree about them. */
    if (str_eq_nocase(name, STR("transfer-encoding")))
        return h->codings++ == 0 && str_eq_nocase(value, STR("chunked")) ? NULL : "BadRequest";
    return NULL;
}

/* All field lines up to the empty one. */
static enum sniff_verdict take_fields(struct str rest, struct head *h, struct sniffed *out)
{
    for (;;) {
        struct str line;
        int r = line_take(&rest, &line);
        if (r == -EAGAIN)
            return SNIFF_MORE;
        if (r < 0)
            return sniffed_bad(out, "BadRequest");
        if (line.n == 0)
            return SNIFF_DONE;
        const char *reason = take_field(h, line, out);
        if (reason)
            return sniffed_bad(out, reason);
    }
}

/* "scheme://authority/path": the authority goes to *h, and what stands behind it to *ret_path. */
static int absolute_form(struct head *h, struct sniffed *out, struct str *ret_path)
{
    const char *colon = memchr(h->target.p, ':', h->target.n);
    struct str rest = str_skip(h->target, colon ? (size_t)(colon - h->target.p) : h->target.n);
    if (!ascii_is_alpha(h->target.p[0]) || !str_starts(rest, STR("://")))
        return -EBADMSG;
    rest = str_skip(rest, 3);
    size_t n = 0;
    while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
        n++;
    h->has_form_host = true;
    *ret_path = str_skip(rest, n);
    return uri_host((struct str){rest.p, n}, out, &h->target_host);
}

/* RFC 9112 3.2.3: only for CONNECT, and the port is not optional. */
static int authority_form(struct head *h, struct sniffed *out)
{
    h->has_form_host = true;
    if (!ascii_is_digit(h->target.p[h->target.n - 1]) || !memchr(h->target.p, ':', h->target.n))
        return -EBADMSG;
    return uri_host(h->target, out, &h->target_host);
}

/* RFC 9112 3.2, the four forms of a target. Those without a path get "/". */
static int read_target(struct head *h, struct sniffed *out)
{
    struct str path = h->target;
    int r = 0;
    if (str_eq(out->method, STR("CONNECT"))) {
        r = authority_form(h, out);
        path = STR("/");
    } else if (str_eq(path, STR("*"))) {
        /* RFC 9112 3.2.4: asterisk-form is only for a server-wide OPTIONS. */
        r = str_eq(out->method, STR("OPTIONS")) ? 0 : -EBADMSG;
        path = STR("/");
    } else if (path.p[0] != '/') {
        r = absolute_form(h, out, &path);
    }
    const char *query = path.n > 0 ? memchr(path.p, '?', path.n) : NULL;
    if (memchr(h->target.p, '#', h->target.n))
        r = -EBADMSG;
    if (query)
        path.n = (size_t)(query - path.p);
    return r < 0 ? r : uri_path(path.n > 0 ? path : STR("/"), out, &out->path);
}

/* What only the whole head can show. */
static enum sniff_verdict judge(struct head *h, struct sniffed *out)
{
    if (h->hosts == 0 && !out->http10)
        return sniffed_bad(out, "NoHost");
    /* RFC 9112 6.1: Transfer-Encoding in HTTP/1.0 is to be treated as faulty framing; and 6.3: both
     * fields together ought to be handled as an error. */
    if (h->codings > 0 && (h->has_length || out->http10))
        return sniffed_bad(out, "BadRequest");
    if (read_target(h, out) < 0)
        return sniffed_bad(out, "BadRequest");
    /* RFC 9112 3.2.2: with the absolute-form the received Host field is ignored. */
    out->host = h->has_form_host ? h->target_host : h->host;
    return SNIFF_DONE;
}

enum sniff_verdict http1_sniff(struct str in, struct sniffed *out)
{
    struct str rest = in;
    for (int i = 0; i < HTTP1_EMPTY_LINES_MAX && str_starts(rest, STR("\r\n")); i++)
        rest = str_skip(rest, 2);
    if (rest.n == 0)
        return SNIFF_MORE;
    if (uri_token_span((struct str){rest.p, 1}) == 0 && rest.p[0] != '\r')
        return SNIFF_NOT;
    struct head h = {0};
    sniffed_reset(out, PROTO_HTTP);
    enum sniff_verdict v = first_line(&rest, &h, out);
    if (v == SNIFF_BAD)
        return sniffed_bad(out, "BadRequest");
    if (v == SNIFF_DONE)
        v = take_fields(rest, &h, out);
    return v == SNIFF_DONE ? judge(&h, out) : v;
}
