/* Makes a filter of tables of system calls and loads it, by libseccomp. Nothing is kept. */
#include "sandbox/filter.h"

#include <errno.h>
#include <sys/prctl.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
static int filter_make(const struct filter *f)
{
    (void)f;
    return -ENOTSUP;
}
#else
/* What each of the programs does: memory, threads, time, the loop, sockets that it has. What one of
 * them does not need does not stand here. */
static const int common[] = {
    SCMP_SYS(brk),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(close),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(futex),
    SCMP_SYS(getpid),
    SCMP_SYS(getrandom),
    SCMP_SYS(gettid),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(madvise),
    SCMP_SYS(mmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(mremap),
    SCMP_SYS(munmap),
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
    SCMP_SYS(write),
};

static int allow(scmp_filter_ctx ctx, const int *calls, size_t count)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < count; i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
    return r;
}

static int rules_add(scmp_filter_ctx ctx, const struct filter *f)
{
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    if (r == 0)
        r = allow(ctx, FILTER_TABLE(common));
    if (r == 0)
        r = allow(ctx, f->allowed, f->allowed_count);
    for (size_t i = 0; r == 0 && i < f->narrow_count; i++) {
        const struct filter_narrow *n = &f->narrow[i];
        const struct scmp_arg_cmp equal = {n->argument, SCMP_CMP_EQ, n->value, 0};
        r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, n->call, 1, &equal);
    }
    if (r == 0 && f->more)
        r = f->more(ctx);
    if (r < 0)
        return r;
    /* abort(), but no signal to others of the same user; fcntl() could ask for such ones. */
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                            SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
}

static int filter_make(const struct filter *f)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!ctx)
        return -ENOMEM;
    int r = rules_add(ctx, f);
    if (r == 0)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return r;
}
#endif

int filter_load(const struct filter *f)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : filter_make(f);
}
