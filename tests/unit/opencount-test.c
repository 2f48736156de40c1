/* Counts the connections of this very process and of children that inherit them. */
#include "launch/opencount.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "test.h"

#define MANY 2000

struct pair {
    int client, server;
};

static int listener(int family, uint16_t *ret_port)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in at4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct sockaddr *sa =
        family == AF_INET ? (struct sockaddr *)&at4 : (struct sockaddr *)&at;
    socklen_t len = family == AF_INET ? sizeof at4 : sizeof at, got = sizeof at;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(fd, sa, len), 0);
    CHECK_INT(listen(fd, 64), 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)&at, &got), 0);
    *ret_port = ntohs(at.sin6_port);
    return fd;
}

static struct pair pair_make(int listening)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    CHECK_INT(getsockname(listening, (struct sockaddr *)&at, &len), 0);
    struct pair p = {.client = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    CHECK_INT(connect(p.client, (struct sockaddr *)&at, len), 0);
    p.server = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    CHECK(p.server >= 0);
    return p;
}

static uint32_t count_own(const struct opencount_places *places)
{
    struct proctree_root root = {.pid = getpid()};
    struct proctree t;
    uint32_t count = 0;
    CHECK_INT(proctree_read(&root, 1, &t), 0);
    CHECK_INT(opencount(places, &t, &count, 1), 0);
    proctree_done(&t);
    return count;
}

static uint32_t count_port(uint16_t port)
{
    return count_own(&(struct opencount_places){.ports = &port, .port_count = 1});
}

static void counts_of(int family)
{
    uint16_t port;
    int listening = listener(family, &port);
    CHECK_INT(count_port(port), 0);
    struct pair a = pair_make(listening), b = pair_make(listening);
    CHECK_INT(count_port(port), 2);
    int twice = dup(a.server);
    CHECK_INT(count_port(port), 2);
    (void)close(a.server);
    CHECK_INT(count_port(port), 2);
    (void)close(twice);
    CHECK_INT(count_port(port), 1);
    (void)close(b.client);
    CHECK_INT(count_port(port), 1);
    (void)close(b.server);
    CHECK_INT(count_port(port), 0);
    (void)close(a.client);
    (void)close(listening);
}

TEST("an IPv4 connection counts until the program has closed its last descriptor")
{
    counts_of(AF_INET);
}

TEST("so does one of IPv6")
{
    counts_of(AF_INET6);
}

TEST("a connection that one side or both have ended still counts while it is held")
{
    uint16_t port;
    int listening = listener(AF_INET, &port);
    struct pair p = pair_make(listening), q = pair_make(listening);
    CHECK_INT(shutdown(p.server, SHUT_WR), 0);
    CHECK_INT(shutdown(q.client, SHUT_WR), 0);
    CHECK_INT(count_port(port), 2);
    (void)(close(p.client) + close(p.server) + close(q.client) + close(q.server));
    (void)close(listening);
}

TEST("what waits in a listening socket or in a queue is nobody's yet")
{
    uint16_t port;
    int queue[2], listening = listener(AF_INET, &port);
    struct pair p = pair_make(listening);
    CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, queue), 0);
    char byte = 0, room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec iov = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &p.server, sizeof(int));
    CHECK_INT(sendmsg(queue[0], &m, 0), 1);
    CHECK_INT(count_port(port), 1);
    (void)close(p.server);
    CHECK_INT(count_port(port), 0);
    (void)(close(queue[0]) + close(queue[1]) + close(p.client) + close(listening));
}

TEST("workers are counted in one pass, each connection once for each of them")
{
    uint16_t ports[2];
    int a = listener(AF_INET, &ports[0]), b = listener(AF_INET, &ports[1]);
    struct pair p = pair_make(a), q = pair_make(b), r = pair_make(b);
    struct proctree_process list[4] = {{.root = 0}, {.root = 0}, {.root = 1}, {.pid = 1 << 22}};
    pid_t child = fork();
    if (child == 0) {
        for (;;)
            (void)pause();
    }
    list[0].pid = getpid();
    list[1].pid = list[2].pid = child;
    list[3].root = 2;
    struct proctree t = {.list = list, .count = 4};
    struct opencount_places places = {.ports = ports, .port_count = 2};
    uint32_t counts[3] = {7, 7, 7};
    CHECK_INT(opencount(&places, &t, counts, 3), 0);
    CHECK_INT(counts[0], 3);
    CHECK_INT(counts[1], 3);
    CHECK_INT(counts[2], 0);
    places.port_count = 1;
    CHECK_INT(opencount(&places, &t, counts, 3), 0);
    CHECK_INT(counts[0], 1);
    CHECK_INT(kill(child, SIGKILL), 0);
    CHECK_INT(waitpid(child, NULL, 0), child);
    (void)(close(p.client) + close(p.server) + close(q.client) + close(q.server));
    (void)(close(r.client) + close(r.server) + close(a) + close(b));
}

