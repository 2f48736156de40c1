/* The server without sockets: messages, senders and the time come in, answers go out. */
#include "rendezvous/server.h"

#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "rendezvous/signed.h"
#include "test.h"
#include "wire/stun.h"

#define NOW_S 1900000000u

static char folder[] = "/tmp/berth-rdv-XXXXXX";

struct rig {
    struct rdv_shared shared;
    struct rdv rdv;
    struct addr from;
    uint64_t connection, now_ms, unix_s;
    uint8_t cookie[RDVMSG_COOKIE];
    struct identity id;
    uint8_t out[RDVMSG_MAX];
    size_t in_n, out_n;
};

__attribute__((constructor)) static void prepare(void)
{
    if (keys_init() < 0 || !mkdtemp(folder))
        abort();
}

__attribute__((destructor)) static void clean(void)
{
    const char *const left[] = {"names.db", "names.db-wal", ""};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        char path[64];
        (void)snprintf(path, sizeof path, "%s/%s", folder, left[i]);
        (void)remove(path);
    }
}

static void rig_open(struct rig *g, uint32_t signatures)
{
    char trouble[256];
    *g = (struct rig){.shared = {.lease_s = 90, .refresh_s = 25, .signatures = signatures},
                      .now_ms = 1000000,
                      .unix_s = NOW_S};
    g->shared.registry = registry_new(1000, 90);
    g->shared.names = names_new(1000);
    const struct relay_limits limits = {.pairs = 100, .pairs_key = 10};
    g->shared.relay = relay_new(&limits);
    g->shared.learned = learned_new();
    CHECK_INT(names_store_open(folder, g->shared.names, &g->shared.store, trouble, sizeof trouble),
              0);
    randombytes_buf(g->shared.master, sizeof g->shared.master);
    CHECK_INT(rdv_init(&g->rdv, &g->shared), 0);
    CHECK_INT(addr_parse("192.0.2.1:4711", &g->from), 0);
    identity_make(&g->id);
}

static void rig_close(struct rig *g)
{
    names_store_stop(g->shared.store);
    names_store_free(g->shared.store);
    rdv_done(&g->rdv);
    registry_free(g->shared.registry);
    names_free(g->shared.names);
    relay_free(g->shared.relay);
    learned_free(g->shared.learned);
}

static size_t send_bytes(struct rig *g, const void *bytes, size_t n)
{
    struct rdv_input in = {.bytes = {bytes, n},
                           .from = g->from,
                           .via = {.connection = g->connection},
                           .now_ms = g->now_ms,
                           .unix_s = g->unix_s};
    g->in_n = n;
    g->out_n = rdv_handle(&g->rdv, &in, g->out);
    return g->out_n;
}

/* The answer's type; 0: none. Whatever it is: without proof it is no longer than the question. */
static enum rdvmsg_type ask(struct rig *g, struct rdvmsg *m, struct rdvmsg *answer)
{
    uint8_t buf[RDVMSG_MAX];
    m->transaction = 77;
    int n = rdvmsg_encode(m, buf, sizeof buf);
    if (send_bytes(g, buf, (size_t)n) == 0)
        return 0;
    CHECK_INT(rdvmsg_decode(answer, g->out, g->out_n), 0);
    CHECK_INT(answer->transaction, 77);
    return answer->type;
}

static void hello(struct rig *g)
{
    struct rdvmsg m = {.type = RDVMSG_HELLO, .pad_to = RDVMSG_HELLO_MIN}, a;
    CHECK_INT(ask(g, &m, &a), RDVMSG_COOKIE_IS);
    CHECK(addr_equal(&a.addr, &g->from));
    memcpy(g->cookie, a.cookie, sizeof g->cookie);
}

static size_t make_record(struct rig *g, uint64_t sequence, uint64_t not_after,
                          uint8_t buf[RECORD_MAX])
{
    struct record r = {.sequence = sequence, .not_after = not_after, .relay = STR("")};
    r.services[r.service_count++] = (struct record_service){STR("web"), RECORD_TCP, 8080};
    int n = signed_record_make(&g->id, &r, buf);
    CHECK(n > 0);
    return (size_t)n;
}

static enum rdvmsg_type send_record(struct rig *g, struct str record, struct rdvmsg *answer)
{
    struct rdvmsg m = {.type = RDVMSG_REGISTER, .record = record};
    memcpy(m.cookie, g->cookie, sizeof m.cookie);
    CHECK_INT(signed_request_make(&g->id, KEY_LOGIN, g->cookie, record, m.signature), 0);
    return ask(g, &m, answer);
}

