#include "base/fd.h"
#include "share/option.h"
#include "test.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, level, name, &value, &len) == 0 ? value : -1;
}

static struct option_value option_make(int level, int name, int value)
{
    struct option_value o = {.level = level, .name = name, .len = sizeof value};
    memcpy(o.value, &value, sizeof value);
    return o;
}

TEST("what a listener hands down is allowed, what reaches beyond its connections is not")
{
    CHECK(option_allowed(IPPROTO_TCP, TCP_NODELAY));
    CHECK(option_allowed(SOL_SOCKET, SO_KEEPALIVE));
    CHECK(option_allowed(IPPROTO_IPV6, IPV6_TCLASS));
    CHECK(!option_allowed(SOL_SOCKET, SO_MARK));
    CHECK(!option_allowed(SOL_SOCKET, SO_BINDTODEVICE));
    CHECK(!option_allowed(SOL_SOCKET, SO_RCVBUFFORCE));
    CHECK(!option_allowed(SOL_SOCKET, SO_ATTACH_FILTER));
    CHECK(!option_allowed(IPPROTO_TCP, TCP_ULP));
    CHECK(!option_allowed(IPPROTO_TCP, TCP_REPAIR));
    /* TCP_NODELAY has the number of SO_DEBUG: the level counts, too. */
    CHECK_INT(TCP_NODELAY, SO_DEBUG);
    CHECK(!option_allowed(SOL_SOCKET, SO_DEBUG));
    CHECK(!option_allowed(-1, -1));
}

TEST("an allowed option is set on the socket")
{
    CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct option_value o = option_make(IPPROTO_TCP, TCP_NODELAY, 1);
    CHECK_INT(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 0);
    option_apply(fd, &o);
    CHECK_INT(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 1);
}

TEST("an option that is not in the table stays unset, whatever privilege we have")
{
    CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct option_value o = option_make(SOL_SOCKET, SO_REUSEADDR, 1);
    option_apply(fd, &o);
    CHECK_INT(option_of(fd, SOL_SOCKET, SO_REUSEADDR), 0);
}

TEST("an option that the socket does not know, or of a wrong size, is passed over")
{
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct option_value o = option_make(IPPROTO_TCP, TCP_NODELAY, 1);
    option_apply(fd, &o);
    o = option_make(SOL_SOCKET, SO_KEEPALIVE, 1);
    o.len = 0;
    option_apply(fd, &o);
    CHECK_INT(option_of(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
}
