/* What was delivered and is still open. Entries are taken out of the list while the kernel is
 * asked, so that nobody waits for its answers; each request is for exactly one socket, by addresses
 * and cookie. Who owns an entry: its ledger, or the thread that has taken it out. */
#include "share/ledger.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <sys/socket.h>

/* Asked for in one message to the kernel. */
#define BATCH 32

struct request {
    struct nlmsghdr header;
    struct inet_diag_req_v2 body;
};

void ledger_init(struct ledger *l)
{
    (void)pthread_mutex_init(&l->lock, NULL);
    list_init(&l->entries);
    l->count = 0;
}

void ledger_done(struct ledger *l)
{
    list_for_each(e, &l->entries, struct ledger_entry, link)
    {
        list_remove(&e->link);
        free(e);
    }
    (void)pthread_mutex_destroy(&l->lock);
}

static bool cookie_get(int fd, uint64_t *ret_cookie)
{
    socklen_t len = sizeof *ret_cookie;
    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, ret_cookie, &len) == 0;
}

static bool compact(const struct addr *a, union ledger_addr *ret)
{
    memset(ret, 0, sizeof *ret);
    if (a->sa.sa_family == AF_INET)
        ret->v4 = a->v4;
    else if (a->sa.sa_family == AF_INET6)
        ret->v6 = a->v6;
    else
        return false;
    return true;
}

struct ledger_entry *ledger_entry_make(const struct addr *local, const struct addr *peer,
                                       uint64_t cookie)
{
    struct ledger_entry *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    list_init(&e->link);
    e->cookie = cookie;
    if (compact(local, &e->local) && compact(peer, &e->peer))
        return e;
    free(e);
    return NULL;
}

struct ledger_entry *ledger_entry_new(int fd, const struct addr *peer)
{
    struct addr local;
    uint64_t cookie;
    socklen_t len = sizeof local.un;
    if (peer->sa.sa_family == AF_UNIX || !cookie_get(fd, &cookie) ||
        getsockname(fd, &local.sa, &len) < 0)
        return NULL;
    local = addr_from(&local.sa, len);
    return ledger_entry_make(&local, peer, cookie);
}

struct addr ledger_peer(const struct ledger_entry *e)
{
    bool v4 = e->peer.sa.sa_family == AF_INET;
    return addr_from(&e->peer.sa, v4 ? sizeof e->peer.v4 : sizeof e->peer.v6);
}

void ledger_add_consume(struct ledger *l, struct ledger_entry *e)
{
    (void)pthread_mutex_lock(&l->lock);
    list_append(&l->entries, &e->link);
    l->count++;
    (void)pthread_mutex_unlock(&l->lock);
}

struct ledger_entry *ledger_take(struct ledger *l, int fd)
{
    uint64_t cookie;
    struct ledger_entry *found = NULL;
    if (!cookie_get(fd, &cookie))
        return NULL;
    (void)pthread_mutex_lock(&l->lock);
    list_for_each(e, &l->entries, struct ledger_entry, link) if (!found && e->cookie == cookie)
        found = e;
    if (found) {
        list_remove(&found->link);
        l->count--;
    }
    (void)pthread_mutex_unlock(&l->lock);
    return found;
}

static void address_put(const union ledger_addr *a, __be32 ip[4], __be16 *port)
{
    if (a->sa.sa_family == AF_INET) {
        memcpy(ip, &a->v4.sin_addr, 4);
        *port = a->v4.sin_port;
    } else {
        memcpy(ip, &a->v6.sin6_addr, 16);
        *port = a->v6.sin6_port;
    }
}

