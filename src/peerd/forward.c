/* Accepts, and dials for each connection. A connection that the peer does not take is reset. */
#include "peerd/forward.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "peerd/dial.h"
#include "peerd/peerd.h"

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

static void accepted_consume(struct acceptor *a, int fd)
{
    struct forward *f = container_of(a, struct forward, acceptor);
    const struct dial_host host = {f->peerd, dialled};
    f->accepted++;
    struct dial *d = dial_new_consume(f->peerd, &f->target, fd, DIAL_TIMEOUT_MS, &host);
    if (d)
        dial_go(d);
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
    acceptor_init(&f->acceptor, &p->loop, accepted_consume);
    (void)snprintf(f->text, sizeof f->text, "%s", text);
    int flags = fcntl(ask->fd, F_GETFL);
    int r = getsockname(ask->fd, &f->addr.sa, &len) < 0 || flags < 0 ||
                    fcntl(ask->fd, F_SETFL, flags | O_NONBLOCK) < 0
                ? -errno
                : acceptor_open_consume(&f->acceptor, fd_take(&ask->fd));
    if (r < 0) {
        acceptor_close(&f->acceptor);
        free(f);
        return r;
    }
    f->addr.len = len;
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
    acceptor_close(&f->acceptor);
    list_remove(&f->link);
    if (f->ask)
        f->ask->forget = NULL;
    free(f);
}
