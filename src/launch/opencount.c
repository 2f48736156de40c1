/* Counts connections. Two lists are made and met: the sockets that the given processes hold, from
 * /proc, and the kernel's connections at the given places. The second is only asked for where the
 * first has sockets of that kind: a worker without any costs next to nothing. */
#include "launch/opencount.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/inet_diag.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/xattr.h>

#include "base/str.h"
#include "launch/socklist.h"

/* So many sockets are asked for their kind; where there are more, all kinds are assumed. */
#define ASKED_MAX 64

enum {
    KIND_TCP4 = 1,
    KIND_TCP6 = 2,
    KIND_UNIX = 4,
    KIND_ALL = 7,
};

struct held {
    uint32_t inode, root;
};

struct holdings {
    struct held *list; /* owned */
    size_t count, room;
    unsigned kinds;
};

static int held_add(struct holdings *h, uint32_t inode, uint32_t root)
{
    if (h->count == h->room) {
        size_t room = h->room ? 2 * h->room : 256;
        struct held *list = realloc(h->list, room * sizeof *list);
        if (!list)
            return -ENOMEM;
        h->list = list;
        h->room = room;
    }
    h->list[h->count++] = (struct held){inode, root};
    return 0;
}

/* The inode of "socket:[123]", or 0. */
static uint32_t socket_inode(int dir_fd, const char *name)
{
    static const char start[] = "socket:[";
    char link[64];
    ssize_t n = readlinkat(dir_fd, name, link, sizeof link - 1);
    link[n > 0 ? n : 0] = 0;
    if (strncmp(link, start, sizeof start - 1) != 0)
        return 0;
    return (uint32_t)strtoul(link + sizeof start - 1, NULL, 10);
}

/* The kernel gives a socket's protocol as an attribute of its file. */
static unsigned kind_of(const char *folder, const char *fd)
{
    char path[64], name[32];
    (void)snprintf(path, sizeof path, "%.32s/%.16s", folder, fd);
    ssize_t n = getxattr(path, "system.sockprotoname", name, sizeof name);
    struct str s = {name, n > 0 ? strnlen(name, (size_t)n) : 0};
    if (n <= 0)
        return KIND_ALL;
    if (str_eq(s, STR("TCP")))
        return KIND_TCP4;
    if (str_eq(s, STR("TCPv6")))
        return KIND_TCP6;
    return str_starts(s, STR("UNIX")) ? KIND_UNIX : 0;
}

static int fds_read(struct holdings *h, DIR *dir, const char *folder, uint32_t root)
{
    int err = 0;
    for (struct dirent *e; err == 0 && (e = readdir(dir));) {
        uint32_t inode = socket_inode(dirfd(dir), e->d_name);
        if (inode == 0)
            continue;
        if (h->kinds != KIND_ALL)
            h->kinds |= h->count < ASKED_MAX ? kind_of(folder, e->d_name) : KIND_ALL;
        err = held_add(h, inode, root);
    }
    return err;
}

static int process_read(struct holdings *h, const struct proctree_process *p)
{
    char folder[32];
    (void)snprintf(folder, sizeof folder, "/proc/%d/fd", p->pid);
    DIR *dir = opendir(folder);
    if (!dir)
        return errno == ENOENT || errno == ESRCH ? 0 : -errno;
    int err = fds_read(h, dir, folder, p->root);
    (void)closedir(dir);
    return err;
}

static int connections_read(struct socklist *l, unsigned kinds,
                            const struct opencount_places *places)
{
    int err = 0;
    struct socklist_places at = {places->ports, places->port_count, places->peers};
    if (kinds & KIND_TCP4)
        err = socklist_tcp(l, AF_INET, &at);
    if (err == 0 && kinds & KIND_TCP6)
        err = socklist_tcp(l, AF_INET6, &at);
    for (size_t i = 0; i < places->path_count && kinds & KIND_UNIX && err == 0; i++)
        err = socklist_unix(l, places->paths[i]);
    socklist_sort(l);
    return err;
}

static int by_root(const void *a, const void *b)
{
    const struct held *x = a, *y = b;
    int order = (x->root > y->root) - (x->root < y->root);
    return order ? order : (x->inode > y->inode) - (x->inode < y->inode);
}

/* Sorted, what several processes of one worker hold stands side by side. */
static void meet(struct holdings *h, const struct socklist *l, uint32_t *counts)
{
    if (h->count > 0)
        qsort(h->list, h->count, sizeof *h->list, by_root);
    for (size_t i = 0; i < h->count; i++) {
        bool again = i > 0 && by_root(&h->list[i - 1], &h->list[i]) == 0;
        counts[h->list[i].root] += !again && socklist_has(l, h->list[i].inode);
    }
}

static int holdings_read(struct holdings *h, const struct proctree *tree, size_t root_count)
{
    int err = 0;
    for (size_t i = 0; i < tree->count && err == 0; i++)
        if (tree->list[i].root < root_count)
            err = process_read(h, &tree->list[i]);
    return err;
}

int opencount(const struct opencount_places *places, const struct proctree *tree,
              uint32_t *ret_counts, size_t root_count)
{
    struct holdings h = {0};
    struct socklist l = {0};
    memset(ret_counts, 0, root_count * sizeof *ret_counts);
    int err = holdings_read(&h, tree, root_count);
    if (err == 0)
        err = connections_read(&l, h.kinds, places);
    if (err == 0)
        meet(&h, &l, ret_counts);
    free(h.list);
    socklist_done(&l);
    return err;
}

struct each {
    const struct holdings *h; /* by inode */
    opencount_fn *fn;
    void *ctx;
};

static int by_inode(const void *a, const void *b)
{
    const struct held *x = a, *y = b;
    return (x->inode > y->inode) - (x->inode < y->inode);
}

static int each_read(void *ctx, struct str payload)
{
    const struct each *e = ctx;
    struct inet_diag_msg m;
    if (payload.n < sizeof m)
        return -EPROTO;
    memcpy(&m, payload.p, sizeof m);
    struct held key = {.inode = m.idiag_inode};
    const struct held *held = bsearch(&key, e->h->list, e->h->count, sizeof key, by_inode);
    if (m.idiag_inode == 0 || !held)
        return 0;
    struct opencount_conn c = {
        .root = held->root,
        .local = addr_make(m.idiag_family, m.id.idiag_src, ntohs(m.id.idiag_sport)),
        .peer = addr_make(m.idiag_family, m.id.idiag_dst, ntohs(m.id.idiag_dport)),
        .cookie = (uint64_t)m.id.idiag_cookie[1] << 32 | m.id.idiag_cookie[0],
    };
    e->fn(e->ctx, &c);
    return 0;
}

int opencount_each(const struct opencount_places *places, const struct proctree *tree,
                   opencount_fn *fn, void *ctx)
{
    struct holdings h = {0};
    struct each e = {&h, fn, ctx};
    struct socklist_places at = {places->ports, places->port_count, places->peers};
    int err = holdings_read(&h, tree, UINT32_MAX);
    if (h.count > 0)
        qsort(h.list, h.count, sizeof *h.list, by_inode);
    if (err == 0 && h.kinds & KIND_TCP4)
        err = socklist_each(AF_INET, &at, each_read, &e);
    if (err == 0 && h.kinds & KIND_TCP6)
        err = socklist_each(AF_INET6, &at, each_read, &e);
    free(h.list);
    return err;
}