TEST("among many ports each is found, and none beside them")
{
    uint16_t ports[256], port, other_port;
    int listening = listener(AF_INET, &port), other = listener(AF_INET, &other_port);
    struct pair p = pair_make(listening), q = pair_make(other);
    struct opencount_places places = {.ports = ports, .port_count = 256};
    /* Ports below those that clients and listeners get by themselves. */
    for (size_t at = 0; at < 256; at += 51) {
        for (size_t i = 0; i < 256; i++)
            ports[i] = (uint16_t)(i + 1);
        CHECK_INT(count_own(&places), 0);
        ports[at] = port;
        CHECK_INT(count_own(&places), 1);
    }
    (void)(close(p.client) + close(p.server) + close(q.client) + close(q.server));
    (void)(close(listening) + close(other));
}

static void conn_note(void *ctx, const struct opencount_conn *c)
{
    *(struct opencount_conn *)ctx = *c;
}

TEST("one by one a connection shows its addresses and its cookie")
{
    uint16_t port;
    int listening = listener(AF_INET, &port);
    struct pair p = pair_make(listening);
    struct proctree_root root = {.pid = getpid()};
    struct opencount_places places = {.ports = &port, .port_count = 1};
    struct opencount_conn found = {.root = UINT32_MAX};
    struct proctree tree;
    uint64_t cookie = 0;
    socklen_t len = sizeof cookie;
    CHECK_INT(getsockopt(p.server, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
    CHECK_INT(proctree_read(&root, 1, &tree), 0);
    CHECK_INT(opencount_each(&places, &tree, conn_note, &found), 0);
    CHECK_INT(found.root, 0);
    CHECK(found.cookie == cookie);
    CHECK_INT(addr_port(&found.local), port);
    CHECK(addr_port(&found.peer) != 0);
    proctree_done(&tree);
    (void)(close(p.client) + close(p.server) + close(listening));
}

TEST("connections to a Unix path count, the listening socket does not")
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    char folder[] = "/tmp/berth-opencount-XXXXXX";
    CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(un.sun_path, sizeof un.sun_path, "%s/s", folder);
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(listening, (struct sockaddr *)&un, sizeof un), 0);
    CHECK_INT(listen(listening, 8), 0);
    const char *paths[] = {un.sun_path};
    struct opencount_places places = {.paths = paths, .path_count = 1};
    CHECK_INT(count_own(&places), 0);
    struct pair p = pair_make(listening);
    CHECK_INT(count_own(&places), 1);
    (void)close(p.server);
    CHECK_INT(count_own(&places), 0);
    (void)(close(p.client) + close(listening));
    (void)unlink(un.sun_path);
    (void)rmdir(folder);
}

/* Generous, as the machine may be busy and this be built with sanitizers; alone it takes a tenth.
 */
#define MANY_MS 2000

TEST("thousands of connections are counted at once")
{
    struct rlimit limit;
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 2 * MANY + 64) {
        (void)printf("# skipped: too few open files\n");
        return;
    }
    static struct pair pairs[MANY];
    uint16_t port;
    int listening = listener(AF_INET, &port);
    for (size_t i = 0; i < MANY; i++)
        pairs[i] = pair_make(listening);
    struct timespec from, to;
    (void)clock_gettime(CLOCK_MONOTONIC, &from);
    CHECK_INT(count_port(port), MANY);
    (void)clock_gettime(CLOCK_MONOTONIC, &to);
    long ms = (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;
    (void)printf("# %d connections: %ld ms\n", MANY, ms);
    CHECK(ms < MANY_MS);
    for (size_t i = 0; i < MANY; i++)
        (void)(close(pairs[i].client) + close(pairs[i].server));
    (void)close(listening);
}
