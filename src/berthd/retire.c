/* A dispatch in whose place another one serves: it accepts nothing more, and ends when the
 * connections in its hands are decided. Its channel stays open until then. */
#include <signal.h>
#include <stdlib.h>

#include "base/log.h"
#include "berthd/server.h"
#include "ipc/fdmsg.h"

struct retiring {
    struct list link;
    struct server *server;
    int channel; /* owned */
    pid_t pid, keeper;
    struct watch watch;
};

static void retiring_free(struct retiring *r)
{
    loop_unwatch(&r->server->loop, &r->watch);
    (void)fd_close(r->channel);
    list_remove(&r->link);
    free(r);
}

/* RETIRED, or the end: either way it is about to exit. Older answers are passed over. */
static void retiring_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct retiring *r = container_of(w, struct retiring, watch);
    uint8_t buf[DISPATCHMSG_MAX];
    int fds[FDMSG_FDS_MAX];
    size_t fd_count = 0;
    struct dispatchmsg m;
    ssize_t n =
        fdmsg_recv(r->channel, buf, sizeof buf, fds, FDMSG_FDS_MAX, &fd_count, MSG_DONTWAIT);
    if (n == -EAGAIN)
        return;
    while (n > 0 && fd_count > 0)
        (void)fd_close(fds[--fd_count]);
    if (n > 0 && dispatchmsg_decode(&m, buf, (size_t)n) == 0 && m.type != DISPATCH_RETIRED)
        return;
    log_info("retired dispatch=%d", r->pid);
    retiring_free(r);
}

void retire_consume(struct server *s, int channel, pid_t pid, pid_t keeper)
{
    uint8_t buf[16];
    int n = dispatchmsg_encode(&(struct dispatchmsg){.type = DISPATCH_RETIRE}, buf, sizeof buf);
    struct retiring *r = calloc(1, sizeof *r);
    if (!r || n < 0 || fdmsg_send(channel, buf, (size_t)n, NULL, 0, 0) < 0) {
        free(r);
        (void)fd_close(channel);
        return;
    }
    *r = (struct retiring){.server = s, .channel = channel, .pid = pid, .keeper = keeper};
    r->watch = (struct watch){.fd = -EBADF, .ready = retiring_ready};
    list_append(&s->retiring, &r->link);
    if (loop_watch(&s->loop, &r->watch, channel, EPOLLIN) < 0)
        log_warn("channel not watched dispatch=%d", pid);
}

bool retire_has(const struct server *s, pid_t pid)
{
    list_for_each(r, &s->retiring, struct retiring,
                  link) if (r->pid == pid || r->keeper == pid) return true;
    return false;
}

size_t retire_count(const struct server *s)
{
    size_t n = 0;
    list_for_each(r, &s->retiring, struct retiring, link) n++;
    return n;
}
