/* What this peer says of itself, signed. Fields come in and are kept; the signed record is made
 * when they change, at half its life, and when a server knows a later one. */
#include "rendezvous/presence-internal.h"

/* Signed anew at half of it. */
#define VALID_S (24 * 3600ull)
/* Sequences are milliseconds since 1970, so that they grow from run to run without a file. One so
 * far ahead of the clock is a lie, which would use them up. */
#define AHEAD_MS (10 * 365 * 24 * 3600 * 1000ull)

int presence_record(struct presence *p, const struct record *r)
{
    uint8_t words[RECORD_MAX] = {0};
    struct record copy = *r;
    memcpy(copy.key, p->id->key.b, sizeof copy.key);
    int n = record_encode(&copy, words, sizeof words);
    if (n < 0)
        return n;
    /* Decoded from the copy, so that the slices point into it. What cannot be read back is no
     * record either. */
    memcpy(p->words, words, sizeof words);
    struct record back;
    int e = record_decode(&back, p->words, (size_t)n + RECORD_SIGNATURE);
    p->record = e == 0 ? back : (struct record){.relay = STR("")};
    p->size = 0;
    return e == 0 ? 0 : -EINVAL;
}

int presence_sign(struct presence *p)
{
    uint64_t unix_ms = p->host.unix_ms(p->ctx);
    if (p->size > 0 && unix_ms < p->sign_at_ms)
        return 0;
    uint64_t above = p->record.sequence > p->floor ? p->record.sequence : p->floor;
    p->record.sequence = unix_ms > above ? unix_ms : above + 1;
    p->record.not_after = unix_ms / 1000 + VALID_S;
    p->sign_at_ms = unix_ms + VALID_S / 2 * 1000;
    int n = signed_record_make(p->id, &p->record, p->bytes);
    if (n < 0)
        return n;
    p->floor = p->record.sequence;
    p->size = (size_t)n;
    return 0;
}

bool presence_sign_above(struct presence *p, uint64_t sequence)
{
    if (sequence > p->host.unix_ms(p->ctx) + AHEAD_MS)
        return false;
    if (sequence >= p->record.sequence) {
        p->floor = sequence > p->floor ? sequence : p->floor;
        p->size = 0;
    }
    return presence_sign(p) == 0;
}

struct str presence_own_record(const struct presence *p)
{
    return (struct str){(const char *)p->bytes, p->size};
}
