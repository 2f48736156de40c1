/* Capabilities of berthd, as a table: what it keeps, and what a worker that it starts as root may
 * have again by exec, which is what the bounding set is for. */
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "sandbox/sandbox.h"

#define BIT(cap) (1ull << (cap))

/* What berthd itself uses. What it starts as root has the bounding set by exec, which is how
 * berth-dispatch comes to change its root folder. */
static const struct sandbox_cap kept[] = {
    {CAP_NET_BIND_SERVICE, "net_bind_service", "opens ports below 1024 for those who own names"},
    {CAP_SETUID, "setuid", "starts programs as their users"},
    {CAP_SETGID, "setgid", "starts programs with their groups"},
    {CAP_KILL, "kill", "ends workers of other users"},
    {CAP_SYS_PTRACE, "sys_ptrace", "looks in /proc who holds a queue"},
    {CAP_SYS_RESOURCE, "sys_resource", "raises limits of programs that it starts"},
    {CAP_NET_ADMIN, "net_admin", "makes queues longer than the system's limit (SO_SNDBUFFORCE)"},
    {CAP_CHOWN, "chown", "gives a program's log and cgroup to its user"},
    {CAP_FOWNER, "fowner", "sets the mode of what it gave away"},
    {CAP_DAC_OVERRIDE, "dac_override", "makes Unix listeners in folders of other users"},
};

/* Never needed by berthd or by a server that it starts: kernel modules, clocks, devices, boot. */
static const uint64_t never =
    BIT(CAP_SYS_MODULE) | BIT(CAP_SYS_RAWIO) | BIT(CAP_SYS_BOOT) | BIT(CAP_SYS_TIME) |
    BIT(CAP_SYS_TTY_CONFIG) | BIT(CAP_SYS_PACCT) | BIT(CAP_MKNOD) | BIT(CAP_LINUX_IMMUTABLE) |
    BIT(CAP_MAC_ADMIN) | BIT(CAP_MAC_OVERRIDE) | BIT(CAP_SYSLOG) | BIT(CAP_WAKE_ALARM) |
    BIT(CAP_BLOCK_SUSPEND) | BIT(CAP_AUDIT_CONTROL) | BIT(CAP_AUDIT_READ) | BIT(CAP_PERFMON) |
    BIT(CAP_BPF) | BIT(CAP_CHECKPOINT_RESTORE);

const struct sandbox_cap *sandbox_caps(size_t *ret_count)
{
    *ret_count = sizeof kept / sizeof *kept;
    return kept;
}

static int bounding_drop(uint64_t caps)
{
    for (unsigned cap = 0; cap < 64; cap++)
        if (caps & BIT(cap) && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 &&
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return -errno;
    return 0;
}

static int caps_get(uint64_t *ret_permitted)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {0};
    if (syscall(SYS_capget, &head, data) < 0)
        return -errno;
    *ret_permitted = (uint64_t)data[1].permitted << 32 | data[0].permitted;
    return 0;
}

static int caps_set(uint64_t caps)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {
        {.effective = (uint32_t)caps, .permitted = (uint32_t)caps},
        {.effective = (uint32_t)(caps >> 32), .permitted = (uint32_t)(caps >> 32)}};
    return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

int sandbox_berthd(void)
{
    uint64_t wanted = 0, had = 0;
    if (geteuid() != 0)
        return 0;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        wanted |= BIT(kept[i].number);
    int r = caps_get(&had);
    if (r == 0)
        r = bounding_drop(never);
    return r < 0 ? r : caps_set(wanted & had);
}

int sandbox_no_caps(void)
{
    return bounding_drop(~0ull);
}
