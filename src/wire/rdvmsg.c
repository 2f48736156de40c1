/* Encodes and decodes the messages of rdvmsg.h: a head, then the fields that a table names for the
 * type, always in the same order. Bytes in, values out; nothing is kept. */
#include "wire/rdvmsg.h"

#include "wire/ipcode.h"

enum {
    F_COOKIE = 1 << 0,
    F_TOKEN = 1 << 1,
    F_KEY = 1 << 2,
    F_SIGNATURE = 1 << 3,
    F_LIFETIME = 1 << 4,
    F_REFRESH = 1 << 5,
    F_AGE = 1 << 6,
    F_NUMBER = 1 << 7,
    F_REASON = 1 << 8,
    F_ADDR = 1 << 9,
    F_NAME = 1 << 10,
    F_RECORD = 1 << 11,
    F_NAMES = 1 << 12,
    F_PADDING = 1 << 13,
    F_CALL_FIRST = 1 << 14, /* where no key is the sender's */
    F_PEER = 1 << 15,
    F_CALL = 1 << 16,
    F_CHANNEL = 1 << 17,
    F_TICKET = 1 << 18,
    F_RTT = 1 << 19,
    F_WAIT = 1 << 20,
    F_RELAY = 1 << 21,
    F_OFFER = 1 << 22,
    F_ALLOWED = 1 << 23,
    F_PRINT = 1 << 24,
    F_TECHNIQUE = 1 << 25,
    F_WORD = 1 << 26,
};

static const uint32_t fields[RDVMSG_TYPE_COUNT] = {
    [RDVMSG_HELLO] = F_PADDING,
    [RDVMSG_COOKIE_IS] = F_COOKIE | F_LIFETIME | F_ADDR,
    [RDVMSG_REGISTER] = F_COOKIE | F_SIGNATURE | F_RECORD,
    [RDVMSG_REGISTERED] = F_TOKEN | F_LIFETIME | F_REFRESH | F_NUMBER | F_WORD,
    [RDVMSG_REFRESH] = F_TOKEN | F_KEY,
    [RDVMSG_REFRESHED] = F_TOKEN | F_LIFETIME | F_REFRESH | F_NUMBER | F_WORD,
    [RDVMSG_LOOKUP] = F_COOKIE | F_KEY | F_NAME | F_PADDING,
    [RDVMSG_FOUND] = F_KEY | F_AGE | F_NUMBER | F_RECORD,
    [RDVMSG_CLAIM] = F_COOKIE | F_KEY | F_SIGNATURE | F_NAME,
    [RDVMSG_RELEASE] = F_COOKIE | F_KEY | F_SIGNATURE | F_NAME,
    [RDVMSG_DONE] = F_NUMBER,
    [RDVMSG_LIST] = F_COOKIE | F_KEY | F_PADDING,
    [RDVMSG_NAMES] = F_NAMES,
    [RDVMSG_ERROR] = F_REASON | F_NUMBER,
    [RDVMSG_ALLOW] = F_TOKEN | F_KEY | F_ALLOWED,
    [RDVMSG_ALLOWED_IS] = 0,
    [RDVMSG_CALL] = F_TOKEN | F_KEY | F_PEER | F_CALL | F_RTT | F_PRINT | F_OFFER,
    [RDVMSG_CALLING] = F_CALL_FIRST | F_CHANNEL | F_TICKET | F_RELAY,
    [RDVMSG_INVITE] = F_CALL_FIRST | F_PEER | F_CHANNEL | F_TICKET | F_RELAY | F_ADDR | F_OFFER,
    [RDVMSG_ANSWER] = F_TOKEN | F_KEY | F_PEER | F_CALL | F_REASON | F_RTT | F_PRINT | F_OFFER,
    [RDVMSG_ANSWERED] = F_CALL_FIRST | F_PEER | F_REASON | F_WAIT | F_TECHNIQUE | F_ADDR | F_OFFER,
    [RDVMSG_START] = F_CALL_FIRST | F_WAIT | F_TECHNIQUE | F_ADDR,
    [RDVMSG_OPEN] = F_COOKIE | F_CHANNEL | F_TICKET | F_PADDING,
    [RDVMSG_OPENED] = F_CHANNEL,
    [RDVMSG_WORKED] = F_TOKEN | F_KEY | F_PEER | F_CALL | F_TECHNIQUE,
};

static const struct {
    const char *word, *sentence;
} reasons[RDV_REASON_COUNT] = {
#define RDV_REASON_ROW(id, word, sentence) [id] = {word, sentence},
    RDV_REASONS(RDV_REASON_ROW)};

const char *rdv_reason_word(enum rdv_reason reason)
{
    return reason > RDV_OK && reason < RDV_REASON_COUNT ? reasons[reason].word : "Unknown";
}

const char *rdv_reason_sentence(enum rdv_reason reason)
{
    return reason > RDV_OK && reason < RDV_REASON_COUNT ? reasons[reason].sentence
                                                        : "a reason that is not known here";
}

/* Family 0 and nothing else: this server. */
static void relay_encode(struct wr *w, const struct addr *a)
{
    if (a->len)
        ip_encode(w, a);
    else
        wr_u8(w, 0);
}

