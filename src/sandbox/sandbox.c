/* The sandbox of dispatch: user and root directory, no_new_privs, a seccomp filter by libseccomp.
 */
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/sockios.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "sandbox/filter.h"

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

/* qsort() asks sysinfo() how much memory there is. */
static const int allowed[] = {
    SCMP_SYS(accept4), SCMP_SYS(getpeername), SCMP_SYS(getsockname), SCMP_SYS(getsockopt),
    SCMP_SYS(poll),    SCMP_SYS(ppoll),       SCMP_SYS(shutdown),    SCMP_SYS(sysinfo),
};

/* How much is parked in a queue, how much waits in a member's, and whether a socket that is handed
 * over blocks; no other request of any driver. */
static const struct filter_narrow narrow[] = {
    {SCMP_SYS(ioctl), 1, FIONREAD}, {SCMP_SYS(ioctl), 1, SIOCOUTQ}, {SCMP_SYS(fcntl), 1, F_GETFL}};

int sandbox_dispatch(void)
{
    const struct filter f = {FILTER_TABLE(allowed), FILTER_TABLE(narrow)};
    return filter_load(&f);
}
