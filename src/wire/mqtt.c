/* MQTT: the peeked bytes come in; the user name of the CONNECT packet goes out. MQTT 3.1, 3.1.1 and
 * 5.0. The packet is read up to the user name: a password or a large will behind it may be missing.
 */
#include "base/rd.h"
#include "wire/scratch.h"
#include "wire/sniffed.h"

#include <errno.h>

/* The first byte: packet type 1, and its flags, which are reserved and 0. */
enum { MQTT_CONNECT = 0x10 };
/* MQTT 5.0 3.1.2.3: connect flags. */
enum { FLAG_RESERVED = 0x01, FLAG_WILL = 0x04, FLAG_PASSWORD = 0x40, FLAG_USER = 0x80 };
/* Bridges set the top bit of the protocol level. */
enum { LEVEL_BRIDGE = 0x80 };

/* MQTT 5.0 1.5.5: seven bits a byte, least significant first, at most four bytes. -EAGAIN: not all
 * is there. */
static int varint(struct rd *r, uint32_t *ret_value)
{
    uint32_t value = 0;
    for (unsigned shift = 0; shift < 28; shift += 7) {
        uint8_t b = rd_u8(r);
        if (!rd_ok(r))
            return -EAGAIN;
        value |= (uint32_t)(b & 0x7f) << shift;
        if (!(b & 0x80)) {
            *ret_value = value;
            return 0;
        }
    }
    return -EBADMSG;
}

/* A property length and that many bytes. */
static int properties_skip(struct rd *r)
{
    uint32_t n;
    int ret = varint(r, &n);
    if (ret < 0)
        return ret;
    (void)rd_bytes(r, n);
    return rd_ok(r) ? 0 : -EAGAIN;
}

static bool is_level(struct str name, uint8_t level)
{
    level &= (uint8_t)~LEVEL_BRIDGE;
    return name.n == 6 ? level == 3 : level == 4 || level == 5;
}

/* What follows level and flags. -EAGAIN: the bytes end before the user name does. */
static int payload(struct rd *r, uint8_t level, uint8_t flags, struct sniffed *out)
{
    bool five = (level & ~LEVEL_BRIDGE) == 5;
    int ret = 0;
    (void)rd_u16(r); /* keep alive */
    if (five)
        ret = properties_skip(r);
    if (ret == 0)
        (void)rd_vec(r, 2); /* client identifier */
    if (ret == 0 && five && flags & FLAG_WILL)
        ret = properties_skip(r);
    if (ret == 0 && flags & FLAG_WILL) {
        (void)rd_vec(r, 2); /* will topic */
        (void)rd_vec(r, 2); /* will payload */
    }
    if (ret < 0)
        return ret;
    struct str user = flags & FLAG_USER ? rd_vec(r, 2) : (struct str){NULL, 0};
    if (!rd_ok(r))
        return -EAGAIN;
    /* MQTT 5.0 1.5.4: a UTF-8 string MUST NOT include U+0000. */
    if (user.n > 0 && memchr(user.p, 0, user.n))
        return -EBADMSG;
    out->user = user;
    return 0;
}

/* The body of the packet, as far as it is there. */
static int connect_decode(struct rd *r, struct str name, struct sniffed *out)
{
    uint8_t level = rd_u8(r), flags = rd_u8(r);
    if (!rd_ok(r))
        return -EAGAIN;
    if (!is_level(name, level) || flags & FLAG_RESERVED)
        return -EBADMSG;
    return payload(r, level, flags, out);
}

/* Length and text of the protocol name. */
static enum sniff_verdict protocol_name(struct rd *r, struct str *ret_name)
{
    static const struct str names[] = {{"\0\4MQTT", 6}, {"\0\6MQIsdp", 8}};
    struct str rest = {(const char *)r->p, r->left};
    bool more = false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        enum sniff_verdict v = sniff_starts(rest, names[i]);
        if (v == SNIFF_DONE) {
            *ret_name = rd_vec(r, 2);
            return v;
        }
        more = more || v == SNIFF_MORE;
    }
    return more ? SNIFF_MORE : SNIFF_NOT;
}

enum sniff_verdict mqtt_sniff(struct str in, struct sniffed *out)
{
    if (in.n > 0 && in.p[0] != MQTT_CONNECT)
        return SNIFF_NOT;
    struct rd r = rd_init(in.p, in.n);
    uint32_t n;
    (void)rd_u8(&r);
    int ret = varint(&r, &n);
    if (ret < 0)
        return ret == -EAGAIN ? SNIFF_MORE : SNIFF_NOT;
    bool whole = r.left >= n;
    struct rd body = rd_init(r.p, whole ? n : r.left);
    struct str name;
    enum sniff_verdict v = protocol_name(&body, &name);
    if (v != SNIFF_DONE)
        return v == SNIFF_MORE && whole ? SNIFF_NOT : v;
    sniffed_reset(out, PROTO_MQTT);
    ret = connect_decode(&body, name, out);
    if (ret == -EAGAIN && !whole)
        return SNIFF_MORE;
    return ret < 0 ? sniffed_bad(out, "BadRequest") : SNIFF_DONE;
}