static enum rdv_reason enter(struct rig *g, uint64_t sequence, uint64_t not_after,
                             struct rdvmsg *answer)
{
    uint8_t buf[RECORD_MAX];
    size_t n = make_record(g, sequence, not_after, buf);
    enum rdvmsg_type t = send_record(g, (struct str){(char *)buf, n}, answer);
    CHECK(t == RDVMSG_REGISTERED || t == RDVMSG_ERROR);
    return t == RDVMSG_ERROR ? answer->reason : RDV_OK;
}

TEST("a registration is found, verbatim, and refreshed by its token")
{
    struct rig g;
    struct rdvmsg a, m = {.type = RDVMSG_LOOKUP};
    struct record r;
    rig_open(&g, 0);
    hello(&g);
    CHECK_INT(enter(&g, 1, NOW_S + 100, &a), RDV_OK);
    CHECK_INT(a.lifetime_s, 90);
    CHECK_INT(a.refresh_s, 25);
    struct rdvmsg f = {.type = RDVMSG_REFRESH};
    memcpy(f.token, a.token, sizeof f.token);
    memcpy(f.key, g.id.key.b, sizeof f.key);
    g.now_ms += 80000;
    CHECK_INT(ask(&g, &f, &a), RDVMSG_REFRESHED);
    CHECK(g.out_n <= g.in_n);
    CHECK_INT(a.number, 1);
    g.now_ms += 80000;
    memcpy(m.cookie, g.cookie, sizeof m.cookie);
    memcpy(m.key, g.id.key.b, sizeof m.key);
    CHECK_INT(ask(&g, &m, &a), RDVMSG_FOUND);
    CHECK_INT(a.age_s, 80);
    CHECK_INT(signed_record_check(a.record), RDV_OK);
    CHECK_INT(signed_record_decode(a.record, &r), RDV_OK);
    CHECK_STR(r.services[0].name, "web");
    g.now_ms += 20000;
    CHECK_INT(ask(&g, &f, &a), RDVMSG_ERROR);
    rig_close(&g);
}

TEST("records that are old, changed, expired or too long valid are refused")
{
    struct rig g;
    struct rdvmsg a;
    rig_open(&g, 0);
    hello(&g);
    CHECK_INT(enter(&g, 5, NOW_S + 100, &a), RDV_OK);
    CHECK_INT(enter(&g, 5, NOW_S + 100, &a), RDV_OK);
    CHECK_INT(enter(&g, 4, NOW_S + 100, &a), RDV_REPLAYED);
    CHECK_INT(a.number, 5);
    CHECK_INT(enter(&g, 5, NOW_S + 101, &a), RDV_SEQUENCE_REUSED);
    CHECK_INT(enter(&g, 6, NOW_S, &a), RDV_EXPIRED);
    CHECK_INT(enter(&g, 6, NOW_S + RDV_VALID_MAX_S + 1, &a), RDV_TOO_LONG_VALID);
    CHECK_INT(g.rdv.counters.refused[RDV_REPLAYED], 1);
    rig_close(&g);
}

TEST("a record that has expired is shown no more, though it is refreshed")
{
    struct rig g;
    struct rdvmsg a, m = {.type = RDVMSG_LOOKUP, .pad_to = RDVMSG_MAX};
    rig_open(&g, 0);
    hello(&g);
    CHECK_INT(enter(&g, 1, NOW_S + 10, &a), RDV_OK);
    memcpy(m.key, g.id.key.b, sizeof m.key);
    g.unix_s += 9;
    CHECK_INT(ask(&g, &m, &a), RDVMSG_FOUND);
    g.unix_s += 1;
    CHECK_INT(ask(&g, &m, &a), RDVMSG_ERROR);
    CHECK_INT(a.reason, RDV_NOT_REGISTERED);
    rig_close(&g);
}

