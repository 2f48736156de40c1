/* TLS: the peeked bytes come in; server name and ALPN of the ClientHello go out. The hello may be
 * split over any number of records and need not begin a segment: its bytes are put together on the
 * stack when they do not lie in one record. */
#include "base/rd.h"
#include "wire/scratch.h"
#include "wire/sniffed.h"
#include "wire/uri.h"

#include <arpa/inet.h>
#include <errno.h>

enum { RECORD_HANDSHAKE = 22, HANDSHAKE_CLIENT_HELLO = 1 };
enum { EXT_SERVER_NAME = 0, EXT_ALPN = 16, EXT_ECH = 0xfe0d };
/* RFC 8446 5.1: the length of a record MUST NOT exceed 2^14 bytes. */
#define RECORD_MAX 16384
/* Type and length in front of every handshake message. */
#define HANDSHAKE_HEAD 4

/* The next handshake record's fragment. The last one is answered as far as it has arrived, with
 * *ret_whole false. */
static enum sniff_verdict record_read(struct rd *r, struct str *ret_part, bool *ret_whole)
{
    struct rd peek = *r;
    if (peek.left > 0 && peek.p[0] != RECORD_HANDSHAKE)
        return SNIFF_BAD;
    if (peek.left < 5)
        return SNIFF_MORE;
    (void)rd_bytes(&peek, 3);
    size_t n = rd_u16(&peek);
    /* RFC 8446 5.1: implementations MUST NOT send zero-length fragments of Handshake types. */
    if (n == 0 || n > RECORD_MAX)
        return SNIFF_BAD;
    *ret_whole = peek.left >= n;
    *ret_part = rd_bytes(&peek, *ret_whole ? n : peek.left);
    *r = peek;
    return SNIFF_DONE;
}

/* Copies the handshake bytes of all records into buf, up to `size`. MORE: not so many are there. */
static enum sniff_verdict records_join(struct str in, uint8_t *buf, size_t size)
{
    struct rd r = rd_init(in.p, in.n);
    size_t used = 0;
    while (used < size) {
        struct str part;
        bool whole;
        enum sniff_verdict v = record_read(&r, &part, &whole);
        if (v != SNIFF_DONE)
            return v;
        size_t n = part.n < size - used ? part.n : size - used;
        if (n > 0)
            memcpy(buf + used, part.p, n);
        used += n;
        if (!whole && used < size)
            return SNIFF_MORE;
    }
    return SNIFF_DONE;
}

static bool is_ip_literal(struct str name)
{
    char buf[INET6_ADDRSTRLEN];
    uint8_t ip[16];
    if (name.n >= sizeof buf || memchr(name.p, 0, name.n))
        return false;
    memcpy(buf, name.p, name.n);
    buf[name.n] = 0;
    return inet_pton(AF_INET, buf, ip) == 1 || inet_pton(AF_INET6, buf, ip) == 1;
}

/* RFC 6066 3: ServerNameList, not more than one name of a type. Literal addresses are not
 * permitted; clients that send one mean no name. */
static int server_name(struct str ext, struct sniffed *out)
{
    struct rd outer = rd_init(ext.p, ext.n);
    struct str list = rd_vec(&outer, 2);
    struct rd r = rd_init(list.p, list.n);
    bool seen = false;
    if (!rd_ok(&outer) || outer.left > 0 || list.n == 0)
        return -EBADMSG;
    while (r.left > 0) {
        uint8_t type = rd_u8(&r);
        struct str name = rd_vec(&r, 2);
        if (!rd_ok(&r) || (type == 0 && seen))
            return -EBADMSG;
        if (type != 0)
            continue;
        seen = true;
        if (!is_ip_literal(name) && uri_name(name, out, &out->host) < 0)
            return -EBADMSG;
    }
    return 0;
}

/* RFC 7301 3.1. What is beyond our room for them is left out: the client's favourites stand first.
 */
