/* What berth-upstream may do: make connections, TCP and Unix, and move bytes. */
#include "sandbox/upstream.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "sandbox/filter.h"

static const int allowed[] = {
    SCMP_SYS(clock_nanosleep), SCMP_SYS(connect),   SCMP_SYS(getpeername), SCMP_SYS(getsockname),
    SCMP_SYS(getsockopt),      SCMP_SYS(nanosleep), SCMP_SYS(pipe2),       SCMP_SYS(poll),
    SCMP_SYS(shutdown),        SCMP_SYS(splice),
};

/* By one argument: what a socket may be of, and what fcntl() may ask. */
static const struct filter_narrow narrow[] = {
    {SCMP_SYS(socket), 0, AF_INET}, {SCMP_SYS(socket), 0, AF_INET6},
    {SCMP_SYS(socket), 0, AF_UNIX}, {SCMP_SYS(fcntl), 1, F_GETFL},
    {SCMP_SYS(fcntl), 1, F_SETFL},  {SCMP_SYS(fcntl), 1, F_SETPIPE_SZ},
};

int sandbox_upstream(void)
{
    const struct filter f = {FILTER_TABLE(allowed), FILTER_TABLE(narrow)};
    return filter_load(&f);
}
