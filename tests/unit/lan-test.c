/* Peers on one local network, in a network namespace of the test's own, whose loopback interface
 * takes multicast. */
#include "peerd/lan.h"

#include <net/if.h>
#include <sched.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "guard.h"
#include "peerd/lan-internal.h"
#include "rendezvous/signed.h"
#include "test.h"

#define PEERS 3

struct peer {
    struct identity id;
    struct lan *lan;
    const struct key *lets_in; /* NULL: nobody */
    uint8_t record[RECORD_MAX];
    size_t record_n;
    unsigned asked, found, nobody;
    struct lan_found last;
    char service[RECORD_NAME_MAX + 1];
    struct loop *loop;
    unsigned want;
};

struct rig {
    struct loop loop;
    struct timer end;
    struct peer peers[PEERS];
};

static bool alone;

__attribute__((constructor)) static void prepare(void)
{
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_MULTICAST | IFF_LOOPBACK};
    alone = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    alone = alone && ioctl(fd, SIOCSIFFLAGS, &r) == 0;
    (void)close(fd);
    if (keys_init() < 0)
        abort();
    if (!alone)
        (void)puts("# no network namespace here: only what needs none is tested");
}

static bool lets_in(void *ctx, const struct key *asker)
{
    struct peer *p = ctx;
    p->asked++;
    return p->lets_in && key_equal(p->lets_in, asker);
}

static struct str record(void *ctx)
{
    const struct peer *p = ctx;
    return (struct str){(const char *)p->record, p->record_n};
}

static uint16_t port(void *ctx)
{
    (void)ctx;
    return 4711;
}

static uint64_t unix_ms(void *ctx)
{
    (void)ctx;
    return 1900000000000;
}

static void found(void *ctx, const struct lan_found *f)
{
    struct peer *p = ctx;
    p->last = *f;
    p->found += f->addr.len > 0;
    p->nobody += f->addr.len == 0;
    if (f->record.n > 0 && f->fields.service_count > 0)
        (void)snprintf(p->service, sizeof p->service, STR_FMT, STR_ARG(f->fields.services[0].name));
    if (p->found + p->nobody >= p->want)
        loop_stop(p->loop);
}

static const struct lan_host host = {
    .lets_in = lets_in, .record = record, .port = port, .unix_ms = unix_ms, .found = found};

static void late(struct timer *t)
{
    loop_stop(container_of(t, struct rig, end)->peers[0].loop);
}

static void rig_open(struct rig *g)
{
    *g = (struct rig){.end.fire = late};
    CHECK_INT(loop_init(&g->loop), 0);
    for (size_t i = 0; i < PEERS; i++) {
        struct peer *p = &g->peers[i];
        identity_make(&p->id);
        struct record r = {.sequence = 1, .not_after = 1, .relay = STR("")};
        r.services[r.service_count++] = (struct record_service){STR("web"), RECORD_TCP, 0};
        p->record_n = (size_t)signed_record_make(&p->id, &r, p->record);
        p->loop = &g->loop;
        CHECK_INT(lan_new(&g->loop, &host, p, &p->id, &p->lan), 0);
    }
}

static void rig_close(struct rig *g)
{
    for (size_t i = 0; i < PEERS; i++)
        lan_free(g->peers[i].lan);
    loop_done(&g->loop);
}

static void run(struct rig *g, struct peer *p, unsigned want)
{
    p->want = want;
    g->loop.stopped = false;
    loop_timer(&g->loop, &g->end, 5000);
    loop_run(&g->loop);
    loop_untimer(&g->end);
}

/* Loopback has no way for IPv6 multicast. */
TEST("a peer that lets the asker in is found, with its record")
{
    struct rig g;
    if (!alone)
        return;
    rig_open(&g);
    struct peer *home = &g.peers[0], *laptop = &g.peers[1], *other = &g.peers[2];
    home->lets_in = &laptop->id.key;
    other->lets_in = &laptop->id.key;
    CHECK_INT(lan_ask(laptop->lan, &home->id.key), 0);
    CHECK_INT(lan_ask(laptop->lan, &home->id.key), 0); /* no second question */
    run(&g, laptop, 1);
    CHECK_INT(laptop->found, 1);
    CHECK(key_equal(&laptop->last.key, &home->id.key));
    CHECK_INT(addr_port(&laptop->last.addr), 4711);
    CHECK_TEXT(laptop->service, "web");
    CHECK(home->asked > 0);
    CHECK_INT(other->asked, 0);
    rig_close(&g);
}

TEST("a peer that does not let the asker in stays silent, and that is said in the end")
{
    struct rig g;
    if (!alone)
        return;
    rig_open(&g);
    struct peer *home = &g.peers[0], *laptop = &g.peers[1];
    home->lets_in = &g.peers[2].id.key;
    CHECK_INT(lan_ask(laptop->lan, &home->id.key), 0);
    run(&g, laptop, 1);
    CHECK_INT(laptop->found, 0);
    CHECK_INT(laptop->nobody, 1);
    CHECK(home->asked >= 1 && home->asked <= 12); /* three times, both families, one interface */
    rig_close(&g);
}

