/* Finds the processes that have the sockets of a report open, by the links in /proc/PID/fd, and
 * what is to be said about them. What the caller may not see is left out, never an error. */
#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "why/parts.h"

#define PATH_SIZE 64

ssize_t procs_read(const char *path, char *buf, size_t size)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t used = 0;
    while (used < size - 1) {
        ssize_t n = read(fd, buf + used, size - 1 - used);
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        used += (size_t)n;
    }
    buf[used] = 0;
    return (ssize_t)used;
}

void procs_user_name(uint32_t uid, char name[WHY_NAME_MAX])
{
    struct passwd entry, *found = NULL;
    char buf[4096];
    if (getpwuid_r(uid, &entry, buf, sizeof buf, &found) == 0 && found)
        (void)snprintf(name, WHY_NAME_MAX, "%s", entry.pw_name);
    else
        (void)snprintf(name, WHY_NAME_MAX, "%u", uid);
}

uint64_t procs_netns(pid_t pid)
{
    char path[PATH_SIZE];
    struct stat st;
    if (pid == 0)
        (void)snprintf(path, sizeof path, "/proc/self/ns/net");
    else
        (void)snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* Terminal control bytes of a foreign command line must not reach a terminal. */
static void make_printable(char *s, size_t n)
{
    while (n > 0 && s[n - 1] == 0)
        n--;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
            s[i] = ' ';
    s[n] = 0;
}

static void read_exe(struct why_proc *p)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "/proc/%d/exe", p->pid);
    ssize_t n = readlink(path, p->exe, sizeof p->exe - 1);
    p->exe[n > 0 ? n : 0] = 0;
    make_printable(p->exe, strlen(p->exe));
}

/* A script's name is only in comm (gunicorn, not python3.11), so that goes first; but comm is cut
 * at 15 bytes, and in node and others it may be the name of the main thread. */
static const char *name_choose(const char *comm, const char *program)
{
    bool cut = strlen(comm) == 15 && strncmp(program, comm, 15) == 0;
    return program[0] && (cut || !comm[0] || strstr(comm, "MainThread")) ? program : comm;
}

static void set_name(struct why_proc *p)
{
    char path[PATH_SIZE], comm[32];
    (void)snprintf(path, sizeof path, "/proc/%d/comm", p->pid);
    ssize_t n = procs_read(path, comm, sizeof comm);
    comm[n > 0 ? n : 0] = 0;
    comm[strcspn(comm, "\n")] = 0;
    make_printable(comm, strlen(comm));
    const char *slash = strrchr(p->exe, '/');
    const char *program = slash ? slash + 1 : "";
    size_t cut = strcspn(program, " "); /* "node (deleted)" */
    char exe[WHY_NAME_MAX];
    (void)snprintf(exe, sizeof exe, "%.*s", (int)cut, program);
    (void)snprintf(p->name, sizeof p->name, "%s", name_choose(comm, exe));
}

static void read_cgroup(struct why_proc *p)
{
    char path[PATH_SIZE], text[4096];
    (void)snprintf(path, sizeof path, "/proc/%d/cgroup", p->pid);
    if (procs_read(path, text, sizeof text) > 0)
        why_cgroup_parse(text, &p->cgroup);
}

/* FNV-1a: it need not be strong, only differ for different programs. */
static uint64_t hash(uint64_t seed, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        seed = (seed ^ (uint8_t)p[i]) * 0x100000001b3u;
    return seed;
}

/* The same interpreter with another script, or the same command in another project's folder, is
 * another program. */
static void read_cmdline(struct why_proc *p)
{
    char path[PATH_SIZE], text[4096];
    (void)snprintf(path, sizeof path, "/proc/%d/cwd", p->pid);
    ssize_t n = readlink(path, text, sizeof text);
    p->identity = hash(0xcbf29ce484222325u, text, n > 0 ? (size_t)n : 0);
    (void)snprintf(path, sizeof path, "/proc/%d/cmdline", p->pid);
    n = procs_read(path, text, sizeof text);
    p->identity = hash(p->identity, text, n > 0 ? (size_t)n : 0);
    p->identity = hash(p->identity, p->exe, strlen(p->exe));
    make_printable(text, n > 0 ? (size_t)n : 0);
    (void)snprintf(p->cmdline, sizeof p->cmdline, "%.*s", (int)sizeof p->cmdline - 1, text);
}

static void proc_read(struct why_proc *p, pid_t pid)
{
    char path[PATH_SIZE];
    struct stat st;
    *p = (struct why_proc){.pid = pid};
    (void)snprintf(path, sizeof path, "/proc/%d", pid);
    if (stat(path, &st) == 0)
        p->uid = st.st_uid;
    procs_user_name(p->uid, p->user);
    read_exe(p);
    set_name(p);
    read_cmdline(p);
    read_cgroup(p);
    uint64_t netns = procs_netns(pid);
    p->foreign_netns = netns != 0 && netns != procs_netns(0);
}

int procs_each_inode(pid_t pid, void (*fn)(void *ctx, uint32_t inode), void *ctx)
{
    char path[PATH_SIZE], link[64];
    (void)snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof link - 1);
        unsigned inode;
        link[n > 0 ? n : 0] = 0;
        if (sscanf(link, "socket:[%u]", &inode) == 1)
            fn(ctx, inode);
    }
    (void)closedir(dir);
    return 0;
}

struct search {
    struct why_report *report;
    pid_t pid;
    int rc;
};

static int hold_add(struct why_report *r, uint32_t sock, pid_t pid)
{
    bool known = r->procs_count > 0 && r->procs[r->procs_count - 1].pid == pid;
    if (!known && r->procs_count == WHY_PROCS_MAX)
        return 0;
    if (!known) {
        void *more = realloc(r->procs, (r->procs_count + 1) * sizeof *r->procs);
        if (!more)
            return -ENOMEM;
        r->procs = more;
        proc_read(&r->procs[r->procs_count++], pid);
    }
    uint32_t proc = (uint32_t)r->procs_count - 1;
    for (size_t i = r->holds_count; i > 0 && r->holds[i - 1].proc == proc; i--)
        if (r->holds[i - 1].sock == sock)
            return 0; /* dup: the same socket under two numbers */
    void *more = realloc(r->holds, (r->holds_count + 1) * sizeof *r->holds);
    if (!more)
        return -ENOMEM;
    r->holds = more;
    r->holds[r->holds_count++] = (struct why_hold){sock, proc};
    return 0;
}

static void on_inode(void *ctx, uint32_t inode)
{
    struct search *s = ctx;
    for (size_t i = 0; inode != 0 && i < s->report->socks_count; i++)
        if (s->report->socks[i].inode == inode && s->rc == 0)
            s->rc = hold_add(s->report, (uint32_t)i, s->pid);
}

int procs_collect(struct why_report *r)
{
    DIR *dir = opendir("/proc");
    if (!dir)
        return -errno;
    struct search s = {.report = r};
    for (struct dirent *e = readdir(dir); e && s.rc == 0; e = readdir(dir)) {
        s.pid = ascii_is_digit(e->d_name[0]) ? (pid_t)strtol(e->d_name, NULL, 10) : 0;
        if (s.pid > 0)
            (void)procs_each_inode(s.pid, on_inode, &s);
    }
    (void)closedir(dir);
    return s.rc;
}
