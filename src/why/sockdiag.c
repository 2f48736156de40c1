/* Asks the kernel for its TCP sockets over NETLINK_SOCK_DIAG. A port and a mask of states come in,
 * one callback a socket goes out. */
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#include "base/rd.h"
#include "ipc/diag.h"
#include "why/parts.h"

struct query {
    struct inet_diag_req_v2 req;
    struct nlattr protocol_head;
    uint32_t protocol;
};

struct dump {
    uint16_t port;
    uint32_t states;
    sockdiag_fn *fn;
    void *ctx;
};

static struct query query_make(int family, const struct dump *d)
{
    return (struct query){
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

static int socket_read(void *ctx, struct str payload)
{
    struct dump *d = ctx;
    struct inet_diag_msg m;
    struct rd r = rd_init(payload.p, payload.n);
    struct str fixed = rd_bytes(&r, sizeof m);
    if (!rd_ok(&r))
        return 0;
    memcpy(&m, fixed.p, sizeof m);
    uint16_t port = ntohs(m.id.idiag_sport);
    /* The kernel ignores the port of the request in its list of bound sockets. */
    if (port == 0 || (d->port != 0 && port != d->port))
        return 0;
    if (m.idiag_family != AF_INET && m.idiag_family != AF_INET6)
        return 0;
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
    return 0;
}

static int query_run(struct dump *d, const struct query *q, size_t n)
{
    int rc = diag_dump(q, n, socket_read, d);
    /* What was left out of a list that changed meanwhile is no reason to know nothing. */
    return rc == -EINTR ? 0 : rc;
}

int sockdiag_dump(uint16_t port, uint32_t states, sockdiag_fn *fn, void *ctx)
{
    struct dump d = {.port = port, .states = states, .fn = fn, .ctx = ctx};
    struct query q = query_make(AF_INET, &d);
    int rc = query_run(&d, &q, sizeof q.req);
    if (rc < 0)
        return rc;
    q = query_make(AF_INET6, &d);
    rc = query_run(&d, &q, sizeof q.req);
    return rc == -ENOENT ? 0 : rc;
}

int sockdiag_dump_mptcp(uint16_t port, sockdiag_fn *fn, void *ctx)
{
    struct dump d = {.port = port, .states = SOCKDIAG_LISTENING, .fn = fn, .ctx = ctx};
    for (int i = 0; i < 2; i++) {
        struct query q = query_make(i == 0 ? AF_INET : AF_INET6, &d);
        /* The number of MPTCP does not fit in the byte of the request. */
        q.req.sdiag_protocol = IPPROTO_RAW;
        q.protocol = IPPROTO_MPTCP;
        int rc = query_run(&d, &q, sizeof q);
        if (rc < 0)
            return rc;
    }
    return 0;
}
