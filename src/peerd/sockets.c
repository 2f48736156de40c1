/* Opens, reads and writes the additional sockets. What comes is a check of the punching that they
 * were opened for, or QUIC. */
#include "peerd/sockets.h"

#include <netinet/ip.h>
#include <stdlib.h>

#include "base/log.h"
#include "peerd/net.h"
#include "peerd/offering.h"
#include "peerd/peerd.h"
#include "peerd/punching.h"

#define DATAGRAM_MAX 2048
#define READ_BURST   64
#define TTL_USUAL    64

void sockets_init(struct sockets *s)
{
    *s = (struct sockets){.count = 0};
    list_init(&s->all);
}

struct extra *sockets_at(struct sockets *s, uint32_t slot)
{
    struct extra *x = s->at[slot % SOCKETS_MAX];
    return x && x->slot == slot ? x : NULL;
}

/* The next one whose place is free: there is one below SOCKETS_MAX. */
static uint32_t slot_next(struct sockets *s)
{
    uint32_t slot;
    do
        slot = s->next_slot++ % (UINT32_MAX / 2);
    while (s->at[slot % SOCKETS_MAX]);
    return slot;
}

static void extra_free(struct extra *x)
{
    loop_unwatch(&x->net->peerd->loop, &x->watch);
    (void)fd_close(x->fd);
    list_remove(&x->link);
    x->net->sockets.at[x->slot % SOCKETS_MAX] = NULL;
    x->net->sockets.count--;
    budget_give(&x->net->budget);
    free(x);
}

static void datagram(struct extra *x, const struct addr *from, const uint8_t *bytes, size_t n)
{
    struct quic_path path = sockets_path(x, from);
    if (!x->remote)
        (void)gathering_input(&x->net->gathering, bytes, n);
    else if (quic_is_quic(bytes, n))
        endpoint_input(x->net->endpoint, &path, bytes, n, n);
    else if (x->role >= PUNCHING_ROLES)
        offering_input(x->remote, x->role - PUNCHING_ROLES, bytes, n);
    else if (x->number != SOCKETS_KEPT)
        punching_input(x->remote, x->role, x->number, from, bytes, n);
}

static void ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct extra *x = container_of(w, struct extra, watch);
    uint8_t bytes[DATAGRAM_MAX];
    for (int i = 0; i < READ_BURST; i++) {
        struct sockaddr_in6 from;
        socklen_t len = sizeof from;
        ssize_t n =
            recvfrom(x->fd, bytes, sizeof bytes, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
        if (n <= 0)
            return;
        struct addr raw = addr_from((struct sockaddr *)&from, len), a = addr_unmap(&raw);
        uint32_t slot = x->slot;
        struct net *net = x->net;
        datagram(x, &a, bytes, (size_t)n);
        /* What it led to may have closed the socket. */
        if (sockets_at(&net->sockets, slot) != x)
            return;
    }
}

static int open_within(struct net *n, struct remote *r, unsigned role, unsigned number)
{
    struct sockaddr_in any = {.sin_family = AF_INET};
    struct extra *x = calloc(1, sizeof *x);
    if (!x)
        return -ENOMEM;
    *x = (struct extra){.net = n,
                        .remote = r,
                        .role = role,
                        .number = number,
                        .slot = slot_next(&n->sockets),
                        .watch = {-EBADF, ready}};
    x->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int result = x->fd < 0 || bind(x->fd, (struct sockaddr *)&any, sizeof any) < 0
                     ? -errno
                     : loop_watch(&n->peerd->loop, &x->watch, x->fd, EPOLLIN);
    if (result < 0) {
        (void)fd_close(x->fd);
        free(x);
        return result;
    }
    list_append(&n->sockets.all, &x->link);
    n->sockets.at[x->slot % SOCKETS_MAX] = x;
    n->sockets.count++;
    return 0;
}

int sockets_open(struct net *n, struct remote *r, unsigned role, unsigned number)
{
    if (n->sockets.count == SOCKETS_MAX || !budget_take(&n->budget, BUDGET_ATTEMPT))
        return -EMFILE;
    int result = open_within(n, r, role, number);
    if (result < 0)
        budget_give(&n->budget);
    return result;
}

struct extra *sockets_find(struct net *n, const struct remote *r, unsigned role, unsigned number)
{
    list_for_each(x, &n->sockets.all, struct extra,
                  link) if (x->remote == r && x->role == role && x->number == number) return x;
    return NULL;
}

void sockets_send(const struct extra *x, const struct addr *to, const void *bytes, size_t n,
                  unsigned ttl)
{
    const int low = (int)ttl, usual = TTL_USUAL;
    if (ttl)
        (void)setsockopt(x->fd, IPPROTO_IP, IP_TTL, &low, sizeof low);
    if (sendto(x->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL, &to->sa, to->len) < 0)
        log_debug("not sent socket=%u err=%d", x->number, errno);
    if (ttl)
        (void)setsockopt(x->fd, IPPROTO_IP, IP_TTL, &usual, sizeof usual);
}

uint16_t sockets_port(const struct extra *x)
{
    struct sockaddr_in name;
    socklen_t len = sizeof name;
    return x && getsockname(x->fd, (struct sockaddr *)&name, &len) == 0 ? ntohs(name.sin_port) : 0;
}

bool sockets_is_path(uint32_t path_id)
{
    return path_id >= SOCKETS_PATH && path_id < SOCKETS_PATH_END;
}

struct quic_path sockets_path(const struct extra *x, const struct addr *remote)
{
    return (struct quic_path){SOCKETS_PATH + x->slot, *remote};
}

void sockets_path_send(struct net *n, const struct quic_path *path, struct str bytes,
                       size_t segment)
{
    const struct extra *x = sockets_at(&n->sockets, path->id - SOCKETS_PATH);
    for (size_t at = 0; x && at < bytes.n; at += segment)
        sockets_send(x, &path->remote, bytes.p + at,
                     bytes.n - at < segment ? bytes.n - at : segment, 0);
}

void sockets_close(struct net *n, const struct remote *r, unsigned role, uint32_t keep_path_id)
{
    list_for_each(x, &n->sockets.all, struct extra, link)
    {
        if (x->remote != r || x->role != role)
            continue;
        if (SOCKETS_PATH + x->slot == keep_path_id)
            x->number = SOCKETS_KEPT;
        else
            extra_free(x);
    }
}

void sockets_hand_over(struct net *n, const struct remote *r, unsigned from, unsigned to)
{
    list_for_each(x, &n->sockets.all, struct extra, link) if (x->remote == r && x->role == from)
        x->role = to;
}
