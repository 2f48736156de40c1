/* Questions to be called once more: ours go out when a server knows where we are now, the other
 * side's come in, and are followed no more often than is of use. */
#include "peerd/callback.h"

#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "peerd/path.h"
#include "peerd/peerd.h"
#include "peerd/remote.h"

/* For the servers to learn where we are, and for us to learn how the NAT behaves. */
#define SETTLE_MS 1000
/* The other side may want more, but not more often. */
#define PAUSE_MS 5000

static bool is_called(const struct remote *r)
{
    return r->session && session_is_up(r->session) && !session_is_client(r->session);
}

static void timer_set(struct remote *r, uint64_t ms)
{
    loop_timer(&r->peerd->loop, &r->callback.timer, ms);
}

static void ask(struct remote *r)
{
    int fds[2];
    struct callback *c = &r->callback;
    c->fd = fd_close(c->fd);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return;
    c->fd = fds[0];
    int result = session_dial(r->session, STR(CALLBACK_SERVICE), fds[1], NULL);
    trail_add(&r->trail, "%s",
              result < 0 ? "it could not be asked to call again"
                         : "asked to call again: we may be reached otherwise now");
}

static void follow(struct remote *r)
{
    r->callback.heard_ms = clock_now_ms();
    trail_add(&r->trail, "it asks for a call: it may be reached otherwise now");
    path_peer_changed(r);
}

static void timer_fired(struct timer *t)
{
    struct callback *c = container_of(t, struct callback, timer);
    struct remote *r = container_of(c, struct remote, callback);
    if (!r->session || path_is_best(r))
        return;
    if (!is_called(r))
        follow(r);
    else if (net_server_there(&r->peerd->net))
        ask(r);
    else
        timer_set(r, SETTLE_MS);
}

void callback_init(struct remote *r)
{
    r->callback = (struct callback){.fd = -EBADF, .timer.fire = timer_fired};
}

void callback_done(struct remote *r)
{
    loop_untimer(&r->callback.timer);
    r->callback.fd = fd_close(r->callback.fd);
}

void callback_want(struct remote *r)
{
    if (is_called(r))
        timer_set(r, SETTLE_MS);
}

void callback_answered(struct session *s)
{
    struct remote *r = s ? session_user(s) : NULL;
    if (r)
        r->callback.fd = fd_close(r->callback.fd);
}

void callback_asked(struct peerd *p, struct session_stream *st)
{
    struct remote *r = remote_find(p, session_stream_peer(st));
    uint64_t now = clock_now_ms();
    if (r && r->session && r->session == session_of(st) && session_is_client(r->session)) {
        uint64_t again = r->callback.heard_ms ? r->callback.heard_ms + PAUSE_MS : 0;
        timer_set(r, again > now ? again - now : 0);
    }
    session_refuse(st, STREAM_NO_SERVICE);
}
