/* One connection: an accepted socket comes in and is passed on to the target, both ways, until both
 * have said everything or one is gone. Owns both sockets. A link that ends is freed when the turn
 * is over, as an event of that turn may still name it. */
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "upstreamd/upstream.h"
#include "wire/proxy.h"
#include "wire/sniffed.h"

#define LINGER_MS 1000
/* The backlog of a Unix listener is full: no event says when it is not. */
#define AGAIN_MS 10

static void link_turn(struct link *l);
static void link_connect(struct link *l);

static void deadline_set(struct upstream *u)
{
    uint64_t now = clock_now_ms(), soonest = 0;
    struct list *lists[] = {&u->naming, &u->connecting, &u->lingering};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        if (list_empty(lists[i]))
            continue;
        uint64_t at = container_of(lists[i]->next, struct link, state_link)->deadline_ms;
        soonest = soonest && soonest < at ? soonest : at;
    }
    if (!list_empty(&u->again) && (!soonest || soonest > now + AGAIN_MS))
        soonest = now + AGAIN_MS;
    if (soonest && u->deadline.at_ms != soonest)
        loop_timer(&u->loop, &u->deadline, soonest > now ? soonest - now : 0);
}

static void link_enter(struct link *l, enum link_state state, struct list *list)
{
    l->state = state;
    list_remove(&l->state_link);
    if (list)
        list_append(list, &l->state_link);
}

/* Of the client's socket dispatch may have had a copy until just now. */
static void end_close(struct link *l, struct end *e, bool reset)
{
    struct linger at_once = {.l_onoff = 1};
    if (e == &l->client)
        loop_unwatch(&l->upstream->loop, &e->watch);
    else
        loop_forget(&l->upstream->loop, &e->watch);
    if (reset && e->fd >= 0)
        (void)setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    e->fd = fd_close(e->fd);
}

static void link_end(struct link *l, bool reset)
{
    struct upstream *u = l->upstream;
    if (l->state == LINK_GONE)
        return;
    end_close(l, &l->client, reset);
    end_close(l, &l->server, reset);
    flow_done(&l->up, &u->common);
    flow_done(&l->down, &u->common);
    list_remove(&l->turn_link);
    list_remove(&l->all);
    link_enter(l, LINK_GONE, &u->gone);
    u->link_count--;
    if (u->turn.at_ms == 0)
        loop_timer(&u->loop, &u->turn, 0);
}

static void link_linger(struct link *l)
{
    (void)shutdown(l->client.fd, SHUT_WR);
    l->deadline_ms = clock_now_ms() + LINGER_MS;
    link_enter(l, LINK_LINGERING, &l->upstream->lingering);
    deadline_set(l->upstream);
    link_turn(l);
}

static void link_refuse(struct link *l, int err)
{
    enum reason reason = refuse_reason(err);
    refuse_log(l->upstream, &l->src, reason, err);
    end_close(l, &l->server, true);
    if (refuse_answer(l->client.fd, reason))
        link_linger(l);
    else
        link_end(l, true);
}

