/* Accepts, and dials for each connection. A connection that the peer does not take is reset. */
#include "peerd/forward.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "peerd/dial.h"
#include "peerd/peerd.h"

#define ACCEPT_BURST 64
#define REST_MS      100

static void dialled(void *ctx, struct dial *d, int err, const char *sentence)
{
    struct peerd *p = ctx;
    (void)d;
    if (err == 0)
        return;
    log_info("forwarded connection failed reason=%s", sentence);
    list_for_each(f, &p->forwards, struct forward,
                  link) if (strcmp(f->target.service, d->target.service) == 0 &&
                            strcmp(f->target.name, d->target.name) == 0) f->failed++;
}

static void accept_again(struct timer *t)
{
    struct forward *f = container_of(t, struct forward, rest);
    if (loop_watch(&f->peerd->loop, &f->watch, f->fd, EPOLLIN) < 0)
        loop_timer(&f->peerd->loop, t, REST_MS);
}

static void accept_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct forward *f = container_of(w, struct forward, watch);
    struct peerd *p = f->peerd;
    const struct dial_host host = {p, dialled};
    for (int i = 0; i < ACCEPT_BURST; i++) {
        int fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
            loop_unwatch(&p->loop, w);
            loop_timer(&p->loop, &f->rest, REST_MS);
        }
        if (fd < 0)
            return;
        f->accepted++;
        struct dial *d = dial_new_consume(p, &f->target, fd, DIAL_TIMEOUT_MS, &host);
        if (d)
            dial_go(d);
    }
}

static void command_gone(struct ask *ask)
{
    struct forward *f = ask->user;
    f->ask = NULL;
    forward_free(f);
}

int forward_start(struct ask *ask, const struct target *t, const char *text, bool detached)
{
    struct peerd *p = ask->peerd;
    struct forward *f = calloc(1, sizeof *f);
    socklen_t len = sizeof f->addr.v6;
    if (!f)
        return -ENOMEM;
    f->peerd = p;
    f->target = *t;
    f->watch = (struct watch){-EBADF, accept_ready};
    f->rest.fire = accept_again;
    (void)snprintf(f->text, sizeof f->text, "%s", text);
    int flags = fcntl(ask->fd, F_GETFL);
    int r = getsockname(ask->fd, &f->addr.sa, &len) < 0 || flags < 0 ||
                    fcntl(ask->fd, F_SETFL, flags | O_NONBLOCK) < 0
                ? -errno
                : loop_watch(&p->loop, &f->watch, ask->fd, EPOLLIN);
    if (r < 0) {
        free(f);
        return r;
    }
    f->addr.len = len;
    f->fd = fd_take(&ask->fd);
    if (!detached) {
        f->ask = ask;
        ask->user = f;
        ask->forget = command_gone;
    }
    list_append(&p->forwards, &f->link);
    return 0;
}

void forward_free(struct forward *f)
{
    loop_unwatch(&f->peerd->loop, &f->watch);
    loop_untimer(&f->rest);
    (void)fd_close(f->fd);
    list_remove(&f->link);
    if (f->ask)
        f->ask->forget = NULL;
    free(f);
}
