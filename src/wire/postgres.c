/* PostgreSQL, protocol 3: the peeked bytes come in; user and database of the StartupMessage go out,
 * or that the client asks for encryption first and no name will be visible. */
#include "base/rd.h"
#include "wire/scratch.h"
#include "wire/sniffed.h"

#include <errno.h>

/* The server's own limits: MAX_STARTUP_PACKET_LENGTH, and cancel keys of up to 256 bytes. */
#define STARTUP_MIN 9
#define STARTUP_MAX 10000
#define CANCEL_MIN  16
#define CANCEL_MAX  268

enum {
    CODE_CANCEL = 80877102,
    CODE_SSL = 80877103,
    CODE_GSS = 80877104,
};

/* Length and code must fit each other. The minor version is the server's to negotiate. */
static bool fits(uint32_t length, uint32_t code)
{
    if (code == CODE_SSL || code == CODE_GSS)
        return length == 8;
    if (code == CODE_CANCEL)
        return length >= CANCEL_MIN && length <= CANCEL_MAX;
    return code >> 16 == 3 && length >= STARTUP_MIN && length <= STARTUP_MAX;
}

/* Judges the 8 bytes in front as early as it can. */
static enum sniff_verdict front(struct str in, uint32_t *ret_length, uint32_t *ret_code)
{
    struct rd r = rd_init(in.p, in.n);
    for (size_t i = 0; i < in.n && i < 2; i++)
        if (in.p[i] != 0)
            return SNIFF_NOT;
    if (in.n < 4)
        return SNIFF_MORE;
    uint32_t length = rd_u32(&r);
    if (length < 8 || length > STARTUP_MAX)
        return SNIFF_NOT;
    if (in.n > 4 && in.p[4] != 0 && in.p[4] != 4)
        return SNIFF_NOT;
    if (in.n > 5 && (uint8_t)in.p[5] != (in.p[4] == 0 ? 3 : 0xd2))
        return SNIFF_NOT;
    if (in.n < 8)
        return SNIFF_MORE;
    uint32_t code = rd_u32(&r);
    if (!fits(length, code))
        return SNIFF_NOT;
    *ret_length = length;
    *ret_code = code;
    return in.n < length ? SNIFF_MORE : SNIFF_DONE;
}

static int text_take(struct rd *r, struct str *ret_text)
{
    const uint8_t *nul = r->left > 0 ? memchr(r->p, 0, r->left) : NULL;
    if (!nul)
        return -EBADMSG;
    *ret_text = rd_bytes(r, (size_t)(nul - r->p));
    (void)rd_u8(r);
    return 0;
}

static int parameter(struct str name, struct str value, struct sniffed *out)
{
    struct str *to = str_eq(name, STR("user"))       ? &out->user
                     : str_eq(name, STR("database")) ? &out->database
                                                     : NULL;
    if (!to)
        return 0;
    if (to->p)
        return -EBADMSG;
    *to = value;
    return 0;
}

/* Pairs of texts, each with its NUL, and one NUL behind the last pair. */
static int parameters(struct str body, struct sniffed *out)
{
    struct rd r = rd_init(body.p, body.n);
    for (;;) {
        struct str name, value;
        if (text_take(&r, &name) < 0)
            return -EBADMSG;
        if (name.n == 0)
            break;
        if (text_take(&r, &value) < 0 || parameter(name, value, out) < 0)
            return -EBADMSG;
    }
    if (r.left > 0 || out->user.n == 0)
        return -EBADMSG;
    /* "database: defaults to the user name." */
    if (out->database.n == 0)
        out->database = out->user;
    return 0;
}

enum sniff_verdict postgres_sniff(struct str in, struct sniffed *out)
{
    uint32_t length, code;
    enum sniff_verdict v = front(in, &length, &code);
    if (v != SNIFF_DONE)
        return v;
    sniffed_reset(out, PROTO_POSTGRES);
    out->ssl_request = code == CODE_SSL || code == CODE_GSS;
    if (code >> 16 != 3)
        return SNIFF_DONE;
    if (parameters(str_skip((struct str){in.p, length}, 8), out) < 0)
        return sniffed_bad(out, "BadRequest");
    return SNIFF_DONE;
}