static struct addr relay_decode(struct rd *r)
{
    if (r->left > 0 && *r->p == 0) {
        (void)rd_u8(r);
        return (struct addr){.len = 0};
    }
    return ip_decode(r);
}

static void vec8_encode(struct wr *w, struct str s)
{
    if (s.n > UINT8_MAX)
        w->failed = true;
    wr_u8(w, (uint8_t)s.n);
    wr_bytes(w, s.p, s.n);
}

static void pad(struct wr *w, size_t to)
{
    static const uint8_t zeros[64];
    while (w->used < to && wr_ok(w)) {
        size_t n = to - w->used;
        wr_bytes(w, zeros, n < sizeof zeros ? n : sizeof zeros);
    }
}

static void allowed_encode(struct wr *w, const struct rdvmsg *m)
{
    if (m->allowed.n > (size_t)RDVMSG_ALLOWED_MAX * RDVMSG_ALLOWED ||
        m->allowed.n % RDVMSG_ALLOWED != 0)
        w->failed = true;
    wr_u8(w, m->flags);
    wr_u16(w, (uint16_t)(m->allowed.n / RDVMSG_ALLOWED));
    wr_bytes(w, m->allowed.p, m->allowed.n);
}

/* What calls and relay channels have. */
static void call_encode(struct wr *w, uint32_t f, const struct rdvmsg *m)
{
    if (f & F_PEER)
        wr_bytes(w, m->peer, sizeof m->peer);
    if (f & F_CALL)
        wr_u64(w, m->call);
    if (f & F_CHANNEL)
        wr_u32(w, m->channel);
    if (f & F_TICKET)
        wr_bytes(w, m->ticket, sizeof m->ticket);
}

static void print_encode(struct wr *w, const struct nat_print *p)
{
    wr_u8(w, p->mapping);
    wr_u8(w, p->filtering);
    wr_u8(w, p->allocation);
    wr_u8(w, p->step);
}

/* When to fire at each other, and how. */
static void start_encode(struct wr *w, uint32_t f, const struct rdvmsg *m)
{
    if (f & F_RTT)
        wr_u32(w, m->rtt_us);
    if (f & F_PRINT)
        print_encode(w, &m->print);
    if (f & F_WAIT)
        wr_u32(w, m->wait_us);
    if (f & F_TECHNIQUE)
        wr_u8(w, m->technique);
}

static void tail_encode(struct wr *w, uint32_t f, const struct rdvmsg *m)
{
    if (f & F_RELAY)
        relay_encode(w, &m->relay);
    if (f & F_ADDR)
        ip_encode(w, &m->addr);
    if (f & F_NAME)
        vec8_encode(w, m->name);
    if (f & F_RECORD)
        wr_vec16(w, m->record);
    if (f & F_NAMES)
        wr_u8(w, (uint8_t)m->name_count);
    for (size_t i = 0; f & F_NAMES && i < m->name_count; i++)
        vec8_encode(w, m->names[i]);
    if (f & F_OFFER && m->offer.n > RDVMSG_OFFER_MAX)
        w->failed = true;
    if (f & F_OFFER)
        wr_vec16(w, m->offer);
    if (f & F_ALLOWED)
        allowed_encode(w, m);
    if (f & F_PADDING)
        pad(w, m->pad_to);
}

int rdvmsg_encode(const struct rdvmsg *m, void *buf, size_t size)
{
    struct wr w = wr_init(buf, size < RDVMSG_MAX ? size : RDVMSG_MAX);
    uint32_t f = fields[m->type];
    wr_u8(&w, RDVMSG_MAGIC);
    wr_u8(&w, RDVMSG_VERSION);
    wr_u8(&w, (uint8_t)m->type);
    wr_u8(&w, 0);
    wr_u64(&w, m->transaction);
    if (f & F_CALL_FIRST)
        wr_u64(&w, m->call);
    if (f & F_COOKIE)
        wr_bytes(&w, m->cookie, sizeof m->cookie);
    if (f & F_TOKEN)
        wr_bytes(&w, m->token, sizeof m->token);
    if (f & F_KEY)
        wr_bytes(&w, m->key, sizeof m->key);
    call_encode(&w, f, m);
    if (f & F_SIGNATURE)
        wr_bytes(&w, m->signature, sizeof m->signature);
    if (f & F_LIFETIME)
        wr_u16(&w, m->lifetime_s);
    if (f & F_REFRESH)
        wr_u16(&w, m->refresh_s);
    if (f & F_AGE)
        wr_u32(&w, m->age_s);
    if (f & F_REASON)
        wr_u8(&w, (uint8_t)m->reason);
    if (f & F_NUMBER)
        wr_u64(&w, m->number);
    if (f & F_WORD)
        wr_u64(&w, m->word);
    start_encode(&w, f, m);
    tail_encode(&w, f, m);
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}

static void rd_copy(struct rd *r, uint8_t *to, size_t n)
{
    struct str s = rd_bytes(r, n);
    if (s.n == n)
        memcpy(to, s.p, n);
}

