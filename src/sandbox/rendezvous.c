/* The sandbox of berth-rendezvous. Unlike dispatch it keeps one folder, for SQLite. */
#include "sandbox/rendezvous.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "sandbox/filter.h"

#define NOBODY 65534

static const char *const files[] = {"names.db", "names.db-wal", "names.db-journal", "key"};

/* The folder and what an earlier run as root may have left in it. */
static int give_away(int folder, uid_t uid, gid_t gid)
{
    if (fchown(folder, uid, gid) < 0)
        return -errno;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (fchownat(folder, files[i], uid, gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
            return -errno;
    return 0;
}

int sandbox_enter(const char *folder, bool is_root, const char **ret_folder)
{
    struct stat st;
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return -errno;
    CLEANUP_FD int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (geteuid() != 0) {
        *ret_folder = folder;
        return 0;
    }
    uid_t uid = st.st_uid ? st.st_uid : NOBODY;
    gid_t gid = st.st_uid ? st.st_gid : NOBODY;
    int r = give_away(fd, uid, gid);
    if (r < 0)
        return r;
    if (is_root && (fchdir(fd) < 0 || chroot(".") < 0))
        return -errno;
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        return -errno;
    *ret_folder = is_root ? "/" : folder;
    return 0;
}

/* From access() on it is what SQLite does. */
static const int allowed[] = {
    SCMP_SYS(accept4),   SCMP_SYS(recvmmsg), SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sendmmsg),  SCMP_SYS(sysinfo),  SCMP_SYS(access),
    SCMP_SYS(faccessat), SCMP_SYS(fchmod),   SCMP_SYS(fcntl),
    SCMP_SYS(fdatasync), SCMP_SYS(fstat),    SCMP_SYS(fsync),
    SCMP_SYS(ftruncate), SCMP_SYS(getcwd),   SCMP_SYS(geteuid),
    SCMP_SYS(lseek),     SCMP_SYS(lstat),    SCMP_SYS(newfstatat),
    SCMP_SYS(open),      SCMP_SYS(openat),   SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),  SCMP_SYS(readlink), SCMP_SYS(readlinkat),
    SCMP_SYS(stat),      SCMP_SYS(unlink),   SCMP_SYS(unlinkat),
};

/* The second word of socket() has flags above the type. */
#define TYPE_MASK 0xfu

/* Streams to an address or a Unix socket; none of Netlink or raw packets. */
static int connects_add(scmp_filter_ctx ctx)
{
    static const scmp_datum_t families[] = {AF_UNIX, AF_INET, AF_INET6};
    int r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(connect), 0);
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(getsockopt), 0);
    for (size_t i = 0; r == 0 && i < sizeof families / sizeof *families; i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
                             SCMP_A0(SCMP_CMP_EQ, families[i]),
                             SCMP_A1(SCMP_CMP_MASKED_EQ, TYPE_MASK, SOCK_STREAM));
    return r;
}

int sandbox_rendezvous(bool connects)
{
    const struct filter f = {FILTER_TABLE(allowed), .more = connects ? connects_add : NULL};
    return filter_load(&f);
}
