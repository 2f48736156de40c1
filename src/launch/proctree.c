/* Reads /proc for the processes of workers. The main processes come in, a list of what belongs to
 * each goes out, owned by the caller. */
#include "launch/proctree.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "base/str.h"

#define STAT_MAX    1024
#define ENVIRON_MAX 65536
#define NO_ROOT     UINT32_MAX

struct process {
    pid_t pid, parent, group, session;
    uint32_t root;
    bool is_zombie;
    uint64_t rss_pages, start_time;
};

struct table {
    struct process *list;
    size_t count, room;
};

static int process_read(int proc_fd, const char *name, struct process *ret_process)
{
    char path[32], buf[STAT_MAX];
    (void)snprintf(path, sizeof path, "%.16s/stat", name);
    CLEANUP_FD int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
    if (n <= 0)
        return -ESRCH;
    buf[n] = 0;
    /* The name may have blanks and parentheses of its own: the last one ends it. */
    const char *after = strrchr(buf, ')');
    struct process p = {.pid = (pid_t)atoi(name), .root = NO_ROOT};
    char state;
    unsigned long long start, rss;
    if (!after || sscanf(after + 1,
                         " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
                         "%*d %llu %*u %llu",
                         &state, &p.parent, &p.group, &p.session, &start, &rss) != 6)
        return -EPROTO;
    p.is_zombie = state == 'Z' || state == 'X';
    p.start_time = start;
    p.rss_pages = rss;
    *ret_process = p;
    return 0;
}

static int table_add(struct table *t, const struct process *p)
{
    if (t->count == t->room) {
        size_t room = t->room ? 2 * t->room : 256;
        struct process *list = realloc(t->list, room * sizeof *list);
        if (!list)
            return -ENOMEM;
        t->list = list;
        t->room = room;
    }
    t->list[t->count++] = *p;
    return 0;
}

static int table_read(DIR *proc, struct table *t)
{
    int err = 0;
    for (struct dirent *e; err == 0 && (e = readdir(proc));) {
        struct process p;
        if (ascii_is_digit(e->d_name[0]) && process_read(dirfd(proc), e->d_name, &p) == 0)
            err = table_add(t, &p);
    }
    return err;
}

static int by_pid(const void *a, const void *b)
{
    const struct process *x = a, *y = b;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct process *process_find(const struct table *t, pid_t pid)
{
    struct process key = {.pid = pid};
    return bsearch(&key, t->list, t->count, sizeof key, by_pid);
}

static uint32_t root_of(const struct proctree_root *roots, size_t count, pid_t pid)
{
    for (size_t i = 0; i < count; i++)
        if (roots[i].pid == pid)
            return (uint32_t)i;
    return NO_ROOT;
}

/* Session and group stay when the parent is gone. */
static uint32_t root_direct(const struct proctree_root *roots, size_t count,
                            const struct process *p)
{
    uint32_t root = root_of(roots, count, p->pid);
    if (root == NO_ROOT)
        root = root_of(roots, count, p->session);
    return root == NO_ROOT ? root_of(roots, count, p->group) : root;
}

/* The nearest ancestor that belongs to a worker decides. A chain that was read while it changed may
 * be a circle: hence the bound. */
static uint32_t root_inherited(const struct table *t, const struct process *p)
{
    for (size_t i = 0; p && p->root == NO_ROOT && i < t->count; i++)
        p = process_find(t, p->parent);
    return p ? p->root : NO_ROOT;
}

static bool has_mark(const char *vars, size_t n, const char *mark)
{
    size_t mark_n = strlen(mark);
    for (const char *p = vars, *end = vars + n; p < end;) {
        size_t left = (size_t)(end - p), len = strnlen(p, left);
        if (len == mark_n && memcmp(p, mark, len) == 0)
            return true;
        p += len < left ? len + 1 : len;
    }
    return false;
}

/* Not to be read in others' processes, unless we are root: those are not workers of ours. */
static uint32_t root_marked(int proc_fd, const struct proctree_root *roots, size_t count, pid_t pid)
{
    char path[32], vars[ENVIRON_MAX];
    (void)snprintf(path, sizeof path, "%d/environ", pid);
    CLEANUP_FD int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, vars, sizeof vars);
    for (size_t i = 0; n > 0 && i < count; i++)
        if (roots[i].mark && has_mark(vars, (size_t)n, roots[i].mark))
            return (uint32_t)i;
    return NO_ROOT;
}

