/* One connection at a time: a frame goes out, a frame comes in. It is kept for a while, because a
 * NAT may forget the port with its last connection. */
#include "peerd/tcpseen.h"

#include <sodium.h>

#include "base/log.h"
#include "base/rd.h"
#include "base/wr.h"
#include "peerd/net.h"
#include "peerd/offering.h"
#include "peerd/peerd.h"
#include "peerd/tcpport.h"

#define PREFIX    2
#define ANSWER_MS 5000
#define KEPT_MS   20000

static void disconnect(struct tcpseen *t)
{
    loop_unwatch(&t->net->peerd->loop, &t->watch);
    loop_untimer(&t->limit);
    t->fd = fd_close(t->fd);
    t->in_used = 0;
}

static void over(struct tcpseen *t)
{
    bool waited = t->waits;
    t->waits = false;
    if (waited)
        offerings_look(t->net->peerd);
}

static void failed(struct tcpseen *t, const char *why)
{
    if (t->waits)
        log_debug("tcp port not seen err=%s", why);
    disconnect(t);
    over(t);
}

static bool hello_send(struct tcpseen *t)
{
    uint8_t frame[PREFIX + RDVMSG_HELLO_MIN];
    struct rdvmsg m = {.type = RDVMSG_HELLO, .pad_to = RDVMSG_HELLO_MIN};
    randombytes_buf(&m.transaction, sizeof m.transaction);
    t->transaction = m.transaction;
    int n = rdvmsg_encode(&m, frame + PREFIX, sizeof frame - PREFIX);
    struct wr w = wr_init(frame, PREFIX);
    wr_u16(&w, RDVMSG_HELLO_MIN);
    return n == RDVMSG_HELLO_MIN &&
           send(t->fd, frame, sizeof frame, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof frame;
}

static void message(struct tcpseen *t, struct str bytes)
{
    struct rdvmsg m;
    char text[ADDR_TEXT_MAX];
    if (!t->waits || rdvmsg_decode(&m, bytes.p, bytes.n) < 0 || m.type != RDVMSG_COOKIE_IS ||
        m.transaction != t->transaction || addr_port(&m.addr) == 0)
        return;
    t->seen = addr_unmap(&m.addr);
    log_debug("tcp port seen addr=%s", addr_format(&t->seen, text));
    /* The next one that is asked for is to be another port. */
    if (t->counted)
        disconnect(t);
    else
        loop_timer(&t->net->peerd->loop, &t->limit, KEPT_MS);
    over(t);
}

/* At most one whole message: no more is asked for. */
static bool frame_take(struct tcpseen *t)
{
    struct rd r = rd_init(t->in, t->in_used);
    size_t n = rd_u16(&r);
    if (rd_ok(&r) && (n == 0 || n > RDVMSG_MAX))
        return false;
    struct str frame = rd_bytes(&r, n);
    if (!rd_ok(&r))
        return true;
    if (r.left > 0)
        return false;
    t->in_used = 0;
    message(t, frame);
    return true;
}

static void input(struct tcpseen *t)
{
    ssize_t n = recv(t->fd, t->in + t->in_used, sizeof t->in - t->in_used, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        failed(t, n == 0 ? "closed" : strerror(errno));
        return;
    }
    t->in_used += (size_t)n;
    if (!frame_take(t))
        failed(t, "what the server says makes no sense");
}

static void ready(struct watch *watch, uint32_t events)
{
    struct tcpseen *t = container_of(watch, struct tcpseen, watch);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = &t->watch};
    if (!(events & EPOLLOUT)) {
        input(t);
        return;
    }
    int r = tcpport_result(t->fd);
    if (r == 0 && epoll_ctl(t->net->peerd->loop.epoll_fd, EPOLL_CTL_MOD, t->fd, &e) < 0)
        r = -errno;
    if (r < 0 || !hello_send(t))
        failed(t, strerror(-r));
}

static void limit_fires(struct timer *timer)
{
    failed(container_of(timer, struct tcpseen, limit), "no answer");
}

void tcpseen_init(struct tcpseen *t, struct net *n)
{
    *t = (struct tcpseen){
        .net = n, .fd = -EBADF, .watch = {-EBADF, ready}, .limit.fire = limit_fires};
}

void tcpseen_done(struct tcpseen *t)
{
    if (!t->net)
        return;
    t->waits = false;
    disconnect(t);
}

static bool our_nat_counts(const struct tcpseen *t)
{
    const struct nat nat = gathering_nat(&t->net->gathering);
    return nat_counts(&nat);
}

static int ask_anew(struct tcpseen *t, const struct addr *server)
{
    t->counted = our_nat_counts(t);
    int fd = tcpport_connect(t->counted ? 0 : t->net->tcpways.port, server);
    if (fd < 0)
        return fd;
    int r = loop_watch(&t->net->peerd->loop, &t->watch, fd, EPOLLOUT);
    if (r < 0) {
        (void)fd_close(fd);
        return r;
    }
    t->fd = fd;
    t->server = *server;
    return 0;
}

int tcpseen_ask(struct tcpseen *t, const struct addr *server)
{
    int r = 0;
    if (t->waits)
        return -EALREADY;
    if (t->net->tcpways.port == 0)
        return -EADDRNOTAVAIL;
    bool kept = t->fd >= 0 && !our_nat_counts(t) && addr_equal(&t->server, server) && hello_send(t);
    if (!kept) {
        disconnect(t);
        r = ask_anew(t, server);
    }
    if (r < 0)
        return r;
    t->waits = true;
    loop_timer(&t->net->peerd->loop, &t->limit, ANSWER_MS);
    return 0;
}

void tcpseen_look(struct tcpseen *t, const struct addr *server, const struct addr *udp)
{
    if (server->sa.sa_family != AF_INET || addr_is_loopback(server) || addr_equal(&t->udp, udp))
        return;
    t->udp = *udp;
    t->seen = (struct addr){.len = 0};
    int r = tcpseen_ask(t, server);
    if (r < 0)
        log_debug("tcp port not asked for err=%d", r);
}

void tcpseen_network_changed(struct tcpseen *t)
{
    t->udp = t->seen = t->server = (struct addr){.len = 0};
    t->counted = false;
    failed(t, "another network");
}

void tcpseen_nat_known(struct tcpseen *t)
{
    int r = t->server.len && !t->counted && !t->waits && our_nat_counts(t)
                ? tcpseen_ask(t, &t->server)
                : 0;
    if (r < 0)
        log_debug("tcp port not asked for err=%d", r);
}

const struct addr *tcpseen_now(const struct tcpseen *t)
{
    return &t->seen;
}
