/* Finds the part of the cgroup tree that is berthd's to use, and makes a group for each worker in
 * it. Numbers and names come in; folders and sentences go out. */
#include "launch/cgroup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "launch/cgroup-file.h"

#define DAEMON      "daemon"
#define BERTH       "berth"
#define LINE_LENGTH 4096
/* cpu.max: so many microseconds in each period of 100 ms. */
#define CPU_PERIOD_US 100000

static const struct {
    const char *name, *key;
    unsigned bit;
} controllers[] = {{"memory", "memory_max", CGROUP_MEMORY},
                   {"cpu", "cpu_max", CGROUP_CPU},
                   {"pids", "tasks_max", CGROUP_PIDS}};

#define CONTROLLER_COUNT (sizeof controllers / sizeof *controllers)

/* "36 35 0:30 / /sys/fs/cgroup rw,... - cgroup2 cgroup2 rw" */
static int mount_find(char path[CGROUP_PATH_MAX])
{
    char line[LINE_LENGTH];
    int err = -ENOENT;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    while (f && err < 0 && fgets(line, sizeof line, f)) {
        const char *type = strstr(line, " - ");
        if (type && strncmp(type + 3, "cgroup2 ", 8) == 0 &&
            sscanf(line, "%*s %*s %*s %*s %511s", path) == 1)
            err = 0;
    }
    if (f)
        (void)fclose(f);
    return err;
}

/* The line of v2 begins with "0::". */
static int own_find(char path[CGROUP_PATH_MAX])
{
    char line[LINE_LENGTH];
    int err = -ENOENT;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && err < 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "0::%511s", path) == 1)
            err = 0;
    if (f)
        (void)fclose(f);
    return err;
}

static bool is_listed(pid_t pid, const pid_t *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == pid)
            return true;
    return pid == getpid();
}

/* A group that gives controllers to those below it must have no processes itself. */
static int daemon_move(int fd, const pid_t *own, size_t own_count)
{
    pid_t *pids;
    size_t count;
    char number[16];
    int err = cgroup_procs(fd, &pids, &count);
    if (err < 0)
        return err;
    for (size_t i = 0; i < count && err == 0; i++)
        err = is_listed(pids[i], own, own_count) ? 0 : -EBUSY;
    if (err == 0 && count > 0 && mkdirat(fd, DAEMON, 0755) < 0 && errno != EEXIST)
        err = -errno;
    for (size_t i = 0; i < count && err == 0; i++) {
        (void)snprintf(number, sizeof number, "%d", pids[i]);
        err = cgroup_file_write(fd, DAEMON "/cgroup.procs", number);
    }
    free(pids);
    return err;
}

/* Each on its own: one that is not there must not keep away the others. */
static unsigned controllers_enable(int fd)
{
    unsigned enabled = 0;
    char text[512], word[16];
    for (size_t i = 0; i < CONTROLLER_COUNT; i++) {
        (void)snprintf(word, sizeof word, "+%s", controllers[i].name);
        (void)!cgroup_file_write(fd, "cgroup.subtree_control", word);
    }
    if (cgroup_file_read(fd, "cgroup.subtree_control", text, sizeof text) < 0)
        return 0;
    for (char *save, *p = strtok_r(text, " \n", &save); p; p = strtok_r(NULL, " \n", &save))
        for (size_t i = 0; i < CONTROLLER_COUNT; i++)
            enabled |= strcmp(p, controllers[i].name) == 0 ? controllers[i].bit : 0;
    return enabled;
}

static int refuse(int err, char *reason, const char *path)
{
    if (err == -EBUSY)
        (void)snprintf(reason, CGROUP_REASON_MAX,
                       "the cgroup %s has other processes, too: for groups of its own berthd must "
                       "run as a service with Delegate=yes",
                       path);
    else if (err == -EACCES || err == -EPERM || err == -EROFS)
        (void)snprintf(reason, CGROUP_REASON_MAX, "the cgroup %s is not berthd's to change: %s",
                       path, strerror(-err));
    else
        (void)snprintf(reason, CGROUP_REASON_MAX, "the cgroup %s cannot be used: %s", path,
                       strerror(-err));
    return err;
}

static bool ends_in(const char *path, const char *last)
{
    const char *slash = strrchr(path, '/');
    return slash && strcmp(slash + 1, last) == 0;
}

/* The folder for the workers' groups. The root group may have processes of its own, so there a
 * group beside them is enough. */
static int base_find(const struct cgroup_place *place, char path[CGROUP_PATH_MAX], bool *ret_root)
{
    char mount[CGROUP_PATH_MAX], own[CGROUP_PATH_MAX];
    int err = 0;
    if (place->mount)
        (void)snprintf(mount, sizeof mount, "%s", place->mount);
    else
        err = mount_find(mount);
    if (err == 0 && place->own)
        (void)snprintf(own, sizeof own, "%s", place->own);
    else if (err == 0)
        err = own_find(own);
    if (err < 0)
        return err;
    /* An earlier berthd, or this one before it was replaced in place, has been here. */
    if (ends_in(own, DAEMON))
        *strrchr(own, '/') = 0;
    bool root = strcmp(own, "/") == 0;
    int n = snprintf(path, CGROUP_PATH_MAX, "%s%s%s", mount, own, root ? BERTH : "");
    *ret_root = root;
    return n < CGROUP_PATH_MAX ? 0 : -ENAMETOOLONG;
}

