/* Landlock: a layer of its own under the others. No file by any name, no TCP port bound or
 * connected to, no abstract Unix address and no process outside, as far as this kernel knows each
 * of them. The numbers are the kernel's interface; older headers lack some. */
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "sandbox/sandbox.h"

#define FS_RIGHTS_1  0x1fffu    /* ABI 1: execute ... make_sym */
#define FS_RIGHTS_2  (1u << 13) /* ABI 2: refer */
#define FS_RIGHTS_3  (1u << 14) /* ABI 3: truncate */
#define FS_RIGHTS_5  (1u << 15) /* ABI 5: ioctl of devices */
#define NET_RIGHTS_4 0x3u       /* ABI 4: bind and connect TCP */
#define SCOPES_6     0x3u       /* ABI 6: abstract Unix addresses, signals */
#define VERSION      1u

struct ruleset {
    uint64_t fs, net, scoped;
};

static int version(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, VERSION);
    return abi < 0 ? -errno : (int)abi;
}

int sandbox_landlock(void)
{
    int abi = version();
    if (abi <= 0)
        return -ENOTSUP;
    struct ruleset rules = {.fs = FS_RIGHTS_1};
    rules.fs |= abi >= 2 ? FS_RIGHTS_2 : 0;
    rules.fs |= abi >= 3 ? FS_RIGHTS_3 : 0;
    rules.fs |= abi >= 5 ? FS_RIGHTS_5 : 0;
    rules.net = abi >= 4 ? NET_RIGHTS_4 : 0;
    rules.scoped = abi >= 6 ? SCOPES_6 : 0;
    size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
    CLEANUP_FD int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0)
        return -errno;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return -errno;
    return abi;
}