static bool any_mark(const struct proctree_root *roots, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (roots[i].mark)
            return true;
    return false;
}

static void roots_assign(int proc_fd, const struct proctree_root *roots, size_t count,
                         struct table *t)
{
    bool marks = any_mark(roots, count);
    for (size_t i = 0; i < t->count; i++)
        t->list[i].root = root_direct(roots, count, &t->list[i]);
    for (size_t i = 0; i < t->count; i++) {
        struct process *p = &t->list[i];
        p->root = root_inherited(t, p);
        /* Kernel threads have no memory, and no environment. */
        if (p->root == NO_ROOT && marks && p->rss_pages > 0)
            p->root = root_marked(proc_fd, roots, count, p->pid);
    }
}

static int by_root(const void *a, const void *b)
{
    const struct proctree_process *x = a, *y = b;
    int order = (x->root > y->root) - (x->root < y->root);
    return order ? order : (x->pid > y->pid) - (x->pid < y->pid);
}

static int tree_make(const struct table *t, struct proctree *ret_tree)
{
    struct proctree tree = {.list = malloc((t->count + 1) * sizeof *tree.list)};
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    if (!tree.list)
        return -ENOMEM;
    for (size_t i = 0; i < t->count; i++) {
        const struct process *p = &t->list[i];
        if (p->root != NO_ROOT && !p->is_zombie)
            tree.list[tree.count++] = (struct proctree_process){.pid = p->pid,
                                                                .parent = p->parent,
                                                                .root = p->root,
                                                                .rss = p->rss_pages * page,
                                                                .start_time = p->start_time};
    }
    qsort(tree.list, tree.count, sizeof *tree.list, by_root);
    *ret_tree = tree;
    return 0;
}

int proctree_read(const struct proctree_root *roots, size_t root_count, struct proctree *ret_tree)
{
    struct table t = {0};
    DIR *proc = opendir("/proc");
    if (!proc)
        return -errno;
    int err = table_read(proc, &t);
    if (err == 0 && t.count > 0) {
        qsort(t.list, t.count, sizeof *t.list, by_pid);
        roots_assign(dirfd(proc), roots, root_count, &t);
    }
    if (err == 0)
        err = tree_make(&t, ret_tree);
    (void)closedir(proc);
    free(t.list);
    return err;
}

void proctree_done(struct proctree *t)
{
    free(t->list);
    *t = (struct proctree){0};
}

size_t proctree_count(const struct proctree *t, uint32_t root)
{
    size_t count = 0;
    for (size_t i = 0; i < t->count; i++)
        count += t->list[i].root == root;
    return count;
}

uint64_t proctree_rss(const struct proctree *t, uint32_t root)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < t->count; i++)
        sum += t->list[i].root == root ? t->list[i].rss : 0;
    return sum;
}

static uint64_t pss(const struct proctree_process *p)
{
    char path[32], buf[2048];
    (void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", p->pid);
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
    buf[n > 0 ? n : 0] = 0;
    const char *line = strstr(buf, "\nPss:");
    return line ? strtoull(line + 5, NULL, 10) * 1024 : p->rss;
}

uint64_t proctree_pss(const struct proctree *t, uint32_t root)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < t->count; i++)
        sum += t->list[i].root == root ? pss(&t->list[i]) : 0;
    return sum;
}

/* The pidfd holds on to the process, and then it is looked at once more. */
static bool process_kill(int proc_fd, const struct proctree_process *p, int signal)
{
    char name[16];
    struct process now;
    CLEANUP_FD int fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    (void)snprintf(name, sizeof name, "%d", p->pid);
    return fd >= 0 && process_read(proc_fd, name, &now) == 0 && now.start_time == p->start_time &&
           syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0) == 0;
}

size_t proctree_kill(const struct proctree *t, uint32_t root, int signal)
{
    CLEANUP_FD int proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t killed = 0;
    for (size_t i = 0; i < t->count && proc_fd >= 0; i++)
        killed += t->list[i].root == root && process_kill(proc_fd, &t->list[i], signal);
    return killed;
}

int proctree_look(pid_t pid, struct proctree_process *ret_process)
{
    char name[16];
    struct process p = {0};
    CLEANUP_FD int proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)snprintf(name, sizeof name, "%d", pid);
    int r = proc_fd < 0 ? -errno : process_read(proc_fd, name, &p);
    if (r == 0)
        *ret_process = (struct proctree_process){
            .pid = pid, .parent = p.parent, .root = NO_ROOT, .start_time = p.start_time};
    return r;
}
