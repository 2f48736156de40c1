/* One connection for each event: the socket is watched level-triggered, need not be non-blocking,
 * and whoever takes a connection may close the acceptor. */
#include "loop/acceptor.h"

#include <sys/socket.h>

#define REST_MS 100

static void rest_over(struct timer *t)
{
    struct acceptor *a = container_of(t, struct acceptor, rest);
    if (loop_watch(a->loop, &a->watch, a->fd, EPOLLIN) < 0)
        loop_timer(a->loop, t, REST_MS);
}

/* Those of one connection, which is gone then, and of none. accept(2) names what else the network
 * may say of a connection; all that comes again at once is a reason to rest. */
static bool is_passing(int err)
{
    static const int passing[] = {EAGAIN,     EINTR,       ECONNABORTED, EPERM,
                                  EPROTO,     ENETDOWN,    ENONET,       EHOSTDOWN,
                                  EOPNOTSUPP, ENETUNREACH, ENOPROTOOPT,  EHOSTUNREACH};
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
        if (passing[i] == err)
            return true;
    return false;
}

static void on_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct acceptor *a = container_of(w, struct acceptor, watch);
    int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | a->flags);
    if (fd >= 0) {
        a->accepted_consume(a, fd);
        return;
    }
    /* Room of our own helps only where it is ours that is used up. */
    if (is_passing(errno) || (errno == EMFILE && a->make_room && a->make_room(a)))
        return;
    loop_unwatch(a->loop, w);
    loop_timer(a->loop, &a->rest, REST_MS);
}

void acceptor_init(struct acceptor *a, struct loop *l,
                   void (*accepted_consume)(struct acceptor *a, int fd))
{
    *a = (struct acceptor){.loop = l,
                           .fd = -EBADF,
                           .watch = {-EBADF, on_ready},
                           .rest.fire = rest_over,
                           .accepted_consume = accepted_consume};
}

int acceptor_open_consume(struct acceptor *a, int fd)
{
    a->fd = fd;
    return loop_watch(a->loop, &a->watch, fd, EPOLLIN);
}

void acceptor_close(struct acceptor *a)
{
    if (a->fd < 0)
        return;
    loop_unwatch(a->loop, &a->watch);
    loop_untimer(&a->rest);
    a->fd = fd_close(a->fd);
}
