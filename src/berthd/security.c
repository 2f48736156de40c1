/* The report on rights. Nothing in it is remembered or promised: users, capabilities, filters, root
 * folders, namespaces and sockets are read from /proc of each process, and the tables of who may
 * ask what are those that decide. */
#include "berthd/security.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "berthd/command.h"
#include "berthd/dispatch-rights.h"
#include "berthd/pool.h"
#include "sandbox/sandbox.h"

#define SOCKETS_MAX 65536

/* Linux's numbers, capabilities(7). */
static const char *const cap_names[] = {
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
};

static FILE *proc_open(pid_t pid, const char *file)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    return fopen(path, "re");
}

static json_t *caps_json(const char *hex)
{
    unsigned long long caps = strtoull(hex, NULL, 16);
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof cap_names / sizeof *cap_names; i++)
        if (caps >> i & 1)
            (void)json_array_append_new(list, json_string(cap_names[i]));
    return list;
}

static json_t *number_json(const char *text)
{
    return json_integer(strtoll(text, NULL, 10));
}

/* The lines of /proc/PID/status that are shown. */
static const struct {
    const char *line, *key;
    json_t *(*make)(const char *value);
} fields[] = {
    {"Uid:", "uid", number_json},           {"Gid:", "gid", number_json},
    {"CapEff:", "capabilities", caps_json}, {"CapPrm:", "permitted", caps_json},
    {"CapBnd:", "bounding", caps_json},     {"NoNewPrivs:", "no_new_privs", number_json},
    {"Seccomp:", "seccomp", number_json},   {"Seccomp_filters:", "seccomp_filters", number_json},
};

static void status_read(json_t *j, pid_t pid)
{
    char line[512];
    FILE *f = proc_open(pid, "status");
    while (f && fgets(line, sizeof line, f))
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
            size_t n = strlen(fields[i].line);
            if (strncmp(line, fields[i].line, n) == 0)
                (void)json_object_set_new(j, fields[i].key, fields[i].make(line + n));
        }
    if (f)
        (void)fclose(f);
}

static ssize_t link_read(pid_t pid, const char *file, char buf[256])
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    ssize_t n = readlink(path, buf, 255);
    buf[n < 0 ? 0 : n] = 0;
    return n;
}

/* Those in which it is alone, seen from berthd. */
static json_t *namespaces_json(pid_t pid)
{
    static const char *const names[] = {"cgroup", "ipc",  "mnt",  "net",
                                        "pid",    "time", "user", "uts"};
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[16], own[256], other[256];
        (void)snprintf(file, sizeof file, "ns/%s", names[i]);
        if (link_read(pid, file, other) > 0 && link_read(getpid(), file, own) > 0 &&
            strcmp(own, other) != 0)
            (void)json_array_append_new(list, json_string(names[i]));
    }
    return list;
}

static int inode_compare(const void *a, const void *b)
{
    unsigned long long x = *(const unsigned long long *)a, y = *(const unsigned long long *)b;
    return (x > y) - (x < y);
}

static size_t inodes_read(pid_t pid, unsigned long long *inodes)
{
    char path[64], link[64];
    size_t count = 0;
    (void)snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d)) && count < SOCKETS_MAX;) {
        ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof link - 1);
        link[n < 0 ? 0 : n] = 0;
        if (strncmp(link, "socket:[", 8) == 0)
            inodes[count++] = strtoull(link + 8, NULL, 10);
    }
    if (d)
        (void)closedir(d);
    qsort(inodes, count, sizeof *inodes, inode_compare);
    return count;
}

struct sockets {
    unsigned long long *inodes;
    size_t count;
    json_int_t listening, connections;
};

/* proc(5): "sl local remote st tx:rx tr:when retrnsmt uid timeout inode"; 0A is TCP_LISTEN. */
static void net_read(struct sockets *s, pid_t pid, const char *file)
{
    char line[512];
    FILE *f = proc_open(pid, file);
    while (f && fgets(line, sizeof line, f)) {
        unsigned state = 0;
        unsigned long long inode = 0;
        if (sscanf(line, " %*s %*s %*s %x %*s %*s %*s %*s %*s %llu", &state, &inode) != 2 ||
            !bsearch(&inode, s->inodes, s->count, sizeof inode, inode_compare))
            continue;
        if (state == 0x0a)
            s->listening++;
        else
            s->connections++;
    }
    if (f)
        (void)fclose(f);
}

static json_t *sockets_json(pid_t pid)
{
    static const char *const files[] = {"net/tcp",  "net/tcp6", "net/udp",
                                        "net/udp6", "net/raw",  "net/raw6"};
    struct sockets s = {.inodes = calloc(SOCKETS_MAX, sizeof *s.inodes)};
    if (!s.inodes)
        return json_null();
    s.count = inodes_read(pid, s.inodes);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        net_read(&s, pid, files[i]);
    free(s.inodes);
    return json_pack("{s:I, s:I}", "listening", s.listening, "connections", s.connections);
}

json_t *security_process(const char *name, pid_t pid)
{
    char root[256];
    json_t *j = json_pack("{s:s, s:i}", "name", name, "pid", (int)pid);
    status_read(j, pid);
    (void)json_object_set_new(j, "root",
                              link_read(pid, "root", root) > 0 ? json_string(root) : json_null());
    (void)json_object_set_new(j, "own_namespaces", namespaces_json(pid));
    (void)json_object_set_new(j, "network_sockets", sockets_json(pid));
    return j;
}

static json_t *reasons_json(void)
{
    size_t count;
    const struct sandbox_cap *caps = sandbox_caps(&count);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(
            list, json_pack("{s:s, s:s}", "capability", caps[i].name, "why", caps[i].why));
    return list;
}

/* Which process has a Landlock domain the kernel does not show: only what it could have. */
static int landlock_version(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1u);
    return abi < 0 ? 0 : (int)abi;
}

/* Of all workers only these are ours. */
static void upstreams_add(const struct server *s, json_t *processes)
{
    list_for_each(p, &s->pools, struct pool, link)
    {
        if (!p->conf->to)
            continue;
        list_for_each(w, &p->workers, struct worker, link)(void)
            json_array_append_new(processes, security_process("berth-upstream", w->pid));
    }
}

char *security_report(struct server *s)
{
    json_t *processes = json_array();
    (void)json_array_append_new(processes, security_process("berthd", getpid()));
    if (s->dispatch_pid > 0)
        (void)json_array_append_new(processes, security_process("berth-dispatch", s->dispatch_pid));
    upstreams_add(s, processes);
    json_t *j = json_pack("{s:o, s:o, s:i, s:{s:o, s:o, s:o}}", "processes", processes,
                          "berthd_keeps", reasons_json(), "kernel_landlock", landlock_version(),
                          "rights", "commands", command_rights_json(), "messages",
                          control_rights_json(), "dispatch", dispatch_rights_json());
    char *text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    json_decref(j);
    return text;
}
