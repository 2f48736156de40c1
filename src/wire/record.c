/* Encodes and decodes records: a fixed head, then fields of type, length and value in ascending
 * order of type. Bytes in, values out; nothing is kept. */
#include "wire/record.h"

#include "base/rd.h"
#include "base/wr.h"
#include "wire/name.h"

enum { FIELD_CANDIDATE = 1, FIELD_PORT, FIELD_SERVICE, FIELD_RELAY };

bool record_name_valid(struct str name)
{
    return wire_name_valid(name);
}

static void candidate_encode(struct wr *w, const struct record_candidate *c)
{
    bool v6 = c->addr.sa.sa_family == AF_INET6;
    const void *ip = v6 ? (const void *)&c->addr.v6.sin6_addr : (const void *)&c->addr.v4.sin_addr;
    size_t n = v6 ? 16 : 4;
    wr_u8(w, FIELD_CANDIDATE);
    wr_u8(w, (uint8_t)(4 + n));
    wr_u8(w, (uint8_t)c->kind);
    wr_u8(w, (uint8_t)c->transport);
    wr_u16(w, addr_port(&c->addr));
    wr_bytes(w, ip, n);
}

static void service_encode(struct wr *w, const struct record_service *s)
{
    wr_u8(w, FIELD_SERVICE);
    wr_u8(w, (uint8_t)(3 + s->name.n));
    wr_u8(w, (uint8_t)s->transport);
    wr_u16(w, s->port);
    wr_bytes(w, s->name.p, s->name.n);
}

int record_encode(const struct record *r, void *buf, size_t size)
{
    struct wr w =
        wr_init(buf, size < RECORD_MAX - RECORD_SIGNATURE ? size : RECORD_MAX - RECORD_SIGNATURE);
    wr_u8(&w, RECORD_VERSION);
    wr_bytes(&w, r->key, sizeof r->key);
    wr_u64(&w, r->sequence);
    wr_u64(&w, r->not_after);
    for (size_t i = 0; i < r->candidate_count; i++)
        candidate_encode(&w, &r->candidates[i]);
    for (size_t i = 0; i < r->port_count; i++) {
        wr_u8(&w, FIELD_PORT);
        wr_u8(&w, 3);
        wr_u8(&w, (uint8_t)r->ports[i].transport);
        wr_u16(&w, r->ports[i].port);
    }
    for (size_t i = 0; i < r->service_count; i++)
        service_encode(&w, &r->services[i]);
    if (r->relay.n > RECORD_RELAY_MAX)
        return -EMSGSIZE;
    if (r->relay.n > 0) {
        wr_u8(&w, FIELD_RELAY);
        wr_u8(&w, (uint8_t)r->relay.n);
        wr_bytes(&w, r->relay.p, r->relay.n);
    }
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

static enum record_transport transport_decode(struct rd *r)
{
    uint8_t t = rd_u8(r);
    if (t == 0 || t >= RECORD_TRANSPORT_END)
        r->failed = true;
    return (enum record_transport)t;
}

static bool candidate_decode(struct record *rec, struct rd v)
{
    struct record_candidate c = {.kind = (enum record_kind)rd_u8(&v)};
    c.transport = transport_decode(&v);
    uint16_t port = rd_u16(&v);
    size_t n = v.left;
    struct str ip = rd_bytes(&v, n);
    if (!rd_ok(&v) || c.kind == 0 || c.kind >= RECORD_KIND_END || (n != 4 && n != 16) ||
        rec->candidate_count == RECORD_CANDIDATES_MAX)
        return false;
    c.addr = addr_make(n == 4 ? AF_INET : AF_INET6, ip.p, port);
    rec->candidates[rec->candidate_count++] = c;
    return true;
}

/* Relays and service names are shown to people: printable ASCII without blanks only. */
static bool is_plain(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] > '~')
            return false;
    return s.n > 0;
}

static bool port_decode(struct record *rec, struct rd v)
{
    struct record_port p = {.transport = transport_decode(&v)};
    p.port = rd_u16(&v);
    if (!rd_ok(&v) || v.left > 0 || p.port == 0 || rec->port_count == RECORD_PORTS_MAX)
        return false;
    rec->ports[rec->port_count++] = p;
    return true;
}

static bool service_decode(struct record *rec, struct rd v)
{
    struct record_service s = {.transport = transport_decode(&v)};
    s.port = rd_u16(&v);
    s.name = rd_bytes(&v, v.left);
    if (!rd_ok(&v) || !record_name_valid(s.name) || rec->service_count == RECORD_SERVICES_MAX)
        return false;
    rec->services[rec->service_count++] = s;
    return true;
}

static bool field_decode(struct record *rec, uint8_t type, struct str value)
{
    struct rd v = rd_init(value.p, value.n);
    switch (type) {
    case FIELD_CANDIDATE:
        return candidate_decode(rec, v);
    case FIELD_PORT:
        return port_decode(rec, v);
    case FIELD_SERVICE:
        return service_decode(rec, v);
    case FIELD_RELAY:
        if (rec->relay.n > 0 || value.n > RECORD_RELAY_MAX || !is_plain(value))
            return false;
        rec->relay = value;
        return true;
    default:
        return true;
    }
}

static int fields_decode(struct record *rec, struct rd *r)
{
    uint8_t before = 0;
    while (r->left > 0) {
        uint8_t type = rd_u8(r);
        struct str value = rd_vec(r, 1);
        if (!rd_ok(r) || type < before || type == 0 || !field_decode(rec, type, value))
            return -EBADMSG;
        before = type;
    }
    return 0;
}

int record_split(struct str signed_record, struct str *ret_body, const uint8_t **ret_signature)
{
    if (signed_record.n <= RECORD_SIGNATURE || signed_record.n > RECORD_MAX)
        return -EBADMSG;
    size_t n = signed_record.n - RECORD_SIGNATURE;
    struct rd r = rd_init(signed_record.p, signed_record.n);
    *ret_body = rd_bytes(&r, n);
    *ret_signature = (const uint8_t *)rd_bytes(&r, RECORD_SIGNATURE).p;
    return 0;
}

int record_decode(struct record *ret_record, const void *buf, size_t n)
{
    struct record rec = {.relay = STR("")};
    struct str body;
    const uint8_t *signature;
    int e = record_split((struct str){buf, n}, &body, &signature);
    if (e < 0)
        return e;
    struct rd r = rd_init(body.p, body.n);
    uint8_t version = rd_u8(&r);
    if (version != RECORD_VERSION)
        return -EPROTONOSUPPORT;
    struct str key = rd_bytes(&r, RECORD_KEY);
    rec.sequence = rd_u64(&r);
    rec.not_after = rd_u64(&r);
    if (!rd_ok(&r))
        return -EBADMSG;
    memcpy(rec.key, key.p, RECORD_KEY);
    e = fields_decode(&rec, &r);
    if (e == 0)
        *ret_record = rec;
    return e;
}

uint64_t record_not_after(struct str signed_record)
{
    struct rd r = rd_init(signed_record.p, signed_record.n);
    (void)rd_bytes(&r, 1 + RECORD_KEY + 8);
    return rd_u64(&r);
}
