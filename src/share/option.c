/* The table of inherited socket options. Nothing in it needs a privilege or reaches beyond the one
 * connection that it is set on. */
#include "share/option.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

static const struct {
    int level, name;
} allowed[] = {
    {SOL_SOCKET, SO_KEEPALIVE},
    {SOL_SOCKET, SO_LINGER},
    {SOL_SOCKET, SO_OOBINLINE},
    {SOL_SOCKET, SO_RCVBUF},
    {SOL_SOCKET, SO_SNDBUF},
    {SOL_SOCKET, SO_PRIORITY},
    {SOL_SOCKET, SO_RCVLOWAT},
    {SOL_SOCKET, SO_RCVTIMEO},
    {SOL_SOCKET, SO_SNDTIMEO},
    {SOL_SOCKET, SO_BUSY_POLL},
    {SOL_SOCKET, SO_ZEROCOPY},
    {SOL_SOCKET, SO_TIMESTAMP},
    {IPPROTO_TCP, TCP_NODELAY},
    {IPPROTO_TCP, TCP_CORK},
    {IPPROTO_TCP, TCP_KEEPIDLE},
    {IPPROTO_TCP, TCP_KEEPINTVL},
    {IPPROTO_TCP, TCP_KEEPCNT},
    {IPPROTO_TCP, TCP_USER_TIMEOUT},
    {IPPROTO_TCP, TCP_QUICKACK},
    {IPPROTO_TCP, TCP_LINGER2},
    {IPPROTO_TCP, TCP_WINDOW_CLAMP},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT},
    {IPPROTO_TCP, TCP_CONGESTION},
    {IPPROTO_TCP, TCP_MAXSEG},
    {IPPROTO_IP, IP_TOS},
    {IPPROTO_IP, IP_TTL},
    {IPPROTO_IP, IP_MTU_DISCOVER},
    {IPPROTO_IPV6, IPV6_TCLASS},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS},
};

bool option_allowed(int level, int name)
{
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (allowed[i].level == level && allowed[i].name == name)
            return true;
    return false;
}

/* Our copy may be the last to be closed: with a time to linger that would hold up everybody else.
 */
static bool lingers(const struct option_value *o)
{
    struct linger l;
    if (o->level != SOL_SOCKET || o->name != SO_LINGER || o->len < sizeof l)
        return false;
    memcpy(&l, o->value, sizeof l);
    return l.l_onoff && l.l_linger > 0;
}

void option_apply(int fd, const struct option_value *o)
{
    if (lingers(o))
        return;
    if (option_allowed(o->level, o->name))
        (void)setsockopt(fd, o->level, o->name, o->value, o->len);
}
