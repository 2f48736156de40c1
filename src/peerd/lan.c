/* Asks and answers on the local network. Keys and datagrams come in, found() goes out. Who asks is
 * in a box for who is asked, and in it another one that proves it; so the rest of the network sees
 * that somebody asks for somebody. */
#include "peerd/lan.h"

#include <sodium.h>
#include <stdlib.h>

#include "base/clock.h"
#include "keys/box.h"
#include "peerd/lan-internal.h"
#include "rendezvous/sealed.h"
#include "rendezvous/signed.h"

/* In any second: boxes that are opened, because they seem to be for us, and answers. */
#define OPENED_A_SECOND   50
#define ANSWERED_A_SECOND 20

#define INNER (BOX_OVERHEAD + LANMSG_QUERY_PLAIN)
#define OUTER (BOX_HIDDEN_OVERHEAD + KEY_BYTES + INNER)

/* A hash that only those can make, and understand, who know the key that is asked for. */
static void tag_make(const struct key *wanted, const uint8_t nonce[LANMSG_NONCE],
                     uint8_t ret_tag[LANMSG_TAG])
{
    static const char purpose[] = "berth lan tag 1";
    uint8_t hash[crypto_generichash_BYTES];
    crypto_generichash_state h;
    (void)crypto_generichash_init(&h, wanted->b, sizeof wanted->b, sizeof hash);
    (void)crypto_generichash_update(&h, (const uint8_t *)purpose, sizeof purpose);
    (void)crypto_generichash_update(&h, nonce, LANMSG_NONCE);
    (void)crypto_generichash_final(&h, hash, sizeof hash);
    memcpy(ret_tag, hash, LANMSG_TAG);
}

/* Asking --------------------------------------------------------------------------------------- */

static int query_make(struct lan *l, struct lan_asked *a)
{
    struct lan_query q = {.unix_ms = l->host.unix_ms(l->ctx), .port = l->host.port(l->ctx)};
    struct lanmsg m = {.type = LANMSG_QUERY};
    uint8_t plain[LANMSG_QUERY_PLAIN], named[KEY_BYTES + INNER], sealed[OUTER];
    memcpy(q.nonce, a->nonce, sizeof q.nonce);
    memcpy(m.nonce, a->nonce, sizeof m.nonce);
    tag_make(&a->key, a->nonce, m.tag);
    int n = lan_query_encode(&q, plain, sizeof plain);
    if (n < 0)
        return n;
    memcpy(named, l->id->key.b, KEY_BYTES);
    n = key_seal(l->id, &a->key, BOX_LAN_QUERY, (struct str){(const char *)plain, (size_t)n},
                 named + KEY_BYTES);
    if (n < 0)
        return n;
    n = key_hide(&a->key, (struct str){(const char *)named, sizeof named}, sealed);
    if (n < 0)
        return n;
    m.sealed = (struct str){(const char *)sealed, (size_t)n};
    return lanmsg_encode(&m, a->bytes, sizeof a->bytes);
}

static void asked_end(struct lan_asked *a)
{
    const struct lan *l = a->lan;
    const struct lan_found nobody = {.key = a->key, .record = STR("")};
    bool found = a->found > 0;
    a->used = false;
    loop_untimer(&a->timer);
    if (!found)
        l->host.found(l->ctx, &nobody);
}

static void asked_fires(struct timer *t)
{
    static const uint64_t waits_ms[] = {200, 400, 400};
    struct lan_asked *a = container_of(t, struct lan_asked, timer);
    if (a->sent == sizeof waits_ms / sizeof *waits_ms) {
        asked_end(a);
        return;
    }
    lan_sockets_say(a->lan, a->bytes, sizeof a->bytes);
    loop_timer(a->lan->loop, t, waits_ms[a->sent]);
    a->sent++;
}

int lan_ask(struct lan *l, const struct key *key)
{
    struct lan_asked *a = NULL;
    for (size_t i = 0; i < LAN_ASKED_MAX; i++) {
        if (l->asked[i].used && key_equal(&l->asked[i].key, key))
            return 0;
        if (!l->asked[i].used && !a)
            a = &l->asked[i];
    }
    if (!a)
        return -EAGAIN;
    *a = (struct lan_asked){.key = *key, .lan = l, .timer.fire = asked_fires};
    randombytes_buf(a->nonce, sizeof a->nonce);
    int r = query_make(l, a);
    if (r < 0)
        return r;
    a->used = true;
    lan_sockets_join(l);
    loop_timer(l->loop, &a->timer, 0);
    return 0;
}

/* Being asked ---------------------------------------------------------------------------------- */

static bool may(struct lan *l, unsigned *count, unsigned most)
{
    uint64_t now = clock_now_ms();
    if (now - l->second_ms >= 1000) {
        l->second_ms = now;
        l->opened = l->answered = 0;
    }
    if (*count >= most)
        return false;
    (*count)++;
    return true;
}

