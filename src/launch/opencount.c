/* Counts connections. Two lists are made and met: the inodes of sockets at the given places, from
 * the kernel by netlink, and the descriptors of the given processes, from /proc. */
#include "launch/opencount.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rd.h"
#include "launch/diag.h"

#define DUMP_TRIES 3

struct held {
    uint32_t inode;
    uint32_t next_root; /* all workers before this one have been counted for the socket */
};

struct inodes {
    struct held *list; /* owned */
    size_t count, room;
};

/* What one dump is made for. */
struct search {
    struct inodes *inodes;
    uint16_t port;
    const char *path;
};

static int inode_add(struct inodes *l, uint32_t inode)
{
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 1024;
        struct held *list = realloc(l->list, room * sizeof *list);
        if (!list)
            return -ENOMEM;
        l->list = list;
        l->room = room;
    }
    l->list[l->count++] = (struct held){.inode = inode};
    return 0;
}

/* A socket that no program holds any more has no inode. */
static int tcp_read(void *ctx, struct str payload)
{
    struct search *s = ctx;
    struct inet_diag_msg m;
    if (payload.n < sizeof m)
        return -EPROTO;
    memcpy(&m, payload.p, sizeof m);
    if (m.idiag_inode == 0 || ntohs(m.id.idiag_sport) != s->port)
        return 0;
    return inode_add(s->inodes, m.idiag_inode);
}

static bool has_name(struct rd r, const char *path)
{
    size_t path_n = strlen(path);
    while (r.left >= sizeof(struct nlattr)) {
        struct nlattr a;
        memcpy(&a, rd_bytes(&r, sizeof a).p, sizeof a);
        if (a.nla_len < sizeof a)
            return false;
        size_t n = a.nla_len - sizeof a;
        struct str name = rd_bytes(&r, n);
        /* The kernel's name of a path ends with or without a NUL. */
        if (rd_ok(&r) && a.nla_type == UNIX_DIAG_NAME && strnlen(name.p, name.n) == path_n &&
            memcmp(name.p, path, path_n) == 0)
            return true;
        if (NLA_ALIGN(n) != n && r.left > 0)
            (void)rd_bytes(&r, NLA_ALIGN(n) - n);
    }
    return false;
}

/* An accepted Unix socket has the name of the listening one. */
static int unix_read(void *ctx, struct str payload)
{
    struct search *s = ctx;
    struct unix_diag_msg m;
    struct rd r = rd_init(payload.p, payload.n);
    struct str fixed = rd_bytes(&r, sizeof m);
    if (!rd_ok(&r))
        return -EPROTO;
    memcpy(&m, fixed.p, sizeof m);
    if (m.udiag_type != SOCK_STREAM || m.udiag_state != TCP_ESTABLISHED || m.udiag_ino == 0 ||
        !has_name(r, s->path))
        return 0;
    return inode_add(s->inodes, m.udiag_ino);
}

/* A dump that may have left something out is made again. What both found is there twice, and goes
 * with the sorting. */
static int dump(const void *request, size_t n, diag_fn *fn, struct search *s)
{
    int err = -EINTR;
    for (int i = 0; i < DUMP_TRIES && err == -EINTR; i++)
        err = diag_dump(request, n, fn, s);
    return err;
}

/* From the end of the handshake until the program closes: either side may have said that it sends
 * no more. */
static int tcp_dump(struct inodes *l, uint16_t port)
{
    uint32_t states = 1u << TCP_ESTABLISHED | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 |
                      1u << TCP_CLOSE_WAIT | 1u << TCP_LAST_ACK | 1u << TCP_CLOSING;
    struct search s = {.inodes = l, .port = port};
    struct inet_diag_req_v2 req = {.sdiag_family = AF_INET,
                                   .sdiag_protocol = IPPROTO_TCP,
                                   .idiag_states = states,
                                   .id.idiag_sport = htons(port)};
    int err = dump(&req, sizeof req, tcp_read, &s);
    req.sdiag_family = AF_INET6;
    return err < 0 ? err : dump(&req, sizeof req, tcp_read, &s);
}

static int unix_dump(struct inodes *l, const char *path)
{
    struct search s = {.inodes = l, .path = path};
    struct unix_diag_req req = {.sdiag_family = AF_UNIX,
                                .udiag_states = 1u << TCP_ESTABLISHED,
                                .udiag_show = UDIAG_SHOW_NAME};
    return dump(&req, sizeof req, unix_read, &s);
}

static int by_inode(const void *a, const void *b)
{
    const struct held *x = a, *y = b;
    return (x->inode > y->inode) - (x->inode < y->inode);
}

static void inodes_sort(struct inodes *l)
{
    size_t kept = 0;
    if (l->count == 0)
        return;
    qsort(l->list, l->count, sizeof *l->list, by_inode);
    for (size_t i = 0; i < l->count; i++)
        if (kept == 0 || l->list[kept - 1].inode != l->list[i].inode)
            l->list[kept++] = l->list[i];
    l->count = kept;
}

static int inodes_read(struct inodes *l, const struct opencount_places *places)
{
    int err = 0;
    for (size_t i = 0; i < places->port_count && err == 0; i++)
        err = tcp_dump(l, places->ports[i]);
    for (size_t i = 0; i < places->path_count && err == 0; i++)
        err = unix_dump(l, places->paths[i]);
    inodes_sort(l);
    return err;
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

/* The processes come sorted by worker, so a socket that was counted for this one or a later one has
 * been seen. */
static uint32_t fds_count(const struct inodes *l, DIR *dir, uint32_t root)
{
    uint32_t count = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        struct held key = {.inode = socket_inode(dirfd(dir), e->d_name)};
        struct held *h = key.inode ? bsearch(&key, l->list, l->count, sizeof key, by_inode) : NULL;
        if (!h || h->next_root > root)
            continue;
        h->next_root = root + 1;
        count++;
    }
    return count;
}

static int process_count(const struct inodes *l, const struct proctree_process *p, uint32_t *count)
{
    char path[32];
    (void)snprintf(path, sizeof path, "/proc/%d/fd", p->pid);
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT || errno == ESRCH ? 0 : -errno;
    *count += fds_count(l, dir, p->root);
    (void)closedir(dir);
    return 0;
}

int opencount(const struct opencount_places *places, const struct proctree *tree,
              uint32_t *ret_counts, size_t root_count)
{
    struct inodes l = {0};
    memset(ret_counts, 0, root_count * sizeof *ret_counts);
    int err = inodes_read(&l, places);
    for (size_t i = 0; i < tree->count && l.count > 0 && err == 0; i++)
        if (tree->list[i].root < root_count)
            err = process_count(&l, &tree->list[i], &ret_counts[tree->list[i].root]);
    free(l.list);
    return err;
}
