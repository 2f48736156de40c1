#include "share/listen.h"
#include "test.h"

#include <stdlib.h>
#include <sys/stat.h>

static struct addr bound_to(int fd)
{
    struct addr a;
    socklen_t len = sizeof a.un;
    CHECK_INT(getsockname(fd, &a.sa, &len), 0);
    return addr_from(&a.sa, len);
}

static int foreign(const char *text, bool reuse_port)
{
    struct addr a;
    int on = 1, off = 0;
    CHECK_INT(addr_parse(text, &a), 0);
    int fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    if (reuse_port)
        CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), 0);
    if (a.sa.sa_family == AF_INET6)
        CHECK_INT(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off), 0);
    if (bind(fd, &a.sa, a.len) < 0 || listen(fd, 1) < 0)
        return fd_close(fd);
    return fd;
}

static int client(const struct addr *to)
{
    int fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(fd, &to->sa, to->len) < 0 ? fd_close(fd) : fd;
}

static void close_all(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fds[i] = fd_close(fds[i]);
}

TEST("a group of sockets shares one port and every connection comes to one of them")
{
    enum { GROUP = 4, CLIENTS = 32 };
    struct addr any, at;
    int first, group[GROUP], clients[CLIENTS], accepted = 0;
    CHECK_INT(addr_parse("127.0.0.1:0", &any), 0);
    CHECK_INT(listen_open(&any, true, &first, 1), 0);
    at = bound_to(first);
    CHECK_INT(listen_open(&at, false, group, GROUP), 0);
    first = fd_close(first);
    CHECK_INT(client(&at), -EBADF);
    CHECK_INT(listen_start(group, GROUP), 0);
    for (size_t i = 0; i < CLIENTS; i++)
        CHECK((clients[i] = client(&at)) >= 0);
    for (size_t i = 0; i < GROUP; i++)
        for (int fd; (fd = accept4(group[i], NULL, NULL, SOCK_CLOEXEC)) >= 0; accepted++)
            (void)fd_close(fd);
    CHECK_INT(accepted, CLIENTS);
    close_all(clients, CLIENTS);
    close_all(group, GROUP);
}

TEST("alone means: not beside a foreign listener, nor one that set SO_REUSEPORT")
{
    static const char *const theirs[] = {"127.0.0.1:0", "*:0", "[::]:0"};
    static const char *const ours[] = {"127.0.0.1:0", "*:0"};
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++) {
        for (int reuse = 0; reuse < 2; reuse++) {
            CLEANUP_FD int fd = foreign(theirs[i], reuse);
            if (fd < 0)
                continue; /* A machine without IPv6. */
            struct addr at = bound_to(fd);
            for (size_t k = 0; k < sizeof ours / sizeof *ours; k++) {
                struct addr bound;
                int fds[2] = {-1, -1};
                CHECK_INT(addr_parse(ours[k], &bound), 0);
                addr_set_port(&bound, addr_port(&at));
                CHECK_INT(listen_open(&bound, true, fds, 2), -EADDRINUSE);
                CHECK_INT(fds[0], -EBADF);
                CHECK_INT(fds[1], -EBADF);
            }
        }
    }
}

TEST("an IPv6 group leaves the same port of IPv4 to others")
{
    struct addr any;
    int six;
    CHECK_INT(addr_parse("[::]:0", &any), 0);
    if (listen_open(&any, true, &six, 1) < 0)
        return; /* A machine without IPv6. */
    CHECK_INT(listen_start(&six, 1), 0);
    struct addr at = bound_to(six), four;
    int v6only = 0, fds[1];
    socklen_t len = sizeof v6only;
    CHECK_INT(getsockopt(six, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &len), 0);
    CHECK_INT(v6only, 1);
    CHECK_INT(addr_parse("*:0", &four), 0);
    addr_set_port(&four, addr_port(&at));
    CHECK_INT(listen_open(&four, true, fds, 1), 0);
    (void)fd_close(fds[0]);
    (void)fd_close(six);
}

struct place {
    char folder[64];
    struct addr at;
};

static void place_new(struct place *p)
{
    char text[ADDR_TEXT_MAX];
    (void)snprintf(p->folder, sizeof p->folder, "/tmp/berth-unit-XXXXXX");
    CHECK(mkdtemp(p->folder) != NULL);
    (void)snprintf(text, sizeof text, "unix:%s/s", p->folder);
    CHECK_INT(addr_parse(text, &p->at), 0);
}

static void place_done(const struct place *p)
{
    CHECK_INT(unlink(p->at.un.sun_path), 0);
    CHECK_INT(rmdir(p->folder), 0);
}

TEST("a socket file that nobody listens at is replaced")
{
    struct place p;
    int fds[3];
    place_new(&p);
    CHECK_INT(listen_open(&p.at, true, fds, 3), 0);
    CHECK_INT(listen_start(fds, 3), 0);
    close_all(fds, 3);
    CHECK_INT(client(&p.at), -EBADF);
    CHECK_INT(listen_open(&p.at, true, fds, 3), 0);
    CHECK_INT(listen_start(fds, 3), 0);
    CLEANUP_FD int c = client(&p.at);
    CHECK(c >= 0);
    /* One socket under three descriptors: each thread may take it. */
    CLEANUP_FD int accepted = accept4(fds[2], NULL, NULL, SOCK_CLOEXEC);
    CHECK(accepted >= 0);
    close_all(fds, 3);
    place_done(&p);
}

TEST("a socket file that somebody listens at is not taken away")
{
    struct place p;
    int theirs, ours[2];
    place_new(&p);
    CHECK_INT(listen_open(&p.at, true, &theirs, 1), 0);
    CHECK_INT(listen_start(&theirs, 1), 0);
    CHECK_INT(listen_open(&p.at, true, ours, 2), -EADDRINUSE);
    CHECK_INT(ours[0], -EBADF);
    CLEANUP_FD int c = client(&p.at);
    CHECK(c >= 0);
    (void)fd_close(theirs);
    place_done(&p);
}

TEST("a listener that is too busy to accept is refused at once, too")
{
    struct place p;
    int ours;
    place_new(&p);
    CLEANUP_FD int theirs = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_INT(bind(theirs, &p.at.sa, p.at.len), 0);
    CHECK_INT(listen(theirs, 0), 0);
    CLEANUP_FD int c = client(&p.at);
    CHECK(c >= 0);
    (void)alarm(10);
    CHECK_INT(listen_open(&p.at, true, &ours, 1), -EADDRINUSE);
    (void)alarm(0);
    place_done(&p);
}

TEST("a file that is no socket is not removed")
{
    struct place p;
    struct stat st;
    int fd;
    place_new(&p);
    CHECK_INT(mknod(p.at.un.sun_path, S_IFREG | 0600, 0), 0);
    CHECK_INT(listen_open(&p.at, true, &fd, 1), -EADDRINUSE);
    CHECK_INT(lstat(p.at.un.sun_path, &st), 0);
    CHECK(S_ISREG(st.st_mode));
    place_done(&p);
}