TEST("no byte of a registration can be changed")
{
    struct rig g;
    struct rdvmsg a, m = {.type = RDVMSG_REGISTER};
    uint8_t record[RECORD_MAX], buf[RDVMSG_MAX];
    rig_open(&g, 0);
    hello(&g);
    size_t n = make_record(&g, 1, NOW_S + 100, record);
    m.record = (struct str){(char *)record, n};
    memcpy(m.cookie, g.cookie, sizeof m.cookie);
    CHECK_INT(signed_request_make(&g.id, KEY_LOGIN, g.cookie, m.record, m.signature), 0);
    int len = rdvmsg_encode(&m, buf, sizeof buf);
    for (int i = RDVMSG_HEAD; i < len; i++) {
        buf[i] ^= 0x40;
        CHECK(send_bytes(&g, buf, (size_t)len) > 0);
        CHECK_INT(rdvmsg_decode(&a, g.out, g.out_n), 0);
        CHECK(a.type == RDVMSG_ERROR || a.type == RDVMSG_COOKIE_IS);
        buf[i] ^= 0x40;
    }
    for (int i = 0; i < len; i++)
        if (send_bytes(&g, buf, (size_t)i) > 0)
            CHECK_INT(g.out[2], RDVMSG_ERROR);
    CHECK_INT(registry_count(g.shared.registry), 0);
    CHECK(g.rdv.counters.refused[RDV_FORGED] > 0);
    CHECK(g.rdv.counters.refused[RDV_BAD_MESSAGE] > 0);
    CHECK(send_bytes(&g, buf, (size_t)len) > 0);
    CHECK_INT(g.out[2], RDVMSG_REGISTERED);
    rig_close(&g);
}

TEST("a record whose own signature is wrong is refused though its owner logs in with it")
{
    struct rig g;
    struct rdvmsg a;
    uint8_t record[RECORD_MAX];
    rig_open(&g, 0);
    hello(&g);
    size_t n = make_record(&g, 1, NOW_S + 100, record);
    record[n - 1] ^= 1;
    CHECK_INT(send_record(&g, (struct str){(char *)record, n}, &a), RDVMSG_ERROR);
    CHECK_INT(a.reason, RDV_FORGED);
    rig_close(&g);
}

TEST("somebody else's record is registered by nobody else")
{
    struct rig g;
    struct rdvmsg a;
    uint8_t record[RECORD_MAX];
    rig_open(&g, 0);
    hello(&g);
    size_t n = make_record(&g, 1, NOW_S + 100, record);
    identity_make(&g.id);
    CHECK_INT(send_record(&g, (struct str){(char *)record, n}, &a), RDVMSG_ERROR);
    CHECK_INT(a.reason, RDV_FORGED);
    rig_close(&g);
}

TEST("a login is good for its address and for two periods only")
{
    struct rig g;
    struct rdvmsg a;
    uint8_t record[RECORD_MAX];
    rig_open(&g, 0);
    hello(&g);
    size_t n = make_record(&g, 1, NOW_S + 100, record);
    struct str bytes = {(char *)record, n};
    g.now_ms += SECRETS_PERIOD_S * 1000;
    CHECK_INT(send_record(&g, bytes, &a), RDVMSG_REGISTERED);
    g.now_ms += SECRETS_PERIOD_S * 1000;
    CHECK_INT(send_record(&g, bytes, &a), RDVMSG_COOKIE_IS);
    hello(&g);
    addr_set_port(&g.from, 4712);
    CHECK_INT(send_record(&g, bytes, &a), RDVMSG_COOKIE_IS);
    rig_close(&g);
}

TEST("a token is good for its key and address only, and is renewed when the keys turn")
{
    struct rig g;
    struct rdvmsg a, f = {.type = RDVMSG_REFRESH};
    rig_open(&g, 0);
    hello(&g);
    CHECK_INT(enter(&g, 1, NOW_S + 100, &a), RDV_OK);
    memcpy(f.token, a.token, sizeof f.token);
    memcpy(f.key, g.id.key.b, sizeof f.key);
    addr_set_port(&g.from, 4712);
    CHECK_INT(ask(&g, &f, &a), RDVMSG_ERROR);
    CHECK_INT(a.reason, RDV_BAD_TOKEN);
    addr_set_port(&g.from, 4711);
    f.key[0] ^= 1;
    CHECK_INT(ask(&g, &f, &a), RDVMSG_ERROR);
    f.key[0] ^= 1;
    for (int i = 0; i < 20; i++) {
        g.now_ms += 60000;
        CHECK_INT(ask(&g, &f, &a), RDVMSG_REFRESHED);
        memcpy(f.token, a.token, sizeof f.token);
    }
    rig_close(&g);
}