TEST("a record that is another's or was changed is not believed")
{
    struct rig g;
    if (!alone)
        return;
    rig_open(&g);
    struct peer *home = &g.peers[0], *laptop = &g.peers[1];
    home->lets_in = &laptop->id.key;
    memcpy(home->record, laptop->record, sizeof home->record);
    CHECK_INT(lan_ask(laptop->lan, &home->id.key), 0);
    run(&g, laptop, 1);
    CHECK_INT(laptop->found, 0);
    home->record_n = 0; /* none is no lie */
    CHECK_INT(lan_ask(laptop->lan, &home->id.key), 0);
    run(&g, laptop, 2);
    CHECK_INT(laptop->found, 1);
    rig_close(&g);
}

/* What a stranger on the network can do with a question that was heard. */
TEST("a flood of questions is answered so often, and no more; rubbish never")
{
    struct rig g;
    uint8_t bytes[LANMSG_MAX];
    struct addr from;
    if (!alone)
        return;
    rig_open(&g);
    struct peer *home = &g.peers[0], *laptop = &g.peers[1];
    home->lets_in = &laptop->id.key;
    CHECK_INT(addr_parse("127.0.0.1:9", &from), 0);
    CHECK_INT(lan_ask(laptop->lan, &home->id.key), 0);
    memcpy(bytes, laptop->lan->asked[0].bytes, sizeof bytes);
    for (int i = 0; i < 1000; i++)
        lan_input(home->lan, &from, bytes, sizeof bytes);
    CHECK(home->asked <= 100); /* a second may have passed in between */
    unsigned before = home->asked;
    for (size_t i = 0; i < 200; i++) {
        bytes[i] ^= 0x80;
        lan_input(home->lan, &from, bytes, sizeof bytes);
        bytes[i] ^= 0x80;
    }
    for (size_t n = 0; n < sizeof bytes; n++)
        lan_input(home->lan, &from, bytes, n);
    CHECK_INT(home->asked, before);
    rig_close(&g);
}

TEST("so many are asked for at once, and no more")
{
    struct rig g;
    struct identity id;
    static const struct key none;
    if (!alone)
        return;
    rig_open(&g);
    for (int i = 0; i < LAN_ASKED_MAX; i++) {
        identity_make(&id);
        CHECK_INT(lan_ask(g.peers[0].lan, &id.key), 0);
    }
    identity_make(&id);
    CHECK_INT(lan_ask(g.peers[0].lan, &id.key), -EAGAIN);
    CHECK_INT(lan_ask(g.peers[1].lan, &none), -EINVAL);
    rig_close(&g);
}

TEST("messages survive the wire, and nothing else is taken")
{
    uint8_t buf[LANMSG_MAX + 1], plain[LANMSG_ANSWER_PLAIN], sealed[100] = {1, 2, 3};
    struct lanmsg m = {.type = LANMSG_QUERY, .nonce = {7}, .tag = {8}}, back;
    m.sealed = (struct str){(const char *)sealed, sizeof sealed};
    CHECK_INT(lanmsg_encode(&m, buf, sizeof buf), LANMSG_MAX);
    CHECK_INT(lanmsg_decode(&back, buf, LANMSG_MAX), 0);
    CHECK(back.nonce[0] == 7 && back.tag[0] == 8 && back.sealed.n == 100);
    CHECK_INT(lanmsg_decode(&back, buf, LANMSG_MAX + 1), -EBADMSG);
    for (size_t n = 0; n < LANMSG_MAX; n++) {
        const void *at = guard_copy(buf, n);
        CHECK_INT(lanmsg_decode(&back, at, n), -EBADMSG);
        guard_free(at, n);
    }
    m.type = LANMSG_ANSWER;
    int n = lanmsg_encode(&m, buf, sizeof buf);
    CHECK_INT(n, 4 + LANMSG_NONCE + 2 + 100);
    CHECK_INT(lanmsg_decode(&back, buf, (size_t)n), 0);
    CHECK_INT(lanmsg_decode(&back, buf, (size_t)n + 1), -EBADMSG);
    struct lan_answer a = {.nonce = {1}, .port = 9, .record = STR("record")}, a2;
    n = lan_answer_encode(&a, plain, sizeof plain);
    CHECK_INT(lan_answer_decode(&a2, plain, (size_t)n), 0);
    CHECK_STR(a2.record, "record");
    for (int cut = 0; cut < n; cut++)
        CHECK_INT(lan_answer_decode(&a2, plain, (size_t)cut), -EBADMSG);
    struct lan_query q = {.nonce = {1}, .unix_ms = 5, .port = 9}, q2;
    n = lan_query_encode(&q, plain, sizeof plain);
    CHECK_INT(n, LANMSG_QUERY_PLAIN);
    CHECK_INT(lan_query_decode(&q2, plain, (size_t)n), 0);
    CHECK(q2.unix_ms == 5 && q2.port == 9);
    for (int cut = 0; cut < n; cut++)
        CHECK_INT(lan_query_decode(&q2, plain, (size_t)cut), -EBADMSG);
}
