/* What berth-peer may do: keep files in two folders, and speak to the network. The filter is the
 * same for the thread that looks a host up, which the C library does with whatever is configured.
 */
#include "sandbox/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "sandbox/filter.h"

/* linux/landlock.h, of which older headers lack some. */
#define FS_READ        ((1u << 2) | (1u << 3))
#define FS_ALL_1       0x1fffu
#define FS_EXECUTE     (1u << 0)
#define FS_TRUNCATE    (1u << 14) /* ABI 3 */
#define FS_REFER       (1u << 13) /* ABI 2 */
#define RULE_PATH      1
#define VERSION_WANTED 1u

struct ruleset {
    uint64_t fs;
};

/* As the kernel has it, without padding. */
struct __attribute__((packed)) path_rule {
    uint64_t access;
    int32_t fd;
};

static const char *const readable[] = {"/etc",           "/usr", "/lib", "/lib64",
                                       "/proc",          "/sys", "/dev", "/run/systemd/resolve",
                                       "/run/resolvconf"};

static void path_add(int ruleset, const char *path, uint64_t access)
{
    CLEANUP_FD int fd = open(path, O_PATH | O_CLOEXEC);
    const struct path_rule rule = {access, fd};
    /* A folder that is not there needs no rule. */
    if (fd >= 0)
        (void)syscall(SYS_landlock_add_rule, ruleset, RULE_PATH, &rule, 0);
}

int sandbox_peer_files(const char *const *folders, size_t count)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, VERSION_WANTED);
    if (abi <= 0)
        return -ENOTSUP;
    struct ruleset rules = {.fs = FS_ALL_1};
    rules.fs |= abi >= 2 ? FS_REFER : 0;
    rules.fs |= abi >= 3 ? FS_TRUNCATE : 0;
    CLEANUP_FD int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
    if (fd < 0)
        return -errno;
    for (size_t i = 0; i < count; i++)
        path_add(fd, folders[i], rules.fs & ~(uint64_t)FS_EXECUTE);
    for (size_t i = 0; i < sizeof readable / sizeof *readable; i++)
        path_add(fd, readable[i], FS_READ);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return -errno;
    return (int)abi;
}

/* What is not here fails with EPERM, as in dispatch. */
static const int allowed[] = {
    SCMP_SYS(accept4),        SCMP_SYS(access),
    SCMP_SYS(bind),           SCMP_SYS(clock_nanosleep),
    SCMP_SYS(clone),          SCMP_SYS(clone3),
    SCMP_SYS(connect),        SCMP_SYS(eventfd2),
    SCMP_SYS(faccessat),      SCMP_SYS(faccessat2),
    SCMP_SYS(fchmod),         SCMP_SYS(fcntl),
    SCMP_SYS(fdatasync),      SCMP_SYS(flock),
    SCMP_SYS(fstat),          SCMP_SYS(fsync),
    SCMP_SYS(ftruncate),      SCMP_SYS(getcwd),
    SCMP_SYS(getegid),        SCMP_SYS(geteuid),
    SCMP_SYS(getgid),         SCMP_SYS(getpeername),
    SCMP_SYS(getppid),        SCMP_SYS(getrusage),
    SCMP_SYS(getsockname),    SCMP_SYS(getsockopt),
    SCMP_SYS(getuid),         SCMP_SYS(ioctl),
    SCMP_SYS(listen),         SCMP_SYS(lseek),
    SCMP_SYS(lstat),          SCMP_SYS(memfd_create),
    SCMP_SYS(mkdir),          SCMP_SYS(mkdirat),
    SCMP_SYS(nanosleep),      SCMP_SYS(newfstatat),
    SCMP_SYS(open),           SCMP_SYS(openat),
    SCMP_SYS(pipe2),          SCMP_SYS(poll),
    SCMP_SYS(ppoll),          SCMP_SYS(pread64),
    SCMP_SYS(readlink),       SCMP_SYS(readlinkat),
    SCMP_SYS(readv),          SCMP_SYS(recvmmsg),
    SCMP_SYS(rename),         SCMP_SYS(renameat),
    SCMP_SYS(renameat2),      SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sendmmsg),       SCMP_SYS(shutdown),
    SCMP_SYS(socketpair),     SCMP_SYS(splice),
    SCMP_SYS(stat),           SCMP_SYS(statfs),
    SCMP_SYS(statx),          SCMP_SYS(sysinfo),
    SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime),
    SCMP_SYS(uname),          SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),       SCMP_SYS(writev),
};

/* What a socket may be of. */
static const struct filter_narrow narrow[] = {
    {SCMP_SYS(socket), 0, AF_INET},
    {SCMP_SYS(socket), 0, AF_INET6},
    {SCMP_SYS(socket), 0, AF_UNIX},
    {SCMP_SYS(socket), 0, AF_NETLINK},
};

int sandbox_peer_calls(void)
{
    const struct filter f = {FILTER_TABLE(allowed), FILTER_TABLE(narrow)};
    return filter_load(&f);
}
