/* Attaches to berthd by its control socket, hands streams to dispatch and takes the answers. */
#include "peerd/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/log.h"
#include "ipc/fdmsg.h"
#include "ipc/runtime.h"
#include "peerd/peerd.h"
#include "wire/appmsg.h"
#include "wire/streammsg.h"

/* Between attempts: at once after a loss, then slower. */
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 2000
/* How long berthd may take for its answer when a user waits for it, and when nobody does: sessions
 * stand still meanwhile. */
#define ANSWER_MS 3000
#define ATTACH_MS 200

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
    s->fd = fd_close(s->fd);
    s->unanswered = 0;
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
    s->unanswered -= s->unanswered > 0;
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

static int connect_berthd(unsigned answer_ms)
{
    const struct timeval tv = {.tv_sec = answer_ms / 1000, .tv_usec = answer_ms % 1000 * 1000};
    int fd = runtime_connect(RUNTIME_CONTROL);
    if (fd >= 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    return fd;
}

/* One question; the answer may bring a descriptor. */
static int ask(int control, const struct appmsg *m, int send_fd, int *ret_fd)
{
    uint8_t buf[APPMSG_MAX];
    struct appmsg reply;
    int fd = -EBADF;
    size_t count = 0;
    int n = appmsg_encode(m, buf, sizeof buf);
    int r = n < 0 ? n : fdmsg_send(control, buf, (size_t)n, &send_fd, send_fd >= 0, 0);
    if (r < 0)
        return r;
    ssize_t got = fdmsg_recv(control, buf, sizeof buf, &fd, 1, &count, 0);
    CLEANUP_FD int came = count ? fd : -EBADF;
    if (got <= 0 || appmsg_decode(&reply, buf, (size_t)got) < 0)
        return got == -EAGAIN ? -ETIMEDOUT : -EPROTO;
    if (reply.type == APPMSG_ERROR) {
        log_debug("berthd refuses reason=" STR_FMT, STR_ARG(reply.text));
        return reply.err > 0 ? -reply.err : -EPROTO;
    }
    if (ret_fd)
        *ret_fd = fd_take(&came);
    return 0;
}

static int attach(struct source *s)
{
    CLEANUP_FD int fd = -EBADF;
    CLEANUP_FD int control = connect_berthd(ATTACH_MS);
    int r =
        control < 0 ? control : ask(control, &(struct appmsg){.type = APPMSG_SOURCE}, -EBADF, &fd);
    if (r == 0)
        r = fd < 0 ? -EPROTO : loop_watch(&s->peerd->loop, &s->watch, fd, EPOLLIN);
    if (r < 0)
        return r;
    s->fd = fd_take(&fd);
    s->tries = 0;
    log_info("attached to berthd");
    return 0;
}

/* The section of a configuration by which berthd knows an upstream. */
static int definition_make(const struct publication *p)
{
    CLEANUP_FD int fd = memfd_create("berth-peer-route", MFD_CLOEXEC);
    char text[512];
    int n = snprintf(text, sizeof text, "[app peer-%s]\nroute = peer://%s\nto = %s\n%s", p->service,
                     p->service, p->to, p->proxy ? "send_proxy = v2\n" : "");
    if (fd < 0 || write(fd, text, (size_t)n + 1) != n + 1)
        return fd < 0 ? -errno : -EIO;
    return fd_take(&fd);
}

static int route_add(const struct publication *p)
{
    CLEANUP_FD int control = connect_berthd(ANSWER_MS);
    CLEANUP_FD int definition = control < 0 ? -EBADF : definition_make(p);
    if (control < 0 || definition < 0)
        return control < 0 ? control : definition;
    return ask(control, &(struct appmsg){.type = APPMSG_COMMAND, .name = STR("run")}, definition,
               NULL);
}

void source_unroute(const struct publication *p)
{
    char name[64];
    CLEANUP_FD int control = *p->to ? connect_berthd(ANSWER_MS) : -EBADF;
    if (control < 0)
        return;
    int n = snprintf(name, sizeof name, "peer-%s", p->service);
    const struct appmsg m = {
        .type = APPMSG_COMMAND, .name = STR("halt"), .text = {name, (size_t)n + 1}};
    int r = ask(control, &m, -EBADF, NULL);
    log_debug("route removed service=%s err=%d", p->service, -r);
}

int source_route(const struct publication *p)
{
    source_unroute(p);
    int r = *p->to ? route_add(p) : 0;
    if (r < 0)
        log_warn("no route in berthd service=%s err=%s", p->service, strerror(-r));
    return r;
}

/* A berthd that is another one than before may not have them. */
static void routes_add(const struct state *st)
{
    for (size_t i = 0; i < st->publication_count; i++) {
        const struct publication *p = &st->publications[i];
        int r = *p->to ? route_add(p) : 0;
        if (r < 0 && r != -EEXIST)
            log_warn("no route in berthd service=%s err=%s", p->service, strerror(-r));
    }
}

void source_update(struct source *s)
{
    loop_untimer(&s->retry);
    if (!is_wanted(s)) {
        let_go(s);
        return;
    }
    if (s->fd >= 0)
        return;
    int r = attach(s);
    if (r == 0) {
        routes_add(&s->peerd->state);
        return;
    }
    log_debug("not attached to berthd err=%s", strerror(-r));
    retry_later(s);
}

static void retry_fired(struct timer *t)
{
    source_update(container_of(t, struct source, retry));
}

int source_init(struct source *s, struct peerd *p)
{
    *s = (struct source){
        .peerd = p, .fd = -EBADF, .watch = {-EBADF, source_readable}, .retry.fire = retry_fired};
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

bool source_has_room(const struct source *s)
{
    return s->fd >= 0 && s->unanswered < STREAMMSG_HELD_MAX;
}

/* The message that says that our copy is closed goes behind: dispatch waits for it. */
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
    int r = n < 0 ? n : fdmsg_send(s->fd, buf, (size_t)n, &owned, 1, MSG_DONTWAIT);
    if (r < 0)
        return r;
    s->unanswered++;
    owned = fd_close(owned);
    n = streammsg_encode(&(struct streammsg){.type = STREAMMSG_CLOSED}, buf, sizeof buf);
    r = n < 0 ? n : fdmsg_send(s->fd, buf, (size_t)n, NULL, 0, MSG_DONTWAIT);
    if (r < 0)
        log_warn("dispatch not told that a socket is closed err=%s", strerror(-r));
    return 0;
}
