/* Who holds a queue is not tracked but looked up: the kernel knows, through every fork, exec, dup
 * and passing of descriptors. A process whose descriptors we may not read (it is not dumpable, as
 * sshd) counts as a holder only when it is the one that we know. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "berthd/server.h"

/* Negative errno when the process could not be looked into. */
static int walk_process(int proc, const char *pid_text,
                        void (*fn)(void *ctx, ino_t inode, pid_t pid), void *ctx)
{
    char path[300], link[64];
    (void)snprintf(path, sizeof path, "%s/fd", pid_text);
    int fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int err = -errno;
        (void)fd_close(fd);
        return err;
    }
    for (struct dirent *e; (e = readdir(d));) {
        ssize_t n = readlinkat(fd, e->d_name, link, sizeof link - 1);
        if (n <= 8)
            continue;
        link[n] = 0;
        if (strncmp(link, "socket:[", 8) == 0)
            fn(ctx, (ino_t)strtoull(link + 8, NULL, 10), (pid_t)atoi(pid_text));
    }
    (void)closedir(d);
    return 0;
}

static bool is_shortage(int err)
{
    return err == -EMFILE || err == -ENFILE || err == -ENOMEM;
}

int holders_walk(const struct server *s, void (*fn)(void *ctx, ino_t inode, pid_t pid), void *ctx)
{
    int r = 0;
    DIR *d = opendir("/proc");
    if (!d)
        return -errno;
    for (struct dirent *e; (e = readdir(d));) {
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        pid_t pid = (pid_t)atoi(e->d_name);
        if (pid == getpid() || dispatch_is(s, pid) || pid == s->systemd.manager)
            continue;
        int err = walk_process(dirfd(d), e->d_name, fn, ctx);
        if (is_shortage(err))
            r = err;
    }
    (void)closedir(d);
    return r;
}

struct search {
    ino_t inode;
    pid_t *pids;
    size_t count, max;
};

static void search_hit(void *ctx, ino_t inode, pid_t pid)
{
    struct search *s = ctx;
    bool known = s->count > 0 && s->pids[s->count - 1] == pid;
    if (inode == s->inode && !known && s->count < s->max)
        s->pids[s->count++] = pid;
}

int holders_find(const struct server *s, ino_t inode, pid_t *ret_pids, size_t max)
{
    struct search search = {inode, ret_pids, 0, max};
    int r = holders_walk(s, search_hit, &search);
    return search.count > 0 ? (int)search.count : r;
}

bool holders_has(ino_t inode, pid_t pid)
{
    char text[16];
    pid_t found;
    struct search search = {inode, &found, 0, 1};
    CLEANUP_FD int proc = pid > 0 ? open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -EBADF;
    (void)snprintf(text, sizeof text, "%d", pid);
    int r = proc < 0 ? 0 : walk_process(proc, text, search_hit, &search);
    return search.count == 1 || r == -EACCES;
}