static void end_event(struct link *l, struct end *e, uint32_t events)
{
    e->readable |= (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    e->writable |= (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
    e->hung_up |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    e->failed |= (events & EPOLLERR) != 0;
    link_turn(l);
}

static void client_ready(struct watch *w, uint32_t events)
{
    struct link *l = container_of(w, struct link, client.watch);
    end_event(l, &l->client, events);
}

static void server_ready(struct watch *w, uint32_t events)
{
    struct link *l = container_of(w, struct link, server.watch);
    end_event(l, &l->server, events);
}

static int end_watch(struct link *l, struct end *e, void (*ready)(struct watch *, uint32_t))
{
    e->watch.ready = ready;
    return loop_watch(&l->upstream->loop, &e->watch, e->fd,
                      EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

/* Bytes go on as they come: whoever wrote them had decided when. */
static void socket_settle(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* One that vanished is found out some time. */
static void client_settle(int fd)
{
    int on = 1;
    socket_settle(fd);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

/* What the client's socket itself says of its ends, where no header said more. */
static void addresses_find(const struct link *l, struct proxy_header *h)
{
    struct addr a = {0};
    h->src = l->src;
    h->dst = l->dst;
    a.len = sizeof a.un;
    if (h->dst.sa.sa_family == AF_UNSPEC && getsockname(l->client.fd, &a.sa, &a.len) == 0)
        h->dst = addr_from(&a.sa, a.len);
}

static int header_put(struct link *l)
{
    uint8_t buf[PROXY_MAX];
    struct proxy_header h = {0};
    if (l->upstream->proxy == 0 || l->announced)
        return 0;
    addresses_find(l, &h);
    int n = proxy_encode(l->upstream->proxy, &h, buf, sizeof buf);
    return n < 0 ? n : flow_put(&l->up, buf, (size_t)n);
}

static void link_open(struct link *l)
{
    link_enter(l, LINK_OPEN, NULL);
    l->server.writable = true;
    if (header_put(l) < 0)
        link_refuse(l, -ENOMEM);
    else
        link_turn(l);
}

static void link_failed(struct link *l, int err)
{
    struct upstream *u = l->upstream;
    end_close(l, &l->server, true);
    l->server = (struct end){.fd = -EBADF, .watch.fd = -EBADF};
    target_doubt(&u->target);
    if (++l->address < u->target.count)
        link_connect(l);
    else
        link_refuse(l, err);
}

/* Tried again when a moment has passed, and its time is not over. */
static void link_again(struct link *l)
{
    l->server.fd = fd_close(l->server.fd);
    link_enter(l, LINK_CONNECTING, &l->upstream->again);
    deadline_set(l->upstream);
}

static void link_connect(struct link *l)
{
    struct upstream *u = l->upstream;
    const struct addr *to = &u->target.addrs[l->address];
    link_enter(l, LINK_CONNECTING, &u->connecting);
    l->server.fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->server.fd < 0) {
        link_refuse(l, -errno);
        return;
    }
    int r = connect(l->server.fd, &to->sa, to->len) < 0 ? -errno : 0;
    if (r == -EAGAIN) {
        link_again(l);
        return;
    }
    if (r < 0 && r != -EINPROGRESS) {
        link_failed(l, r);
        return;
    }
    if (to->sa.sa_family != AF_UNIX)
        socket_settle(l->server.fd);
    r = r == 0 ? 0 : 1;
    if (end_watch(l, &l->server, server_ready) < 0)
        link_refuse(l, -ENOMEM);
    else if (r == 0)
        link_open(l);
    else
        deadline_set(u);
}

static void link_name(struct link *l)
{
    struct upstream *u = l->upstream;
    l->deadline_ms = clock_now_ms() + u->timeout_ms;
    if (target_is_known(&u->target)) {
        link_connect(l);
        return;
    }
    link_enter(l, LINK_NAMING, &u->naming);
    deadline_set(u);
}

void links_named(struct upstream *u)
{
    list_for_each(l, &u->naming, struct link, state_link)
    {
        if (u->target.count > 0)
            link_connect(l);
        else
            link_refuse(l, -EHOSTUNREACH);
    }
    take_settle(u);
}

/* The header that a load balancer has put in front is taken off: it says who the client is. */
static void link_header(struct link *l)
{
    char in[SNIFF_BYTES_MAX];
    size_t len = 0;
    struct addr src = {0}, dst = {0};
    ssize_t n = recv(l->client.fd, in, sizeof in, MSG_PEEK | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    enum sniff_verdict v =
        n > 0 ? proxy_sniff((struct str){in, (size_t)n}, &len, &src, &dst) : SNIFF_BAD;
    if (v == SNIFF_MORE && !l->client.hung_up)
        return;
    if (v != SNIFF_DONE || recv(l->client.fd, in, len, MSG_DONTWAIT) != (ssize_t)len) {
        link_refuse(l, -EBADMSG);
        return;
    }
    if (src.sa.sa_family != AF_UNSPEC) {
        l->src = src;
        l->dst = dst;
    }
    link_name(l);
}

static void connecting_turn(struct link *l)
{
    int err = 0;
    socklen_t len = sizeof err;
    /* A client that is gone altogether needs no connection. */
    if (l->client.failed) {
        link_end(l, true);
        return;
    }
    if (l->server.fd < 0 || !l->server.writable)
        return;
    if (getsockopt(l->server.fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 || err)
        link_failed(l, -err);
    else
        link_open(l);
}

/* Reads what the client still says, so that the close does not take the answer away from it. */
static void linger_turn(struct link *l)
{
    char *buffer = l->upstream->common.buffer;
    for (int i = 0; i < 8; i++) {
        ssize_t n = recv(l->client.fd, buffer, FLOW_BUFFER, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            link_end(l, false);
            return;
        }
    }
    link_end(l, false);
}

/* The receiver of one direction is gone, and the other direction, which would say so, is over. */
static bool is_lost(const struct flow *f, const struct flow *back)
{
    return (f->broken || f->to->failed) && back->closed;
}

static void open_turn(struct link *l)
{
    struct upstream *u = l->upstream;
    l->up.last = l->down.closed;
    enum flow_result up = flow_run(&l->up, &u->common);
    l->down.last = l->up.closed;
    enum flow_result down = flow_run(&l->down, &u->common);
    if (up == FLOW_RESET || down == FLOW_RESET || is_lost(&l->up, &l->down) ||
        is_lost(&l->down, &l->up)) {
        link_end(l, true);
        return;
    }
    if (l->up.closed && l->down.closed) {
        link_end(l, false);
        return;
    }
    if ((up == FLOW_MORE || down == FLOW_MORE) && list_empty(&l->turn_link)) {
        list_append(&u->turns, &l->turn_link);
        if (u->turn.at_ms == 0)
            loop_timer(&u->loop, &u->turn, 0);
    }
}

static void link_turn(struct link *l)
{
    switch (l->state) {
    case LINK_HEADER:
        link_header(l);
        break;
    case LINK_NAMING:
    case LINK_CONNECTING:
        connecting_turn(l);
        break;
    case LINK_OPEN:
        open_turn(l);
        break;
    case LINK_LINGERING:
        linger_turn(l);
        break;
    case LINK_GONE:
        break;
    }
}

void link_start_consume(struct upstream *u, int fd, const struct appmsg *m)
{
    struct link *l = calloc(1, sizeof *l);
    if (!l) {
        (void)fd_close(fd);
        return;
    }
    l->upstream = u;
    l->client = (struct end){.fd = fd, .watch.fd = -EBADF, .writable = true, .blocking = true};
    l->server = (struct end){.fd = -EBADF, .watch.fd = -EBADF};
    l->src = m->addr;
    /* With version 2 wanted, dispatch has had berth-peer write it: it knows who dialled. The
     * socket's addresses are no sign of that: any user of this machine can connect to them. */
    l->announced = u->proxy == 2 && m->flags & APPMSG_STREAM;
    flow_init(&l->up, &l->client, &l->server);
    flow_init(&l->down, &l->server, &l->client);
    list_init(&l->state_link);
    list_init(&l->turn_link);
    list_append(&u->links, &l->all);
    u->link_count++;
    client_settle(fd);
    l->deadline_ms = clock_now_ms() + u->timeout_ms;
    if (end_watch(l, &l->client, client_ready) < 0) {
        link_end(l, true);
    } else if (u->proxied && !l->announced) {
        link_enter(l, LINK_HEADER, &u->connecting);
        deadline_set(u);
        link_header(l);
    } else {
        link_name(l);
    }
}

static void gone_free(struct upstream *u)
{
    list_for_each(l, &u->gone, struct link, state_link)
    {
        list_remove(&l->state_link);
        free(l);
    }
}

/* What stands in `from` now, and not what comes to it meanwhile. */
static void list_move(struct list *from, struct list *ret_to)
{
    list_init(ret_to);
    if (list_empty(from))
        return;
    *ret_to = *from;
    ret_to->next->prev = ret_to->prev->next = ret_to;
    list_init(from);
}

/* Those that have more to do go on, one round; those that ended are freed. No event that is still
 * to be handed out names them: loop_unwatch() has struck it. */
static void turn(struct timer *t)
{
    struct upstream *u = container_of(t, struct upstream, turn);
    struct list now;
    list_move(&u->turns, &now);
    while (!list_empty(&now)) {
        struct link *l = container_of(now.next, struct link, turn_link);
        list_remove(&l->turn_link);
        link_turn(l);
    }
    gone_free(u);
    take_settle(u);
}

static void expired(struct link *l)
{
    if (l->state == LINK_LINGERING)
        link_end(l, false);
    else
        link_refuse(l, l->state == LINK_HEADER ? -EBADMSG : -ETIMEDOUT);
}

static void connect_again(struct upstream *u)
{
    struct list now;
    list_move(&u->again, &now);
    while (!list_empty(&now)) {
        struct link *l = container_of(now.next, struct link, state_link);
        list_remove(&l->state_link);
        if (l->deadline_ms <= clock_now_ms())
            expired(l);
        else
            link_connect(l);
    }
}

static void deadline(struct timer *t)
{
    struct upstream *u = container_of(t, struct upstream, deadline);
    uint64_t now = clock_now_ms();
    struct list *lists[] = {&u->connecting, &u->naming, &u->lingering};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_for_each(l, lists[i], struct link, state_link) if (l->deadline_ms <= now) expired(l);
    connect_again(u);
    deadline_set(u);
    take_settle(u);
}

void links_init(struct upstream *u)
{
    struct list *lists[] = {&u->links,     &u->naming, &u->connecting, &u->again,
                            &u->lingering, &u->turns,  &u->gone};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_init(lists[i]);
    u->deadline.fire = deadline;
    u->turn.fire = turn;
}
