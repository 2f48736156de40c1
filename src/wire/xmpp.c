/* XMPP: the peeked bytes come in; the `to` of the stream header goes out as the host (RFC 6120
 * 4.7.2). An XML declaration may stand in front. */
#include "wire/scratch.h"
#include "wire/sniffed.h"
#include "wire/uri.h"

#include <errno.h>

#define DECLARATION_MAX 128

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct str skip_space(struct str s)
{
    while (s.n > 0 && is_space(s.p[0]))
        s = str_skip(s, 1);
    return s;
}

/* Takes "<?xml ...?>" and the space behind it off *rest, if it is there. */
static enum sniff_verdict declaration(struct str *rest)
{
    enum sniff_verdict v = sniff_starts(*rest, STR("<?xml"));
    if (v == SNIFF_NOT)
        return SNIFF_DONE;
    if (v == SNIFF_MORE)
        return v;
    for (size_t i = 5; i < rest->n && i < DECLARATION_MAX; i++) {
        char c = rest->p[i];
        if ((i == 5 && !is_space(c)) || ((uint8_t)c < 0x20 && !is_space(c)) || c == '<')
            return SNIFF_NOT;
        if (c == '>') {
            *rest = skip_space(str_skip(*rest, i + 1));
            return SNIFF_DONE;
        }
    }
    return rest->n < DECLARATION_MAX ? SNIFF_MORE : SNIFF_NOT;
}

/* Takes name="value" off *rest. -EAGAIN: it is not all there. */
static int attribute(struct str *rest, struct str *ret_name, struct str *ret_value)
{
    size_t n = 0;
    while (n < rest->n && rest->p[n] != '=' && !is_space(rest->p[n]))
        if (strchr("<>/'\"", rest->p[n++]))
            return -EBADMSG;
    struct str name = {rest->p, n}, s = skip_space(str_skip(*rest, n));
    if (s.n == 0)
        return -EAGAIN;
    if (n == 0 || s.p[0] != '=')
        return -EBADMSG;
    s = skip_space(str_skip(s, 1));
    if (s.n == 0)
        return -EAGAIN;
    char quote = s.p[0];
    if (quote != '"' && quote != '\'')
        return -EBADMSG;
    s = str_skip(s, 1);
    const char *end = s.n > 0 ? memchr(s.p, quote, s.n) : NULL;
    struct str value = {s.p, end ? (size_t)(end - s.p) : s.n};
    /* XML 1.0 2.3: no AttValue contains "<". */
    if (value.n > 0 && (memchr(value.p, '<', value.n) || memchr(value.p, 0, value.n)))
        return -EBADMSG;
    if (!end)
        return -EAGAIN;
    *ret_name = name;
    *ret_value = value;
    *rest = str_skip(s, value.n + 1);
    return 0;
}

/* RFC 7622 3.2: a domain may be written with letters beyond ASCII. No route is: such a host stays
 * empty, and only a route for any host gets it. */
static int stream_to(struct str value, struct sniffed *out)
{
    for (size_t i = 0; i < value.n; i++)
        if ((uint8_t)value.p[i] >= 0x80)
            return 0;
    return uri_host(value, out, &out->host);
}

/* Everything between "<stream:stream" and its ">". */
static int attributes(struct str rest, struct sniffed *out)
{
    bool seen = false;
    for (;;) {
        bool space = rest.n > 0 && is_space(rest.p[0]);
        rest = skip_space(rest);
        if (rest.n == 0)
            return -EAGAIN;
        if (rest.p[0] == '>')
            return 0;
        struct str name, value;
        int r = space ? attribute(&rest, &name, &value) : -EBADMSG;
        if (r < 0)
            return r;
        if (!str_eq(name, STR("to")))
            continue;
        if (seen || stream_to(value, out) < 0)
            return -EBADMSG;
        seen = true;
    }
}

enum sniff_verdict xmpp_sniff(struct str in, struct sniffed *out)
{
    struct str rest = in;
    enum sniff_verdict v = declaration(&rest);
    if (v == SNIFF_DONE)
        v = sniff_starts(rest, STR("<stream:stream"));
    if (v != SNIFF_DONE)
        return v;
    rest = str_skip(rest, STR("<stream:stream").n);
    if (rest.n > 0 && !is_space(rest.p[0]) && rest.p[0] != '>')
        return SNIFF_NOT;
    sniffed_reset(out, PROTO_XMPP);
    int r = attributes(rest, out);
    if (r == -EAGAIN)
        return SNIFF_MORE;
    return r < 0 ? sniffed_bad(out, "BadRequest") : SNIFF_DONE;
}