static void root_prepare(const char *path)
{
    char mount[CGROUP_PATH_MAX];
    (void)snprintf(mount, sizeof mount, "%s", path);
    *strrchr(mount, '/') = 0;
    CLEANUP_FD int fd = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)controllers_enable(fd);
}

int cgroup_open(const struct cgroup_place *place, const pid_t *own, size_t own_count,
                struct cgroup *ret_cgroup, char ret_reason[CGROUP_REASON_MAX])
{
    struct cgroup c = {.fd = -EBADF};
    bool is_root;
    int err = base_find(place, c.path, &is_root);
    if (err < 0) {
        (void)snprintf(ret_reason, CGROUP_REASON_MAX, "no cgroup v2 is mounted here");
        return err;
    }
    if (is_root)
        root_prepare(c.path);
    if (is_root && mkdir(c.path, 0755) < 0 && errno != EEXIST)
        return refuse(-errno, ret_reason, c.path);
    c.fd = open(c.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    err = c.fd < 0 ? -errno : 0;
    if (err == 0 && !is_root)
        err = daemon_move(c.fd, own, own_count);
    if (err == 0 && faccessat(c.fd, ".", W_OK, AT_EACCESS) < 0)
        err = -errno;
    if (err < 0) {
        cgroup_close(&c);
        return refuse(err, ret_reason, c.path);
    }
    c.controllers = controllers_enable(c.fd);
    *ret_cgroup = c;
    return 0;
}

void cgroup_close(struct cgroup *c)
{
    c->fd = fd_close(c->fd);
}

static unsigned controllers_of(const struct cgroup_limits *l)
{
    return (l->memory_max ? CGROUP_MEMORY : 0u) | (l->cpu_percent ? CGROUP_CPU : 0u) |
           (l->tasks_max ? CGROUP_PIDS : 0u);
}

int cgroup_check(const struct cgroup *c, const struct cgroup_limits *limits,
                 char ret_reason[CGROUP_REASON_MAX])
{
    unsigned missing = controllers_of(limits) & ~c->controllers;
    for (size_t i = 0; i < CONTROLLER_COUNT; i++) {
        if (!(missing & controllers[i].bit))
            continue;
        (void)snprintf(ret_reason, CGROUP_REASON_MAX,
                       "%s needs a cgroup v2 %s controller: not available here", controllers[i].key,
                       controllers[i].name);
        return -ENOTSUP;
    }
    return 0;
}

/* A limit that is not set any more is lifted: the group may be an earlier worker's. */
static int limit_set(int fd, const char *file, uint64_t value)
{
    char text[32] = "max";
    if (value > 0)
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    int err = cgroup_file_write(fd, file, text);
    return value > 0 ? err : 0;
}

static int cpu_set(int fd, uint32_t percent)
{
    char text[64] = "max";
    if (percent > 0)
        (void)snprintf(text, sizeof text, "%llu %u",
                       (unsigned long long)percent * (CPU_PERIOD_US / 100), CPU_PERIOD_US);
    int err = cgroup_file_write(fd, "cpu.max", text);
    return percent > 0 ? err : 0;
}

static int limits_set(int fd, const struct cgroup_limits *l)
{
    int err = limit_set(fd, "memory.max", l->memory_max);
    if (err == 0)
        err = cpu_set(fd, l->cpu_percent);
    return err < 0 ? err : limit_set(fd, "pids.max", l->tasks_max);
}

static int group_name(const char *name, char buf[256])
{
    int n = snprintf(buf, 256, "worker-%s", name);
    return n < 256 && !strchr(name, '/') ? 0 : -EINVAL;
}

int cgroup_make(const struct cgroup *c, const char *name, const struct cgroup_limits *limits,
                int *ret_fd, char ret_reason[CGROUP_REASON_MAX])
{
    char group[256];
    int err = cgroup_check(c, limits, ret_reason);
    if (err < 0)
        return err;
    err = group_name(name, group);
    if (err == 0 && mkdirat(c->fd, group, 0755) < 0 && errno != EEXIST)
        err = -errno;
    CLEANUP_FD int fd = -EBADF;
    if (err == 0)
        fd = openat(c->fd, group, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (err == 0)
        err = fd < 0 ? -errno : limits_set(fd, limits);
    if (err < 0) {
        (void)snprintf(ret_reason, CGROUP_REASON_MAX, "the cgroup %s/worker-%.128s: %s", c->path,
                       name, strerror(-err));
        return err;
    }
    *ret_fd = fd_take(&fd);
    return 0;
}

int cgroup_remove(const struct cgroup *c, const char *name)
{
    char group[256];
    int err = group_name(name, group);
    if (err < 0)
        return err;
    return unlinkat(c->fd, group, AT_REMOVEDIR) < 0 ? -errno : 0;
}