static bool query_open(struct lan *l, const struct lanmsg *m, struct key *ret_asker)
{
    uint8_t named[OUTER], plain[INNER];
    struct lan_query q;
    if (m->sealed.n != OUTER || key_unhide(l->id, m->sealed, named) < 0)
        return false;
    memcpy(ret_asker->b, named, KEY_BYTES);
    int n = key_open(l->id, ret_asker, BOX_LAN_QUERY,
                     (struct str){(const char *)named + KEY_BYTES, INNER}, plain);
    if (n < 0 || lan_query_decode(&q, plain, (size_t)n) < 0 ||
        memcmp(q.nonce, m->nonce, sizeof q.nonce) != 0)
        return false;
    /* What was recorded long ago is not answered. */
    uint64_t now = l->host.unix_ms(l->ctx);
    return (now > q.unix_ms ? now - q.unix_ms : q.unix_ms - now) <= SEALED_OFFER_AGE_MS;
}

static void answer(struct lan *l, const struct addr *to, const struct lanmsg *query,
                   const struct key *asker)
{
    struct lan_answer a = {.port = l->host.port(l->ctx), .record = l->host.record(l->ctx)};
    struct lanmsg m = {.type = LANMSG_ANSWER};
    uint8_t plain[LANMSG_ANSWER_PLAIN], sealed[LANMSG_ANSWER_PLAIN + BOX_OVERHEAD];
    uint8_t bytes[LANMSG_MAX];
    memcpy(a.nonce, query->nonce, sizeof a.nonce);
    memcpy(m.nonce, query->nonce, sizeof m.nonce);
    int n = lan_answer_encode(&a, plain, sizeof plain);
    if (n > 0)
        n = key_seal(l->id, asker, BOX_LAN_ANSWER, (struct str){(const char *)plain, (size_t)n},
                     sealed);
    m.sealed = (struct str){(const char *)sealed, n > 0 ? (size_t)n : 0};
    if (n > 0)
        n = lanmsg_encode(&m, bytes, sizeof bytes);
    if (n > 0)
        lan_sockets_answer(l, to, bytes, (size_t)n);
}

static void asked_by(struct lan *l, const struct addr *from, const struct lanmsg *m)
{
    uint8_t tag[LANMSG_TAG];
    struct key asker;
    tag_make(&l->id->key, m->nonce, tag);
    if (sodium_memcmp(tag, m->tag, sizeof tag) != 0 || !may(l, &l->opened, OPENED_A_SECOND) ||
        !query_open(l, m, &asker) || !l->host.lets_in(l->ctx, &asker))
        return;
    if (may(l, &l->answered, ANSWERED_A_SECOND))
        answer(l, from, m, &asker);
}

/* Answers -------------------------------------------------------------------------------------- */

static bool is_new(struct lan_asked *a, const struct addr *at)
{
    for (unsigned i = 0; i < a->found; i++)
        if (addr_equal(&a->at[i], at))
            return false;
    if (a->found == LAN_FOUND_MAX)
        return false;
    a->at[a->found++] = *at;
    return true;
}

/* It may be empty; but what is there must be the peer's own. */
static bool record_good(const struct key *key, struct str bytes, struct record *ret_fields)
{
    if (bytes.n == 0)
        return true;
    return signed_record_check(bytes) == RDV_OK &&
           signed_record_decode(bytes, ret_fields) == RDV_OK &&
           memcmp(ret_fields->key, key->b, KEY_BYTES) == 0;
}

static void answered_by(struct lan *l, struct lan_asked *a, const struct addr *from,
                        const struct lanmsg *m)
{
    uint8_t plain[LANMSG_MAX];
    struct lan_answer answer;
    struct lan_found f = {.key = a->key, .addr = *from};
    int n = key_open(l->id, &a->key, BOX_LAN_ANSWER, m->sealed, plain);
    if (n < 0 || lan_answer_decode(&answer, plain, (size_t)n) < 0 ||
        memcmp(answer.nonce, a->nonce, sizeof a->nonce) != 0 ||
        !record_good(&a->key, answer.record, &f.fields))
        return;
    addr_set_port(&f.addr, answer.port);
    f.record = answer.record;
    if (is_new(a, &f.addr))
        l->host.found(l->ctx, &f);
}

void lan_input(struct lan *l, const struct addr *from, const void *bytes, size_t n)
{
    struct lanmsg m;
    if (lanmsg_decode(&m, bytes, n) < 0)
        return;
    if (m.type == LANMSG_QUERY) {
        asked_by(l, from, &m);
        return;
    }
    for (size_t i = 0; i < LAN_ASKED_MAX; i++) {
        struct lan_asked *a = &l->asked[i];
        if (a->used && memcmp(a->nonce, m.nonce, sizeof m.nonce) == 0) {
            answered_by(l, a, from, &m);
            return;
        }
    }
}

/* The whole ------------------------------------------------------------------------------------ */

int lan_new(struct loop *loop, const struct lan_host *host, void *ctx, const struct identity *id,
            struct lan **ret_lan)
{
    struct lan *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    *l = (struct lan){.loop = loop, .host = *host, .ctx = ctx, .id = id};
    int r = lan_sockets_open(l);
    if (r < 0) {
        lan_free(l);
        return r;
    }
    *ret_lan = l;
    return 0;
}

void lan_free(struct lan *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < LAN_ASKED_MAX; i++)
        if (l->asked[i].used)
            loop_untimer(&l->asked[i].timer);
    lan_sockets_close(l);
    free(l);
}

void lan_network_changed(struct lan *l)
{
    lan_sockets_join(l);
}