TEST("to an address without proof nothing longer goes than what came")
{
    struct rig g;
    struct rdvmsg a;
    rig_open(&g, 0);
    hello(&g);
    CHECK_INT(enter(&g, 1, NOW_S + 100, &a), RDV_OK);
    /* From another address, without its cookie, each type at each length. */
    addr_set_port(&g.from, 9);
    for (enum rdvmsg_type t = RDVMSG_HELLO; t < RDVMSG_TYPE_COUNT; t++) {
        uint8_t buf[RDVMSG_MAX];
        struct rdvmsg m = {.type = t, .pad_to = 1000, .addr = g.from, .record = STR("x")};
        memcpy(m.key, g.id.key.b, sizeof m.key);
        int n = rdvmsg_encode(&m, buf, sizeof buf);
        for (int i = 1; i <= n; i++)
            CHECK(send_bytes(&g, buf, (size_t)i) <= (size_t)i);
    }
    CHECK(g.rdv.counters.withheld > 0);
    rig_close(&g);
}

TEST("who pads a lookup enough, shows a cookie, or asks over TCP gets the record")
{
    struct rig g;
    struct rdvmsg a, m = {.type = RDVMSG_LOOKUP, .pad_to = 100};
    rig_open(&g, 0);
    hello(&g);
    CHECK_INT(enter(&g, 1, NOW_S + 100, &a), RDV_OK);
    memcpy(m.key, g.id.key.b, sizeof m.key);
    CHECK_INT(ask(&g, &m, &a), RDVMSG_COOKIE_IS);
    memcpy(m.cookie, a.cookie, sizeof m.cookie);
    CHECK_INT(ask(&g, &m, &a), RDVMSG_FOUND);
    memset(m.cookie, 0, sizeof m.cookie);
    m.pad_to = RDVMSG_MAX;
    CHECK_INT(ask(&g, &m, &a), RDVMSG_FOUND);
    m.pad_to = 0;
    g.connection = 1;
    CHECK_INT(ask(&g, &m, &a), RDVMSG_FOUND);
    rig_close(&g);
}

/* CLAIM or RELEASE to its end. */
static enum rdv_reason name_run(struct rig *g, enum rdvmsg_type type, const char *name)
{
    struct rdvmsg a, m = {.type = type, .name = str_of(name)};
    enum key_purpose purpose = type == RDVMSG_CLAIM ? KEY_CLAIM : KEY_RELEASE;
    memcpy(m.cookie, g->cookie, sizeof m.cookie);
    memcpy(m.key, g->id.key.b, sizeof m.key);
    CHECK_INT(signed_request_make(&g->id, purpose, g->cookie, m.name, m.signature), 0);
    if (ask(g, &m, &a) == RDVMSG_ERROR)
        return a.reason;
    struct job *job;
    while (!(job = outbox_take(&g->rdv.outbox))) {
        uint64_t count;
        struct pollfd p = {.fd = g->rdv.outbox.event_fd, .events = POLLIN};
        if (poll(&p, 1, 10000) <= 0 || read(p.fd, &count, sizeof count) < 0)
            abort();
    }
    size_t n = rdv_finish(&g->rdv, job, g->out);
    free(job);
    CHECK_INT(rdvmsg_decode(&a, g->out, n), 0);
    return a.type == RDVMSG_DONE ? RDV_OK : a.reason;
}

TEST("a name is claimed, resolved and released by signature")
{
    struct rig g;
    struct identity first;
    struct rdvmsg a, m = {.type = RDVMSG_LOOKUP, .name = STR("home"), .pad_to = RDVMSG_MAX};
    rig_open(&g, 0);
    hello(&g);
    CHECK_INT(ask(&g, &m, &a), RDVMSG_ERROR);
    CHECK_INT(a.reason, RDV_UNKNOWN_NAME);
    CHECK_INT(name_run(&g, RDVMSG_CLAIM, "home"), RDV_OK);
    CHECK_INT(name_run(&g, RDVMSG_CLAIM, "Home"), RDV_BAD_NAME);
    CHECK_INT(ask(&g, &m, &a), RDVMSG_FOUND);
    CHECK_INT(memcmp(a.key, g.id.key.b, sizeof a.key), 0);
    CHECK_INT(a.number, NOW_S);
    CHECK_INT(a.record.n, 0);
    first = g.id;
    identity_make(&g.id);
    CHECK_INT(name_run(&g, RDVMSG_CLAIM, "home"), RDV_NAME_TAKEN);
    CHECK_INT(name_run(&g, RDVMSG_RELEASE, "home"), RDV_NOT_OWNER);
    g.id = first;
    CHECK_INT(name_run(&g, RDVMSG_RELEASE, "home"), RDV_OK);
    rig_close(&g);
}

