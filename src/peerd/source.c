/* Attaches to berthd by its control socket, hands streams to dispatch and takes the answers. */
#include "peerd/source.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/log.h"
#include "ipc/fdmsg.h"
#include "ipc/runtime.h"
#include "peerd/peerd.h"
#include "wire/appmsg.h"
#include "wire/streammsg.h"

/* Between attempts: at once after a loss, then slower. */
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 2000
/* How long berthd may take for its answer. */
#define ANSWER_S 3

static bool is_wanted(const struct source *s)
{
    return s->peerd->state.publication_count > 0;
}

static void retry_later(struct source *s)
{
    uint64_t ms = RETRY_MIN_MS << (s->tries < 6 ? s->tries : 6);
    s->tries++;
    loop_timer(&s->peerd->loop, &s->retry, ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS);
}

static void let_go(struct source *s)
{
    loop_unwatch(&s->peerd->loop, &s->watch);
    loop_unwatch(&s->peerd->loop, &s->control_watch);
    s->fd = fd_close(s->fd);
    s->control = fd_close(s->control);
    incoming_lost(s->peerd);
}

static void lost(struct source *s, const char *why)
{
    log_info("source lost why=%s", why);
    let_go(s);
    if (is_wanted(s))
        retry_later(s);
}

static int answer_take(struct source *s)
{
    uint8_t buf[STREAMMSG_MAX];
    struct streammsg m;
    int fd = -EBADF;
    size_t count = 0;
    ssize_t n = fdmsg_recv(s->fd, buf, sizeof buf, &fd, 1, &count, MSG_DONTWAIT);
    if (n == -EAGAIN)
        return -EAGAIN;
    if (count)
        (void)fd_close(fd);
    if (n <= 0 || streammsg_decode(&m, buf, (size_t)n) < 0 || m.type != STREAMMSG_ANSWER)
        return -EPIPE;
    incoming_answered(s->peerd, m.id, m.result, m.flags & STREAMMSG_PROXY);
    return 0;
}

static void source_readable(struct watch *w, uint32_t events)
{
    (void)events;
    struct source *s = container_of(w, struct source, watch);
    int r = 0;
    while (r == 0 && s->fd >= 0)
        r = answer_take(s);
    if (r == -EPIPE)
        lost(s, "dispatch went away");
}

/* berthd says nothing here: what comes is its end. */
static void control_readable(struct watch *w, uint32_t events)
{
    (void)events;
    lost(container_of(w, struct source, control_watch), "berthd went away");
}

/* The question on the control socket; the answer brings our end of the pair. */
static int ask(int control, int *ret_fd)
{
    uint8_t buf[APPMSG_MAX];
    struct appmsg reply;
    int fd = -EBADF;
    size_t count = 0;
    const struct timeval tv = {.tv_sec = ANSWER_S};
    (void)setsockopt(control, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    int n = appmsg_encode(&(struct appmsg){.type = APPMSG_SOURCE}, buf, sizeof buf);
    int r = n < 0 ? n : fdmsg_send(control, buf, (size_t)n, NULL, 0, 0);
    if (r < 0)
        return r;
    ssize_t got = fdmsg_recv(control, buf, sizeof buf, &fd, 1, &count, 0);
    CLEANUP_FD int came = count ? fd : -EBADF;
    if (got <= 0 || appmsg_decode(&reply, buf, (size_t)got) < 0)
        return -EPROTO;
    if (reply.type != APPMSG_OK || came < 0)
        return reply.type == APPMSG_ERROR ? -reply.err : -EPROTO;
    *ret_fd = fd_take(&came);
    return 0;
}

static int attach(struct source *s)
{
    CLEANUP_FD int fd = -EBADF;
    CLEANUP_FD int control = runtime_connect(RUNTIME_CONTROL);
    int r = control < 0 ? control : ask(control, &fd);
    if (r == 0)
        r = loop_watch(&s->peerd->loop, &s->watch, fd, EPOLLIN);
    if (r == 0)
        r = loop_watch(&s->peerd->loop, &s->control_watch, control, EPOLLIN | EPOLLRDHUP);
    if (r < 0) {
        loop_unwatch(&s->peerd->loop, &s->watch);
        return r;
    }
    s->fd = fd_take(&fd);
    s->control = fd_take(&control);
    s->tries = 0;
    log_info("attached to berthd");
    return 0;
}

void source_update(struct source *s)
{
    loop_untimer(&s->retry);
    if (!is_wanted(s)) {
        let_go(s);
        return;
    }
    int r = s->fd < 0 ? attach(s) : 0;
    if (r == 0)
        return;
    log_debug("not attached to berthd err=%s", strerror(-r));
    retry_later(s);
}

void source_unroute(struct source *s, const struct publication *p)
{
    (void)s;
    (void)p;
}

static void retry_fired(struct timer *t)
{
    source_update(container_of(t, struct source, retry));
}

int source_init(struct source *s, struct peerd *p)
{
    *s = (struct source){.peerd = p,
                         .fd = -EBADF,
                         .control = -EBADF,
                         .watch = {-EBADF, source_readable},
                         .control_watch = {-EBADF, control_readable},
                         .retry.fire = retry_fired};
    s->seen = calloc(INCOMING_SEEN, sizeof *s->seen);
    return s->seen ? 0 : -ENOMEM;
}

void source_done(struct source *s)
{
    loop_untimer(&s->retry);
    let_go(s);
    free(s->seen);
    s->seen = NULL;
}

bool source_ready(const struct source *s)
{
    return s->fd >= 0;
}

int source_send_consume(struct source *s, const struct incoming *in, int fd)
{
    uint8_t buf[STREAMMSG_MAX];
    CLEANUP_FD int owned = fd;
    struct streammsg m = {.type = STREAMMSG_STREAM,
                          .id = in->id,
                          .service = str_of(in->service),
                          .name = str_of(in->name)};
    memcpy(m.key, in->key.b, sizeof m.key);
    int n = streammsg_encode(&m, buf, sizeof buf);
    return n < 0 ? n : fdmsg_send(s->fd, buf, (size_t)n, &owned, 1, MSG_DONTWAIT);
}
