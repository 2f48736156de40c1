/* Accepts the connections that others make. What a stranger can make us hold is the fixed size of a
 * struct, for five seconds. */
#include "base/log.h"
#include "peerd/tcpport.h"
#include "peerd/tcpway-internal.h"

/* Without descriptors. */
#define PAUSE_MS 1000
#define ACCEPTS  16

/* The oldest goes, so that nobody keeps others out by being silent. */
static void stranger_drop(struct tcpways *t)
{
    list_for_each(w, &t->all, struct tcpway, link)
    {
        if (!w->remote) {
            tcpway_refuse(w);
            return;
        }
    }
}

static void acceptable(struct watch *watch, uint32_t events)
{
    struct tcpways *t = container_of(watch, struct tcpways, watch);
    (void)events;
    for (int i = 0; i < ACCEPTS; i++) {
        struct sockaddr_in6 from;
        socklen_t len = sizeof from;
        int fd = accept4(t->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
            return;
        if (fd < 0) {
            log_warn("no TCP connection accepted err=%s", strerror(errno));
            loop_unwatch(tcpway_loop(t), &t->watch);
            loop_timer(tcpway_loop(t), &t->pause, PAUSE_MS);
            return;
        }
        struct addr raw = addr_from((struct sockaddr *)&from, len), a = addr_unmap(&raw);
        if (t->strange >= TCPWAYS_STRANGE_MAX || !budget_has(&t->net->budget, BUDGET_ATTEMPT))
            stranger_drop(t);
        (void)tcpway_new(t, &a, fd, NULL);
    }
}

static void pause_ends(struct timer *timer)
{
    struct tcpways *t = container_of(timer, struct tcpways, pause);
    if (loop_watch(tcpway_loop(t), &t->watch, t->fd, EPOLLIN) < 0)
        loop_timer(tcpway_loop(t), timer, PAUSE_MS);
}

void tcpways_init(struct tcpways *t, struct net *n)
{
    *t = (struct tcpways){
        .net = n, .fd = -EBADF, .watch = {-EBADF, acceptable}, .pause.fire = pause_ends};
    list_init(&t->all);
    list_init(&t->makings);
}

void tcpways_listen(struct tcpways *t, uint16_t port)
{
    struct addr name;
    bool v6 = t->net->udp.v6;
    int fd = tcpport_listen(v6, port, &name);
    if (fd < 0)
        fd = tcpport_listen(v6, 0, &name);
    if (fd < 0 || loop_watch(tcpway_loop(t), &t->watch, fd, EPOLLIN) < 0) {
        log_warn("nothing listens for TCP err=%s", fd < 0 ? strerror(-fd) : "not watched");
        (void)fd_close(fd);
        return;
    }
    t->fd = fd;
    t->port = addr_port(&name);
}