static void names_decode(struct rd *r, struct rdvmsg *m)
{
    size_t n = rd_u8(r);
    if (n > RDVMSG_NAMES_MAX) {
        r->failed = true;
        return;
    }
    for (m->name_count = 0; m->name_count < n; m->name_count++)
        m->names[m->name_count] = rd_vec(r, 1);
}

static void allowed_decode(struct rd *r, struct rdvmsg *m)
{
    m->flags = rd_u8(r);
    size_t n = rd_u16(r);
    if (n > RDVMSG_ALLOWED_MAX || m->flags & ~RDVMSG_ANYONE)
        r->failed = true;
    m->allowed = rd_bytes(r, rd_ok(r) ? n * RDVMSG_ALLOWED : 0);
}

static void call_decode(struct rd *r, uint32_t f, struct rdvmsg *m)
{
    if (f & F_PEER)
        rd_copy(r, m->peer, sizeof m->peer);
    if (f & F_CALL)
        m->call = rd_u64(r);
    if (f & F_CHANNEL)
        m->channel = rd_u32(r);
    if (f & F_TICKET)
        rd_copy(r, m->ticket, sizeof m->ticket);
}

static void offer_decode(struct rd *r, struct rdvmsg *m)
{
    m->offer = rd_vec(r, 2);
    if (m->offer.n > RDVMSG_OFFER_MAX)
        r->failed = true;
}

static struct nat_print print_decode(struct rd *r)
{
    struct nat_print p = {.mapping = rd_u8(r)};
    p.filtering = rd_u8(r);
    p.allocation = rd_u8(r);
    p.step = rd_u8(r);
    return p;
}

static void start_decode(struct rd *r, uint32_t f, struct rdvmsg *m)
{
    if (f & F_RTT)
        m->rtt_us = rd_u32(r);
    if (f & F_PRINT)
        m->print = print_decode(r);
    if (f & F_WAIT)
        m->wait_us = rd_u32(r);
    if (f & F_TECHNIQUE)
        m->technique = rd_u8(r);
}

static void tail_decode(struct rd *r, uint32_t f, struct rdvmsg *m)
{
    if (f & F_RELAY)
        m->relay = relay_decode(r);
    if (f & F_ADDR)
        m->addr = ip_decode(r);
    if (f & F_NAME)
        m->name = rd_vec(r, 1);
    if (f & F_RECORD)
        m->record = rd_vec(r, 2);
    if (f & F_NAMES)
        names_decode(r, m);
    if (f & F_OFFER)
        offer_decode(r, m);
    if (f & F_ALLOWED)
        allowed_decode(r, m);
    if (f & F_PADDING)
        (void)rd_bytes(r, r->left);
}

int rdvmsg_decode(struct rdvmsg *m, const void *buf, size_t n)
{
    struct rd r = rd_init(buf, n);
    uint8_t magic = rd_u8(&r), version = rd_u8(&r), type = rd_u8(&r), zero = rd_u8(&r);
    uint64_t transaction = rd_u64(&r);
    if (!rd_ok(&r) || n > RDVMSG_MAX || magic != RDVMSG_MAGIC || version != RDVMSG_VERSION ||
        zero != 0 || type == 0 || type >= RDVMSG_TYPE_COUNT)
        return -EBADMSG;
    uint32_t f = fields[type];
    m->type = type;
    m->transaction = transaction;
    m->name = m->record = m->offer = m->allowed = STR("");
    m->name_count = m->pad_to = 0;
    if (f & F_CALL_FIRST)
        m->call = rd_u64(&r);
    if (f & F_COOKIE)
        rd_copy(&r, m->cookie, sizeof m->cookie);
    if (f & F_TOKEN)
        rd_copy(&r, m->token, sizeof m->token);
    if (f & F_KEY)
        rd_copy(&r, m->key, sizeof m->key);
    call_decode(&r, f, m);
    if (f & F_SIGNATURE)
        rd_copy(&r, m->signature, sizeof m->signature);
    if (f & F_LIFETIME)
        m->lifetime_s = rd_u16(&r);
    if (f & F_REFRESH)
        m->refresh_s = rd_u16(&r);
    if (f & F_AGE)
        m->age_s = rd_u32(&r);
    if (f & F_REASON)
        m->reason = (enum rdv_reason)rd_u8(&r);
    if (f & F_NUMBER)
        m->number = rd_u64(&r);
    if (f & F_WORD)
        m->word = rd_u64(&r);
    start_decode(&r, f, m);
    tail_decode(&r, f, m);
    return rd_ok(&r) && r.left == 0 ? 0 : -EBADMSG;
}

int rdvmsg_signed(const uint8_t cookie[RDVMSG_COOKIE], struct str what,
                  uint8_t buf[RDVMSG_SIGNED_MAX])
{
    struct wr w = wr_init(buf, RDVMSG_SIGNED_MAX);
    wr_bytes(&w, cookie, RDVMSG_COOKIE);
    wr_bytes(&w, what.p, what.n);
    return wr_ok(&w) ? (int)w.used : -EMSGSIZE;
}
