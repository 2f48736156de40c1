/* Asks the kernel for its sockets. Ports and paths come in, the inodes of the connections there go
 * into a list that belongs to the caller. */
#include "launch/socklist.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/rd.h"
#include "ipc/diag.h"
#include "wire/streammsg.h"

#define DUMP_TRIES 3

/* One port takes five of the kernel's filter words, and one refuses what no port has let through.
 */
#define PORT_OPS 5
#define OPS_MAX  ((SOCKLIST_PORTS_MAX + 1) * PORT_OPS + 1)

struct tcp_query {
    struct inet_diag_req_v2 req;
    struct nlattr filter_head;
    struct inet_diag_bc_op filter[OPS_MAX];
};

struct unix_search {
    struct socklist *list;
    const char *path;
};

static int inode_add(struct socklist *l, uint32_t inode)
{
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 1024;
        uint32_t *list = realloc(l->list, room * sizeof *list);
        if (!list)
            return -ENOMEM;
        l->list = list;
        l->room = room;
    }
    l->list[l->count++] = inode;
    return 0;
}

/* A dump that may have left something out is made again. What both found is there twice, and goes
 * with the sorting. */
static int dump(const void *request, size_t n, diag_fn *fn, void *ctx)
{
    int err = -EINTR;
    for (int i = 0; i < DUMP_TRIES && err == -EINTR; i++)
        err = diag_dump(request, n, fn, ctx);
    return err;
}

/* A socket that no program holds any more has no inode. */
static int tcp_read(void *ctx, struct str payload)
{
    struct inet_diag_msg m;
    if (payload.n < sizeof m)
        return -EPROTO;
    memcpy(&m, payload.p, sizeof m);
    return m.idiag_inode == 0 ? 0 : inode_add(ctx, m.idiag_inode);
}

/* "At least this port, at most it, then jump to the end", which lets the socket through. Jumps are
 * counted in bytes, `left` from here to beyond the whole program; what is compared with stands in
 * the word behind. */
static void port_put(struct inet_diag_bc_op *op, uint16_t port, size_t left)
{
    const size_t word = sizeof *op, block = PORT_OPS * word;
    op[0] = (struct inet_diag_bc_op){INET_DIAG_BC_S_GE, (uint8_t)(2 * word), (uint16_t)block};
    op[1] = (struct inet_diag_bc_op){INET_DIAG_BC_NOP, (uint8_t)word, port};
    op[2] = (struct inet_diag_bc_op){INET_DIAG_BC_S_LE, (uint8_t)(2 * word),
                                     (uint16_t)(block - 2 * word)};
    op[3] = (struct inet_diag_bc_op){INET_DIAG_BC_NOP, (uint8_t)word, port};
    op[4] = (struct inet_diag_bc_op){INET_DIAG_BC_JMP, (uint8_t)word, (uint16_t)(left - 4 * word)};
}

/* The same for an address, at any port; it takes as many words. */
static void address_put(struct inet_diag_bc_op *op, const uint8_t ip[4], size_t left)
{
    const size_t word = sizeof *op, block = PORT_OPS * word;
    struct {
        struct inet_diag_hostcond cond;
        uint8_t ip[4];
    } host = {.cond = {.family = AF_INET, .prefix_len = 32, .port = -1}};
    _Static_assert(sizeof host == 3 * sizeof *op, "three words");
    memcpy(host.ip, ip, sizeof host.ip);
    op[0] = (struct inet_diag_bc_op){INET_DIAG_BC_S_COND, (uint8_t)(4 * word), (uint16_t)block};
    memcpy(&op[1], &host, sizeof host);
    op[4] = (struct inet_diag_bc_op){INET_DIAG_BC_JMP, (uint8_t)word, (uint16_t)(left - 4 * word)};
}

/* A program for the kernel: one block for each place; behind the last one a jump to beyond the end,
 * which does not let through. Returns its size. */
static size_t filter_make(struct inet_diag_bc_op *op, const struct socklist_places *at)
{
    const size_t word = sizeof *op, block = PORT_OPS * word;
    size_t size = (at->count + at->peers) * block + word, left = size;
    for (size_t i = 0; i < at->count; i++, op += PORT_OPS, left -= block)
        port_put(op, at->ports[i], left);
    if (at->peers) {
        address_put(op, STREAMMSG_IP, left);
        op += PORT_OPS;
    }
    *op = (struct inet_diag_bc_op){INET_DIAG_BC_JMP, (uint8_t)word, (uint16_t)(2 * word)};
    return size;
}

/* From the end of the handshake until the program closes: either side may have said that it sends
 * no more. */
int socklist_each(int family, const struct socklist_places *at, diag_fn *fn, void *ctx)
{
    struct tcp_query q = {.req = {.sdiag_family = (uint8_t)family,
                                  .sdiag_protocol = IPPROTO_TCP,
                                  .idiag_states = 1u << TCP_ESTABLISHED | 1u << TCP_FIN_WAIT1 |
                                                  1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSE_WAIT |
                                                  1u << TCP_LAST_ACK | 1u << TCP_CLOSING},
                          .filter_head.nla_type = INET_DIAG_REQ_BYTECODE};
    if (at->count == 0 && !at->peers)
        return 0;
    if (at->count > SOCKLIST_PORTS_MAX)
        return -E2BIG;
    size_t size = filter_make(q.filter, at);
    q.filter_head.nla_len = (uint16_t)(sizeof q.filter_head + size);
    int err = dump(&q, offsetof(struct tcp_query, filter) + size, fn, ctx);
    /* A kernel without IPv6 has no such sockets. */
    return family == AF_INET6 && err == -ENOENT ? 0 : err;
}

int socklist_tcp(struct socklist *l, int family, const struct socklist_places *at)
{
    return socklist_each(family, at, tcp_read, l);
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
    struct unix_search *s = ctx;
    struct unix_diag_msg m;
    struct rd r = rd_init(payload.p, payload.n);
    struct str fixed = rd_bytes(&r, sizeof m);
    if (!rd_ok(&r))
        return -EPROTO;
    memcpy(&m, fixed.p, sizeof m);
    if (m.udiag_type != SOCK_STREAM || m.udiag_state != TCP_ESTABLISHED || m.udiag_ino == 0 ||
        !has_name(r, s->path))
        return 0;
    return inode_add(s->list, m.udiag_ino);
}

int socklist_unix(struct socklist *l, const char *path)
{
    struct unix_search s = {.list = l, .path = path};
    struct unix_diag_req req = {.sdiag_family = AF_UNIX,
                                .udiag_states = 1u << TCP_ESTABLISHED,
                                .udiag_show = UDIAG_SHOW_NAME};
    return dump(&req, sizeof req, unix_read, &s);
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void socklist_sort(struct socklist *l)
{
    if (l->count > 0)
        qsort(l->list, l->count, sizeof *l->list, by_number);
}

bool socklist_has(const struct socklist *l, uint32_t inode)
{
    return l->count > 0 && bsearch(&inode, l->list, l->count, sizeof inode, by_number);
}

void socklist_done(struct socklist *l)
{
    free(l->list);
    *l = (struct socklist){0};
}
