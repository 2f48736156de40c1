/* Asks the kernel for its TCP sockets over NETLINK_SOCK_DIAG. A port and a mask of states come in,
 * one callback a socket goes out. The netlink socket lives only as long as the call. */
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "base/rd.h"
#include "why/parts.h"

#define ANSWER_MAX 65536

struct query {
    struct nlmsghdr head;
    struct inet_diag_req_v2 req;
    struct nlattr protocol_head;
    uint32_t protocol;
};

struct dump {
    uint16_t port;
    uint32_t states;
    sockdiag_fn *fn;
    void *ctx;
    bool finished;
};

static struct query query_make(int family, const struct dump *d)
{
    return (struct query){
        .head = {.nlmsg_type = SOCK_DIAG_BY_FAMILY,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                 .nlmsg_len = offsetof(struct query, protocol_head)},
        .req = {.sdiag_family = (uint8_t)family,
                .sdiag_protocol = IPPROTO_TCP,
                .idiag_states = d->states,
                .id.idiag_sport = htons(d->port)},
        .protocol_head = {.nla_len = sizeof(struct nlattr) + sizeof(uint32_t),
                          .nla_type = INET_DIAG_REQ_PROTOCOL},
    };
}

static void attributes_read(struct rd *r, struct why_sock *s)
{
    while (r->left >= sizeof(struct nlattr)) {
        struct nlattr a;
        memcpy(&a, rd_bytes(r, sizeof a).p, sizeof a);
        if (a.nla_len < sizeof a)
            return;
        size_t n = a.nla_len - sizeof a;
        struct str value = rd_bytes(r, n);
        if (rd_ok(r) && a.nla_type == INET_DIAG_SKV6ONLY && value.n >= 1)
            s->v6only = value.p[0] != 0;
        if (NLA_ALIGN(n) != n && r->left > 0)
            (void)rd_bytes(r, NLA_ALIGN(n) - n);
    }
}

/* Unconnected and not listening is CLOSE to the kernel's printer, whatever list it came from. */
static int state_of(const struct inet_diag_msg *m)
{
    return m->idiag_state == 7 ? WHY_STATE_INACTIVE : m->idiag_state;
}

static void socket_read(struct dump *d, struct str payload)
{
    struct inet_diag_msg m;
    struct rd r = rd_init(payload.p, payload.n);
    struct str fixed = rd_bytes(&r, sizeof m);
    if (!rd_ok(&r))
        return;
    memcpy(&m, fixed.p, sizeof m);
    uint16_t port = ntohs(m.id.idiag_sport);
    /* The kernel ignores the port of the request in its list of bound sockets. */
    if (port == 0 || (d->port != 0 && port != d->port))
        return;
    if (m.idiag_family != AF_INET && m.idiag_family != AF_INET6)
        return;
    struct why_sock s = {
        .state = state_of(&m),
        .local = addr_make(m.idiag_family, m.id.idiag_src, port),
        .peer = addr_make(m.idiag_family, m.id.idiag_dst, ntohs(m.id.idiag_dport)),
        .uid = m.idiag_uid,
        .inode = m.idiag_inode,
        .queued = m.idiag_rqueue,
        .backlog = m.idiag_wqueue,
    };
    attributes_read(&r, &s);
    d->fn(d->ctx, &s);
}

static int message_read(struct dump *d, int type, struct str payload)
{
    if (type == SOCK_DIAG_BY_FAMILY)
        socket_read(d, payload);
    if (type == NLMSG_DONE)
        d->finished = true;
    int error = -EPROTO;
    if (type == NLMSG_ERROR && payload.n >= sizeof error)
        memcpy(&error, payload.p, sizeof error);
    return type == NLMSG_ERROR ? error : 0;
}

static int datagram_read(struct dump *d, struct rd r)
{
    int rc = 0;
    while (r.left > 0 && !d->finished && rc == 0) {
        struct nlmsghdr h;
        struct str head = rd_bytes(&r, sizeof h);
        if (!rd_ok(&r))
            return -EPROTO;
        memcpy(&h, head.p, sizeof h);
        if (h.nlmsg_len < sizeof h)
            return -EPROTO;
        size_t n = h.nlmsg_len - sizeof h;
        struct str payload = rd_bytes(&r, n);
        if (!rd_ok(&r))
            return -EPROTO;
        if (NLMSG_ALIGN(n) != n && r.left > 0)
            (void)rd_bytes(&r, NLMSG_ALIGN(n) - n);
        rc = message_read(d, h.nlmsg_type, payload);
    }
    return rc;
}

static int query_run(struct dump *d, const struct query *q)
{
    CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0)
        return -errno;
    /* The kernel answers at once; the limit only guards against a kernel that does not. */
    struct timeval limit = {.tv_sec = 5};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (send(fd, q, q->head.nlmsg_len, 0) < 0)
        return -errno;
    uint8_t answer[ANSWER_MAX];
    d->finished = false;
    int rc = 0;
    while (rc == 0 && !d->finished) {
        ssize_t n = recv(fd, answer, sizeof answer, 0);
        if (n < 0)
            return -errno;
        rc = n == 0 ? -EPROTO : datagram_read(d, rd_init(answer, (size_t)n));
    }
    return rc;
}

int sockdiag_dump(uint16_t port, uint32_t states, sockdiag_fn *fn, void *ctx)
{
    struct dump d = {.port = port, .states = states, .fn = fn, .ctx = ctx};
    struct query q = query_make(AF_INET, &d);
    int rc = query_run(&d, &q);
    if (rc < 0)
        return rc;
    q = query_make(AF_INET6, &d);
    rc = query_run(&d, &q);
    return rc == -ENOENT ? 0 : rc;
}

int sockdiag_dump_mptcp(uint16_t port, sockdiag_fn *fn, void *ctx)
{
    struct dump d = {.port = port, .states = SOCKDIAG_LISTENING, .fn = fn, .ctx = ctx};
    for (int i = 0; i < 2; i++) {
        struct query q = query_make(i == 0 ? AF_INET : AF_INET6, &d);
        /* The number of MPTCP does not fit in the byte of the request. */
        q.req.sdiag_protocol = IPPROTO_RAW;
        q.head.nlmsg_len = sizeof q;
        q.protocol = IPPROTO_MPTCP;
        int rc = query_run(&d, &q);
        if (rc < 0)
            return rc;
    }
    return 0;
}