static int alpn(struct str ext, struct sniffed *out)
{
    struct rd outer = rd_init(ext.p, ext.n);
    struct str list = rd_vec(&outer, 2);
    struct rd r = rd_init(list.p, list.n);
    if (!rd_ok(&outer) || outer.left > 0 || list.n == 0)
        return -EBADMSG;
    while (r.left > 0) {
        struct str id = rd_vec(&r, 1);
        if (!rd_ok(&r) || id.n == 0)
            return -EBADMSG;
        if (out->alpn_count == SNIFFED_ALPN_MAX)
            continue;
        struct str kept = sniffed_keep(out, id);
        if (kept.p)
            out->alpn[out->alpn_count++] = kept;
    }
    return 0;
}

/* RFC 8446 4.2: there MUST NOT be more than one extension of the same type. */
static int extensions(struct str list, struct sniffed *out)
{
    struct rd r = rd_init(list.p, list.n);
    bool seen_name = false, seen_alpn = false;
    while (r.left > 0) {
        uint16_t type = rd_u16(&r);
        struct str ext = rd_vec(&r, 2);
        int ret = rd_ok(&r) ? 0 : -EBADMSG;
        if (ret == 0 && type == EXT_SERVER_NAME) {
            ret = seen_name ? -EBADMSG : server_name(ext, out);
            seen_name = true;
        } else if (ret == 0 && type == EXT_ALPN) {
            ret = seen_alpn ? -EBADMSG : alpn(ext, out);
            seen_alpn = true;
        } else if (ret == 0 && type == EXT_ECH) {
            ret = out->ech ? -EBADMSG : 0;
            out->ech = true;
        }
        if (ret < 0)
            return ret;
    }
    return 0;
}

/* RFC 8446 4.1.2: version, random, session id, cipher suites, compression methods, extensions. */
static int hello_decode(struct str hello, struct sniffed *out)
{
    struct rd r = rd_init(hello.p, hello.n);
    (void)rd_bytes(&r, 2 + 32);
    struct str session = rd_vec(&r, 1), suites = rd_vec(&r, 2), compression = rd_vec(&r, 1);
    if (!rd_ok(&r) || session.n > 32 || suites.n < 2 || suites.n % 2 || compression.n < 1)
        return -EBADMSG;
    /* Before TLS 1.3 the extensions may be missing altogether. */
    if (r.left == 0)
        return 0;
    struct str list = rd_vec(&r, 2);
    return rd_ok(&r) && r.left == 0 ? extensions(list, out) : -EBADMSG;
}

/* Record type, major version 3, minor version 0 to 4: anything else is not TLS (an SSLv2 hello
 * begins with a length that has its top bit set). */
static enum sniff_verdict looks_like_tls(struct str in)
{
    enum sniff_verdict v = sniff_starts(in, STR("\x16\x03"));
    if (v == SNIFF_DONE && in.n < 3)
        return SNIFF_MORE;
    return v == SNIFF_DONE && (uint8_t)in.p[2] > 4 ? SNIFF_NOT : v;
}

enum sniff_verdict tlshello_sniff(struct str in, struct sniffed *out)
{
    enum sniff_verdict v = looks_like_tls(in);
    if (v != SNIFF_DONE)
        return v;
    sniffed_reset(out, PROTO_TLS);
    uint8_t buf[SNIFF_BYTES_MAX];
    uint8_t type;
    v = records_join(in, &type, 1);
    if (v == SNIFF_DONE && type != HANDSHAKE_CLIENT_HELLO)
        v = SNIFF_BAD;
    if (v == SNIFF_DONE)
        v = records_join(in, buf, HANDSHAKE_HEAD);
    if (v != SNIFF_DONE)
        return v == SNIFF_BAD ? sniffed_bad(out, "BadRequest") : v;
    struct rd head = rd_init(buf + 1, HANDSHAKE_HEAD - 1);
    size_t n = HANDSHAKE_HEAD + rd_u24(&head);
    if (n > sizeof buf)
        return sniffed_bad(out, "TooLarge");
    v = records_join(in, buf, n);
    if (v == SNIFF_MORE)
        return v;
    struct str hello = {(const char *)buf + HANDSHAKE_HEAD, n - HANDSHAKE_HEAD};
    if (v == SNIFF_BAD || hello_decode(hello, out) < 0)
        return sniffed_bad(out, "BadRequest");
    return SNIFF_DONE;
}
