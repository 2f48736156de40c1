/* Encodes and decodes offers. Bytes in, values out; nothing is kept. */
#include "wire/offer.h"

#include "wire/ipcode.h"

int offer_encode(const struct offer *o, void *buf, size_t size)
{
    struct wr w = wr_init(buf, size < OFFER_MAX ? size : OFFER_MAX);
    if (o->candidate_count > OFFER_CANDIDATES_MAX)
        return -EMSGSIZE;
    wr_u8(&w, OFFER_VERSION);
    wr_u64(&w, o->call);
    wr_u64(&w, o->unix_ms);
    wr_bytes(&w, o->secret, sizeof o->secret);
    wr_u8(&w, o->mapping);
    wr_u8(&w, o->allocation);
    wr_u16(&w, (uint16_t)o->delta);
    wr_u8(&w, (uint8_t)o->candidate_count);
    for (size_t i = 0; i < o->candidate_count; i++) {
        wr_u8(&w, (uint8_t)o->candidates[i].kind);
        wr_u8(&w, (uint8_t)o->candidates[i].transport);
        ip_encode(&w, &o->candidates[i].addr);
    }
    wr_u8(&w, o->filtering);
    wr_u8(&w, o->flags);
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

static void candidates_decode(struct rd *r, struct offer *o)
{
    size_t n = rd_u8(r);
    if (n > OFFER_CANDIDATES_MAX)
        r->failed = true;
    for (size_t i = 0; i < n && rd_ok(r); i++) {
        struct record_candidate *c = &o->candidates[i];
        uint8_t kind = rd_u8(r), transport = rd_u8(r);
        c->addr = ip_decode(r);
        c->kind = (enum record_kind)kind;
        c->transport = (enum record_transport)transport;
        if (kind == 0 || kind >= RECORD_KIND_END || transport == 0 ||
            transport >= RECORD_TRANSPORT_END || addr_port(&c->addr) == 0)
            r->failed = true;
    }
    o->candidate_count = n;
}

/* They came later than the rest: who does not say them allows nothing. */
static void manners_decode(struct rd *r, struct offer *o)
{
    if (!rd_ok(r) || r->left == 0)
        return;
    o->filtering = rd_u8(r);
    o->flags = rd_u8(r);
}

int offer_decode(struct offer *ret_offer, const void *buf, size_t n)
{
    struct offer o = {.call = 0};
    struct rd r = rd_init(buf, n);
    uint8_t version = rd_u8(&r);
    if (!rd_ok(&r) || n > OFFER_MAX)
        return -EBADMSG;
    if (version != OFFER_VERSION)
        return -EPROTONOSUPPORT;
    o.call = rd_u64(&r);
    o.unix_ms = rd_u64(&r);
    struct str secret = rd_bytes(&r, OFFER_SECRET);
    o.mapping = rd_u8(&r);
    o.allocation = rd_u8(&r);
    o.delta = (int16_t)rd_u16(&r);
    candidates_decode(&r, &o);
    manners_decode(&r, &o);
    if (!rd_ok(&r))
        return -EBADMSG;
    memcpy(o.secret, secret.p, sizeof o.secret);
    *ret_offer = o;
    return 0;
}