TEST("a claim's signature releases nothing, and is for its name only")
{
    struct rig g;
    struct rdvmsg a, m = {.type = RDVMSG_RELEASE, .name = STR("home")};
    rig_open(&g, 0);
    hello(&g);
    memcpy(m.cookie, g.cookie, sizeof m.cookie);
    memcpy(m.key, g.id.key.b, sizeof m.key);
    CHECK_INT(signed_request_make(&g.id, KEY_CLAIM, g.cookie, m.name, m.signature), 0);
    CHECK_INT(ask(&g, &m, &a), RDVMSG_ERROR);
    CHECK_INT(a.reason, RDV_FORGED);
    m.type = RDVMSG_CLAIM;
    m.name = STR("hope");
    CHECK_INT(ask(&g, &m, &a), RDVMSG_ERROR);
    CHECK_INT(a.reason, RDV_FORGED);
    rig_close(&g);
}

TEST("registrations from one source are limited, others are not held up by it")
{
    struct rig g;
    struct rdvmsg a;
    rig_open(&g, 5);
    hello(&g);
    int good = 0;
    for (int i = 1; i <= 100; i++)
        good += enter(&g, (uint64_t)i, NOW_S + 100, &a) == RDV_OK;
    CHECK_INT(good, 20);
    CHECK_INT(g.rdv.counters.refused[RDV_RATE_LIMITED], 80);
    CHECK_INT(addr_parse("192.0.2.2:4711", &g.from), 0);
    hello(&g);
    CHECK_INT(enter(&g, 101, NOW_S + 100, &a), RDV_OK);
    CHECK_INT(addr_parse("192.0.2.1:4711", &g.from), 0);
    hello(&g);
    g.now_ms += 1000;
    good = 0;
    for (int i = 102; i <= 120; i++)
        good += enter(&g, (uint64_t)i, NOW_S + 100, &a) == RDV_OK;
    CHECK_INT(good, 5);
    rig_close(&g);
}

TEST("a full registry refuses new peers and keeps those it has")
{
    struct rig g;
    struct rdvmsg a;
    rig_open(&g, 0);
    hello(&g);
    for (int i = 0; i < 1000; i++) {
        g.now_ms += 1;
        identity_make(&g.id);
        CHECK_INT(enter(&g, 1, NOW_S + 100, &a), RDV_OK);
    }
    struct identity last = g.id;
    identity_make(&g.id);
    CHECK_INT(enter(&g, 1, NOW_S + 100, &a), RDV_FULL);
    g.id = last;
    CHECK_INT(enter(&g, 2, NOW_S + 100, &a), RDV_OK);
    rig_close(&g);
}

static const char bare_stun[] = "\0\1\0\0\x21\x12\xa4\x42"
                                "123456789012";

TEST("STUN is answered, and to one network only so often")
{
    struct rig g;
    struct stun s;
    int answered = 0;
    rig_open(&g, 0);
    CHECK_INT(send_bytes(&g, bare_stun, STUN_HEAD), 32);
    CHECK_INT(stun_decode(&s, g.out, g.out_n), 0);
    CHECK_INT(s.type, STUN_SUCCESS);
    CHECK(addr_equal(&s.mapped, &g.from));
    for (int i = 0; i < 1000; i++)
        answered += send_bytes(&g, bare_stun, STUN_HEAD) > 0;
    CHECK_INT(answered, 99);
    CHECK_INT(addr_parse("198.51.100.1:4711", &g.from), 0);
    CHECK_INT(send_bytes(&g, bare_stun, STUN_HEAD), 32);
    rig_close(&g);
}

TEST("with four sockets the answer leaves from the one that was asked for")
{
    struct rig g;
    struct stun s;
    char origin[ADDR_TEXT_MAX], other[ADDR_TEXT_MAX];
    static const char *const at[2][2] = {{"192.0.2.1:1", "192.0.2.1:2"},
                                         {"192.0.2.2:1", "192.0.2.2:2"}};
    rig_open(&g, 0);
    g.shared.stun.on = true;
    for (uint32_t i = 0; i < 4; i++) {
        g.shared.stun.socket[i / 2][i % 2] = i;
        CHECK_INT(addr_parse(at[i / 2][i % 2], &g.shared.stun.at[i / 2][i % 2]), 0);
    }
    for (uint32_t change = 0; change < 4; change++) {
        uint8_t buf[STUN_MAX];
        struct stun ask = {.type = STUN_REQUEST, .has_change = true, .change = change * 2};
        int n = stun_encode(&ask, buf, sizeof buf);
        CHECK(send_bytes(&g, buf, (size_t)n) > 0);
        CHECK_INT(stun_decode(&s, g.out, g.out_n), 0);
        CHECK_INT(s.type, STUN_SUCCESS);
        bool ip = change * 2 & STUN_CHANGE_IP, port = change * 2 & STUN_CHANGE_PORT;
        CHECK_INT(g.rdv.send_from, ip * 2 + port);
        CHECK_TEXT(addr_format(&s.origin, origin), at[ip][port]);
        CHECK_TEXT(addr_format(&s.other, other), at[1][1]);
    }
    rig_close(&g);
}

