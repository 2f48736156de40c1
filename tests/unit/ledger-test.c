/* The ledger over real connections: what is open, what a program closed, what is left of it. */
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <unistd.h>

#include "share/ledger.h"
#include "test.h"

struct pair {
    int client, server;
    struct addr peer;
};

static int diag_open(void)
{
    return socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
}

static struct addr name_of(int fd)
{
    struct addr a;
    socklen_t len = sizeof a.un;
    CHECK_INT(getsockname(fd, &a.sa, &len), 0);
    return addr_from(&a.sa, len);
}

static bool pair_open(struct pair *p, const char *at)
{
    struct addr a;
    CHECK_INT(addr_parse(at, &a), 0);
    CLEANUP_FD int l = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(l, &a.sa, a.len) < 0 || listen(l, 1) < 0)
        return false;
    a = name_of(l);
    p->client = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(connect(p->client, &a.sa, a.len), 0);
    p->server = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    p->peer = name_of(p->client);
    return true;
}

struct closed {
    struct ledger_closed base;
    size_t count;
    struct addr peer;
};

static void note(struct ledger_closed *self, const struct ledger_entry *e)
{
    struct closed *c = container_of(self, struct closed, base);
    c->count++;
    c->peer = ledger_peer(e);
}

static size_t closed_count(struct ledger *l, int diag, size_t max)
{
    struct closed c = {.base.fn = note};
    (void)ledger_check(l, diag, max, &c.base);
    return c.count;
}

static void closed_is_seen(const char *at)
{
    struct ledger l;
    struct pair p;
    if (!pair_open(&p, at))
        return; /* no IPv6 here */
    CLEANUP_FD int diag = diag_open();
    ledger_init(&l);
    struct ledger_entry *e = ledger_entry_new(p.server, &p.peer);
    CHECK(e != NULL);
    ledger_add_consume(&l, e);
    CHECK_INT(closed_count(&l, diag, 10), 0);
    /* The client's end alone closes nothing for the program. */
    (void)fd_close(p.client);
    CHECK_INT(closed_count(&l, diag, 10), 0);
    (void)fd_close(p.server);
    struct closed c = {.base.fn = note};
    CHECK_INT(ledger_check(&l, diag, 10, &c.base), 1);
    CHECK_INT(c.count, 1);
    CHECK(addr_equal(&c.peer, &p.peer));
    CHECK_INT(closed_count(&l, diag, 10), 0);
    ledger_done(&l);
}

TEST("a connection is open until the program closes it, over IPv4")
{
    closed_is_seen("127.0.0.1:0");
}

TEST("a connection is open until the program closes it, over IPv6")
{
    closed_is_seen("[::1]:0");
}

TEST("what a program closed counts as closed while the kernel still has it to send")
{
    static char much[4 << 20];
    struct ledger l;
    struct pair p;
    CHECK(pair_open(&p, "127.0.0.1:0"));
    CLEANUP_FD int diag = diag_open();
    ledger_init(&l);
    ledger_add_consume(&l, ledger_entry_new(p.server, &p.peer));
    (void)send(p.server, much, sizeof much, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)fd_close(p.server);
    CHECK_INT(closed_count(&l, diag, 10), 1);
    (void)fd_close(p.client);
    ledger_done(&l);
}

TEST("another socket with the same addresses is not the one that was delivered")
{
    struct ledger l;
    struct pair p;
    CHECK(pair_open(&p, "127.0.0.1:0"));
    CLEANUP_FD int diag = diag_open();
    ledger_init(&l);
    struct addr local = name_of(p.server);
    ledger_add_consume(&l, ledger_entry_make(&local, &p.peer, 12345));
    CHECK_INT(closed_count(&l, diag, 10), 1);
    (void)fd_close(p.client);
    (void)fd_close(p.server);
    ledger_done(&l);
}

TEST("of many only as many are asked for as may be, those first that were not for longest")
{
    enum { COUNT = 100 };
    struct ledger l;
    struct pair *p = calloc(COUNT, sizeof *p);
    CLEANUP_FD int diag = diag_open();
    ledger_init(&l);
    for (int i = 0; i < COUNT; i++) {
        CHECK(pair_open(&p[i], "127.0.0.1:0"));
        ledger_add_consume(&l, ledger_entry_new(p[i].server, &p[i].peer));
    }
    for (int i = 0; i < COUNT; i += 2)
        (void)fd_close(p[i].server);
    CHECK_INT(closed_count(&l, diag, 10), 5);
    CHECK_INT(closed_count(&l, diag, 10), 5);
    CHECK_INT(closed_count(&l, diag, 1000), 40);
    for (int i = 0; i < COUNT; i++) {
        (void)fd_close(p[i].client);
        if (i % 2)
            (void)fd_close(p[i].server);
    }
    CHECK_INT(closed_count(&l, diag, 1000), 50);
    ledger_done(&l);
    free(p);
}

TEST("without an answer everything stays open")
{
    struct ledger l;
    struct pair p;
    CHECK(pair_open(&p, "127.0.0.1:0"));
    ledger_init(&l);
    ledger_add_consume(&l, ledger_entry_new(p.server, &p.peer));
    (void)fd_close(p.server);
    CHECK_INT(closed_count(&l, -EBADF, 10), 0);
    (void)fd_close(p.client);
    ledger_done(&l);
}

TEST("an entry is found by its socket and taken out")
{
    struct ledger l;
    struct pair p;
    CHECK(pair_open(&p, "127.0.0.1:0"));
    ledger_init(&l);
    ledger_add_consume(&l, ledger_entry_new(p.server, &p.peer));
    CHECK(ledger_take(&l, p.client) == NULL);
    struct ledger_entry *e = ledger_take(&l, p.server);
    CHECK(e != NULL && list_empty(&l.entries));
    free(e);
    (void)fd_close(p.client);
    (void)fd_close(p.server);
    ledger_done(&l);
}

TEST("Unix connections are not counted")
{
    int pair[2];
    struct addr peer = {.un.sun_family = AF_UNIX, .len = sizeof peer.un.sun_family};
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    CHECK(ledger_entry_new(pair[0], &peer) == NULL);
    (void)fd_close(pair[0]);
    (void)fd_close(pair[1]);
}
