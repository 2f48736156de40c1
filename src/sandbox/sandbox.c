/* The sandbox of dispatch: user and root directory, no_new_privs, a seccomp filter by libseccomp.
 */
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/sockios.h>
#include <pwd.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#define NOBODY 65534

/* A user of its own, so that no other service of nobody's can touch dispatch. The file only: no
 * directory service is asked by what stands between the clients and their programs. */
static void user_find(uid_t *ret_uid, gid_t *ret_gid)
{
    FILE *f = fopen("/etc/passwd", "re");
    *ret_uid = *ret_gid = NOBODY;
    for (struct passwd *pw; f && (pw = fgetpwent(f));) {
        if (strcmp(pw->pw_name, "berth-dispatch") != 0 || pw->pw_uid == 0)
            continue;
        *ret_uid = pw->pw_uid;
        *ret_gid = pw->pw_gid;
        break;
    }
    if (f)
        (void)fclose(f);
}

static int user_become(uid_t uid, gid_t gid)
{
    int r = sandbox_no_caps();
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -errno;
    return r;
}

int sandbox_drop_user_only(void)
{
    if (geteuid() != 0)
        return 0;
    uid_t uid;
    gid_t gid;
    user_find(&uid, &gid);
    return user_become(uid, gid);
}

int sandbox_drop_user(void)
{
    if (geteuid() != 0)
        return 0;
    uid_t uid;
    gid_t gid;
    user_find(&uid, &gid);
    /* /proc/self/fdinfo is a folder in which nobody can make or open anything by name: an empty
     * root that needs no path of its own on the disk. */
    if (chroot("/proc/self/fdinfo") < 0 || chdir("/") < 0)
        return -errno;
    return user_become(uid, gid);
}

#if defined(__SANITIZE_ADDRESS__)
int sandbox_dispatch(void)
{
    return -ENOTSUP;
}
#else
/* What is not here fails with EPERM: a library that asks for more on some rare path gets its error,
 * and everybody who is being served goes on. qsort() asks sysinfo() how much memory there is. */
static const int allowed[] = {
    SCMP_SYS(accept4),        SCMP_SYS(brk),
    SCMP_SYS(clock_gettime),  SCMP_SYS(close),
    SCMP_SYS(epoll_ctl),      SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_wait),     SCMP_SYS(exit),
    SCMP_SYS(exit_group),     SCMP_SYS(futex),
    SCMP_SYS(getpid),         SCMP_SYS(getpeername),
    SCMP_SYS(getrandom),      SCMP_SYS(getsockname),
    SCMP_SYS(getsockopt),     SCMP_SYS(gettid),
    SCMP_SYS(gettimeofday),   SCMP_SYS(madvise),
    SCMP_SYS(mmap),           SCMP_SYS(mprotect),
    SCMP_SYS(mremap),         SCMP_SYS(munmap),
    SCMP_SYS(poll),           SCMP_SYS(ppoll),
    SCMP_SYS(read),           SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),        SCMP_SYS(restart_syscall),
    SCMP_SYS(rseq),           SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sched_yield),    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),         SCMP_SYS(set_robust_list),
    SCMP_SYS(setsockopt),     SCMP_SYS(shutdown),
    SCMP_SYS(sysinfo),        SCMP_SYS(write),
};

int sandbox_dispatch(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!ctx)
        return -ENOMEM;
    int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; r == 0 && i < sizeof allowed / sizeof *allowed; i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
    /* abort(), but no signal to others of the same user; fcntl() could ask for such ones. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    /* How much is parked in a queue, and how much waits in a member's; no other request of any
     * driver. */
    const scmp_datum_t requests[] = {FIONREAD, SIOCOUTQ};
    for (size_t i = 0; r == 0 && i < sizeof requests / sizeof *requests; i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_EQ, requests[i]));
    /* Whether a socket that is handed over blocks. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                             SCMP_A1(SCMP_CMP_EQ, F_GETFL));
    if (r == 0)
        r = seccomp_load(ctx);
    seccomp_release(ctx);
    return r;
}
#endif