static int ask_elsewhere(struct rig *g, uint16_t port, size_t length, struct stun *ret_answer)
{
    uint8_t buf[STUN_MAX];
    struct stun ask = {
        .type = STUN_REQUEST, .has_response_port = true, .response_port = port, .pad_to = length};
    int n = stun_encode(&ask, buf, sizeof buf);
    int got = (int)send_bytes(g, buf, (size_t)n);
    CHECK(got <= n);
    if (got > 0)
        CHECK_INT(stun_decode(ret_answer, g->out, g->out_n), 0);
    return got;
}

TEST("the answer goes to another port of the asker, if the question was long enough")
{
    struct rig g;
    struct stun s;
    rig_open(&g, 0);
    CHECK_INT(ask_elsewhere(&g, 40000, 32, &s), 32);
    CHECK_INT(s.type, STUN_SUCCESS);
    CHECK_INT(g.rdv.send_to, 40000);
    CHECK(addr_equal(&s.mapped, &g.from));
    CHECK(send_bytes(&g, bare_stun, STUN_HEAD) > 0);
    CHECK_INT(g.rdv.send_to, 0);
    CHECK_INT(ask_elsewhere(&g, 40000, 0, &s), 28);
    CHECK_INT(s.error, 400);
    CHECK_INT(g.rdv.send_to, 0);
    rig_close(&g);
}

TEST("ports of the system get no such answer, and one network only so many")
{
    struct rig g;
    struct stun s;
    int answered = 0;
    rig_open(&g, 0);
    for (uint16_t port = 0; port < 1024; port += 341) {
        CHECK_INT(ask_elsewhere(&g, port, 32, &s), 28);
        CHECK_INT(s.error, 400);
        CHECK_INT(g.rdv.send_to, 0);
    }
    CHECK_INT(ask_elsewhere(&g, 1024, 32, &s), 32);
    for (int i = 0; i < 1000; i++)
        answered += ask_elsewhere(&g, 2048, 96, &s) > 0;
    CHECK_INT(answered, 99);
    rig_close(&g);
}

TEST("a STUN attribute that must be understood and is not is named")
{
    struct rig g;
    struct stun s;
    static const char request[] = "\0\1\0\x08\x21\x12\xa4\x42"
                                  "123456789012"
                                  "\0\3\0\4\0\0\0\6";
    rig_open(&g, 0);
    CHECK(send_bytes(&g, request, 28) > 0);
    CHECK_INT(stun_decode(&s, g.out, g.out_n), 0);
    CHECK_INT(s.type, STUN_FAILURE);
    CHECK_INT(s.error, 420);
    rig_close(&g);
}

TEST("what only servers send is never answered, so that two of them cannot be made to talk")
{
    struct rig g;
    struct rdvmsg a;
    static const enum rdvmsg_type answers[] = {
        RDVMSG_COOKIE_IS, RDVMSG_REGISTERED, RDVMSG_REFRESHED,  RDVMSG_FOUND,   RDVMSG_DONE,
        RDVMSG_NAMES,     RDVMSG_ERROR,      RDVMSG_ALLOWED_IS, RDVMSG_CALLING, RDVMSG_INVITE,
        RDVMSG_ANSWERED,  RDVMSG_START,      RDVMSG_OPENED};
    rig_open(&g, 0);
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct rdvmsg m = {.type = answers[i], .addr = g.from, .reason = RDV_BUSY};
        CHECK_INT(ask(&g, &m, &a), 0);
    }
    rig_close(&g);
}

TEST("noise gets no answer")
{
    struct rig g;
    rig_open(&g, 0);
    CHECK_INT(send_bytes(&g, "", 0), 0);
    CHECK_INT(send_bytes(&g, "hello, is anybody there?", 24), 0);
    CHECK_INT(send_bytes(&g, g.out, sizeof g.out), 0);
    CHECK_INT(g.rdv.counters.dropped, 3);
    rig_close(&g);
}
