/* What berth-upstream may do: make connections, TCP and Unix, and move bytes. */
#include "sandbox/upstream.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "sandbox/filter.h"

static const int allowed[] = {
    SCMP_SYS(brk),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(close),
    SCMP_SYS(connect),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(futex),
    SCMP_SYS(getpeername),
    SCMP_SYS(getpid),
    SCMP_SYS(getrandom),
    SCMP_SYS(getsockname),
    SCMP_SYS(getsockopt),
    SCMP_SYS(gettid),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(madvise),
    SCMP_SYS(mmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(mremap),
    SCMP_SYS(munmap),
    SCMP_SYS(nanosleep),
    SCMP_SYS(pipe2),
    SCMP_SYS(poll),
    SCMP_SYS(read),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rseq),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(setsockopt),
    SCMP_SYS(shutdown),
    SCMP_SYS(splice),
    SCMP_SYS(write),
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