static void request_make(struct request *r, const struct ledger_entry *e, uint32_t seq)
{
    *r = (struct request){
        .header = {.nlmsg_len = sizeof *r,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST,
                   .nlmsg_seq = seq},
        .body = {.sdiag_family = (uint8_t)e->local.sa.sa_family,
                 .sdiag_protocol = IPPROTO_TCP,
                 .idiag_states = UINT32_MAX,
                 .id = {.idiag_cookie = {(uint32_t)e->cookie, (uint32_t)(e->cookie >> 32)}}}};
    struct inet_diag_sockid *id = &r->body.id;
    address_put(&e->local, id->idiag_src, &id->idiag_sport);
    address_put(&e->peer, id->idiag_dst, &id->idiag_dport);
    /* The kernel binds a link-local connection to its interface. */
    if (e->local.sa.sa_family == AF_INET6)
        id->idiag_if = e->local.v6.sin6_scope_id;
}

/* One answer of the kernel's: which request it is for, and whether that socket is closed. */
static bool answer_read(const uint8_t *buf, size_t n, uint32_t *ret_seq, bool *ret_closed)
{
    struct nlmsghdr h;
    if (n < sizeof h)
        return false;
    memcpy(&h, buf, sizeof h);
    *ret_seq = h.nlmsg_seq;
    if (h.nlmsg_type == NLMSG_ERROR && n >= sizeof h + sizeof(struct nlmsgerr)) {
        struct nlmsgerr err;
        memcpy(&err, buf + sizeof h, sizeof err);
        /* No socket with these addresses, or it is another one (its cookie differs). */
        *ret_closed = err.error == -ENOENT || err.error == -ESTALE;
        return true;
    }
    if (h.nlmsg_type != SOCK_DIAG_BY_FAMILY || n < sizeof h + sizeof(struct inet_diag_msg))
        return false;
    struct inet_diag_msg msg;
    memcpy(&msg, buf + sizeof h, sizeof msg);
    /* The kernel may still be sending what is left, but no program has it any more. */
    *ret_closed = msg.idiag_inode == 0;
    return true;
}

/* Asks for n entries at once; the kernel has answered when send() returns. What it does not answer
 * stays open. */
static void ask(int diag_fd, struct ledger_entry **entries, size_t n, bool *ret_closed)
{
    struct request requests[BATCH];
    uint8_t buf[4096];
    /* What an earlier round left behind must not be taken for an answer of this one. */
    while (recv(diag_fd, buf, sizeof buf, MSG_DONTWAIT) > 0)
        ;
    for (size_t i = 0; i < n; i++) {
        request_make(&requests[i], entries[i], (uint32_t)i);
        ret_closed[i] = false;
    }
    if (send(diag_fd, requests, n * sizeof *requests, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        uint32_t seq;
        bool closed;
        ssize_t got = recv(diag_fd, buf, sizeof buf, MSG_DONTWAIT);
        if (got < 0)
            return;
        if (answer_read(buf, (size_t)got, &seq, &closed) && seq < n)
            ret_closed[seq] = closed;
    }
}

static size_t entries_take(struct ledger *l, struct ledger_entry **ret, size_t max)
{
    size_t n = 0;
    (void)pthread_mutex_lock(&l->lock);
    while (n < max && !list_empty(&l->entries)) {
        ret[n] = container_of(l->entries.next, struct ledger_entry, link);
        list_remove(&ret[n]->link);
        n++;
    }
    l->count -= n;
    (void)pthread_mutex_unlock(&l->lock);
    return n;
}

size_t ledger_check(struct ledger *l, int diag_fd, size_t max, struct ledger_closed *closed)
{
    size_t asked = 0;
    (void)pthread_mutex_lock(&l->lock);
    if (max > l->count)
        max = l->count;
    (void)pthread_mutex_unlock(&l->lock);
    while (asked < max) {
        struct ledger_entry *entries[BATCH];
        bool gone[BATCH];
        size_t want = max - asked < BATCH ? max - asked : BATCH;
        size_t n = entries_take(l, entries, want);
        if (n == 0)
            break;
        ask(diag_fd, entries, n, gone);
        for (size_t i = 0; i < n; i++) {
            if (!gone[i]) {
                ledger_add_consume(l, entries[i]);
                continue;
            }
            closed->fn(closed, entries[i]);
            free(entries[i]);
        }
        asked += n;
    }
    return asked;
}
