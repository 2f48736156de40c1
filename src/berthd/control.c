/* The control socket: programs and the command line ask, one packet a question. A client is known
 * by SO_PEERCRED; who is neither this berthd's user nor root, nor shows an application's secret,
 * gets nothing but the refusal. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rd.h"
#include "base/wr.h"
#include "berthd/command.h"
#include "berthd/handover.h"
#include "berthd/pool.h"
#include "berthd/quota.h"
#include "berthd/recover.h"
#include "ipc/fdmsg.h"
#include "ipc/runtime.h"
#include "why/why.h"

#define CLIENTS_MAX 256
/* units/berthd.service knows it. */
#define EXIT_STOPPED 10
#define TEXT_PIECE   8192
/* Log lines about clients: whoever may connect must not fill the disk. */
#define REFUSALS_PER_SEC 5

struct client {
    struct list link;
    struct server *server;
    int fd; /* owned */
    struct watch watch;
    struct ucred cred;
    struct app *app;                   /* for whom it speaks; counted in app->users */
    uint8_t instance[APPMSG_INSTANCE]; /* by which secret */
    uint32_t awaited;                  /* the COMMIT that its answer waits for; 0: none */
    bool later;                        /* its answer comes by control_answer_consume() */
    bool lost;                         /* it does not read: freed at its next event, which is due */
    char *text; /* owned; what it has not taken yet of a long answer; NULL: nothing */
    char *held; /* owned; the answer, until what was asked for is done */
    size_t text_at;
    int answer_fd; /* owned; goes with the OK at its end */
};

static void client_free(struct client *c)
{
    struct app *a = c->app;
    upgrade_forget(c->server, c);
    loop_unwatch(&c->server->loop, &c->watch);
    (void)fd_close(c->fd);
    (void)fd_close(c->answer_fd);
    list_remove(&c->link);
    c->server->client_count--;
    free(c->text);
    free(c->held);
    free(c);
    if (a) {
        a->users--;
        app_free_if_idle(a);
    }
}

static int reply_try(struct client *c, const struct appmsg *m, const int *fds, size_t fd_count)
{
    uint8_t buf[APPMSG_MAX];
    int n = appmsg_encode(m, buf, sizeof buf);
    return n < 0 ? n : fdmsg_send(c->fd, buf, (size_t)n, fds, fd_count, MSG_DONTWAIT);
}

/* Nobody waits for a client that does not read its answers: it is given up. */
static void reply(struct client *c, const struct appmsg *m, const int *fds, size_t fd_count)
{
    int r = c->lost ? 0 : reply_try(c, m, fds, fd_count);
    if (r >= 0)
        return;
    log_debug("answer lost pid=%d err=%d", c->cred.pid, -r);
    c->lost = true;
    (void)shutdown(c->fd, SHUT_RDWR);
}

static void reply_ok(struct client *c)
{
    reply(c, &(struct appmsg){.type = APPMSG_OK}, &c->answer_fd, c->answer_fd >= 0);
    c->answer_fd = fd_close(c->answer_fd);
}

static void reply_error(struct client *c, int err, const char *text)
{
    if (*text == 0)
        text = strerror(-err);
    reply(c, &(struct appmsg){.type = APPMSG_ERROR, .err = -err, .text = str_of(text)}, NULL, 0);
}

static void client_watch(struct client *c, uint32_t events)
{
    loop_unwatch(&c->server->loop, &c->watch);
    if (loop_watch(&c->server->loop, &c->watch, c->fd, events) < 0)
        log_warn("client not watched pid=%d", c->cred.pid);
}

/* Sends as many pieces as there is room for; the rest goes when the client has read them, and only
 * then its next request is looked at. */
static void text_continue(struct client *c)
{
    for (size_t n; (n = strnlen(c->text + c->text_at, TEXT_PIECE)) > 0;) {
        struct str piece = {c->text + c->text_at, n};
        int r = reply_try(c, &(struct appmsg){.type = APPMSG_TEXT, .text = piece}, NULL, 0);
        if (r == -EAGAIN)
            return;
        if (r < 0)
            break;
        c->text_at += piece.n;
    }
    free(c->text);
    c->text = NULL;
    c->text_at = 0;
    reply_ok(c);
    client_watch(c, EPOLLIN);
}

static void reply_text_consume(struct client *c, char *text)
{
    if (!text) {
        reply_ok(c);
        return;
    }
    c->text = text;
    client_watch(c, EPOLLOUT);
    text_continue(c);
}

static void reply_when_committed(struct client *c)
{
    c->awaited = dispatch_commit(c->server);
    control_committed(c->server);
}

static bool may(const struct client *c, enum right right)
{
    bool user = c->cred.uid == c->server->uid || c->cred.uid == 0;
    return right == RIGHT_ANY || (right == RIGHT_USER && (user || c->app)) ||
           ((right == RIGHT_LOCAL || right == RIGHT_THEIRS) &&
            (user || c->app || c->server->uid == 0)) ||
           (right == RIGHT_APP && c->app) || (right == RIGHT_OWNER && user);
}

static void log_refusal(struct server *s, const struct client *c, const char *reason)
{
    uint64_t second = clock_now_ms() / 1000;
    if (second != s->refusal_second)
        s->refusal_count = 0;
    s->refusal_second = second;
    if (++s->refusal_count <= REFUSALS_PER_SEC)
        log_warn("refused reason=%s pid=%d uid=%u", reason, c->cred.pid, c->cred.uid);
}

static void handle_app(struct client *c, const struct appmsg *m)
{
    char reason[REASON_MAX] = "";
    int err = 0;
    if (c->app) {
        reply_error(c, -EEXIST, "one application a connection");
        return;
    }
    size_t count = 0;
    list_for_each(a, &c->server->apps, struct app, link) count++;
    struct app *a = count < APPS_MAX ? app_get(c->server, m, &c->cred, reason, &err) : NULL;
    if (!a) {
        reply_error(c, err ? err : -ENOSPC, reason);
        return;
    }
    if (list_empty(&a->binds))
        app_watch_pid(a, c->cred.pid);
    c->app = a;
    memcpy(c->instance, m->instance, sizeof c->instance);
    a->users++;
    reply_ok(c);
}

static bool address_makes_sense(const struct appmsg *m)
{
    if (m->flags & APPMSG_NATIVE)
        return m->addr.sa.sa_family == AF_UNSPEC;
    return (m->addr.sa.sa_family == AF_INET || m->addr.sa.sa_family == AF_INET6) &&
           addr_port(&m->addr) != 0;
}

static void handle_bind(struct client *c, const struct appmsg *m)
{
    char reason[REASON_MAX] = "";
    struct bind *b = NULL;
    if (!address_makes_sense(m)) {
        reply_error(c, -EINVAL, "");
        return;
    }
    struct worker *w = worker_find(c->server, c->instance);
    int r = w              ? pool_bind(w, m, c->cred.pid, &b, reason)
            : c->app->pool ? -ESTALE
                           : bind_get(c->app, m, c->cred.pid, &b, reason);
    if (r < 0) {
        if (r != -ENOENT)
            log_info("refused reason=Bind app=%s err=%s", c->app->name, strerror(-r));
        reply_error(c, r, reason);
        (void)dispatch_commit(c->server);
        return;
    }
    claims_notice(b, reason);
    struct appmsg bound = {.type = APPMSG_BOUND, .queue = b->id, .text = str_of(reason)};
    reply(c, &bound, &b->read_fd, 1);
}

static struct bind *own_bind(struct client *c, const struct appmsg *m)
{
    struct bind *b = bind_find(c->server, m->queue);
    if (b && b->app == c->app)
        return b;
    reply_error(c, -EPERM, "this queue is not the application's");
    return NULL;
}

static void handle_listen(struct client *c, const struct appmsg *m)
{
    char reason[REASON_MAX] = "";
    struct bind *b = own_bind(c, m);
    if (!b)
        return;
    bind_read_messages(b);
    int r = bind_listen(b, reason);
    if (r < 0)
        reply_error(c, r, reason);
    else
        reply_when_committed(c);
}

static void handle_unlisten(struct client *c, const struct appmsg *m)
{
    struct bind *b = own_bind(c, m);
    if (!b)
        return;
    bind_unlisten(b);
    reply_when_committed(c);
}

static void handle_command(struct client *c, const struct appmsg *m, int *fd)
{
    struct command_ask ask = {.client = c, .cred = &c->cred, .fd = fd};
    struct command_answer answer = {.fd = -EBADF};
    enum right right;
    int r = command_parse(m, &ask, &right);
    if (r == 0 && !may(c, right)) {
        r = -EPERM;
        (void)snprintf(answer.reason, sizeof answer.reason, "this berthd belongs to user %u",
                       c->server->uid);
        log_refusal(c->server, c, "WrongUser");
    }
    if (r == 0)
        r = command_run(c->server, &ask, &answer);
    if (r < 0) {
        free(answer.text);
        (void)fd_close(answer.fd);
        reply_error(c, r, answer.reason);
        return;
    }
    c->later = r == COMMAND_LATER;
    c->answer_fd = answer.fd;
    if (c->later)
        return;
    /* Whoever has been told that it is done finds it done. */
    c->held = answer.text;
    reply_when_committed(c);
}

void control_answer_consume(struct client *c, int err, char *text)
{
    if (c && err == 0) {
        c->later = false;
        reply_text_consume(c, text);
        return;
    }
    if (c) {
        c->later = false;
        reply_error(c, err, text ? text : "");
    }
    free(text);
}

static void handle_why(struct client *c, const struct appmsg *m)
{
    char text[REASON_MAX] = "";
    size_t n = why_bind_failed(&m->addr, m->err, text, sizeof text);
    reply(c, &(struct appmsg){.type = APPMSG_TEXT, .text = {text, n}}, NULL, 0);
}

static void handle_stop(struct client *c, const struct appmsg *m)
{
    (void)m;
    log_info("stopping asked-by=%d", c->cred.pid);
    /* A service manager starts others again, but not one that was told to end. */
    if (c->server->systemd.fd >= 0)
        c->server->exit_status = EXIT_STOPPED;
    reply_ok(c);
    config_place_forget();
    pools_end(c->server);
}

/* What comes on it is dispatch's affair, and goes on when this berthd dies. */
static void handle_source(struct client *c, const struct appmsg *m)
{
    (void)m;
    int pair[2];
    if (c->server->channel < 0) {
        reply_error(c, -EAGAIN, "berth-dispatch is being started: ask again");
        return;
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        reply_error(c, -errno, "");
        return;
    }
    dispatch_tell(c->server, &(struct dispatchmsg){.type = DISPATCH_SOURCE}, &pair[0], 1);
    reply(c, &(struct appmsg){.type = APPMSG_OK}, &pair[1], 1);
    (void)fd_close(pair[0]);
    (void)fd_close(pair[1]);
    log_info("source given pid=%d", c->cred.pid);
}

/* Who may ask what: the one table of rights. */
static const struct {
    void (*handle)(struct client *c, const struct appmsg *m);
    enum right right;
    const char *name;
} requests[APPMSG_TYPE_COUNT] = {
    [APPMSG_APP] = {handle_app, RIGHT_ANY, "APP"},
    [APPMSG_BIND] = {handle_bind, RIGHT_APP, "BIND"},
    [APPMSG_LISTEN] = {handle_listen, RIGHT_APP, "LISTEN"},
    [APPMSG_UNLISTEN] = {handle_unlisten, RIGHT_APP, "UNLISTEN"},
    [APPMSG_WHY] = {handle_why, RIGHT_USER, "WHY"},
    [APPMSG_SOURCE] = {handle_source, RIGHT_OWNER, "SOURCE"},
    [APPMSG_STOP] = {handle_stop, RIGHT_OWNER, "STOP"},
};

json_t *control_rights_json(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i < APPMSG_TYPE_COUNT; i++)
        if (requests[i].handle)
            (void)json_array_append_new(list, json_pack("{s:s, s:s}", "request", requests[i].name,
                                                        "who", right_name(requests[i].right)));
    return list;
}

static void handle(struct client *c, const struct appmsg *m, int *fd)
{
    char text[80];
    if (m->type == APPMSG_COMMAND) {
        handle_command(c, m, fd);
    } else if (!requests[m->type].handle) {
        reply_error(c, -EBADMSG, "no such request");
    } else if (!may(c, requests[m->type].right)) {
        (void)snprintf(text, sizeof text, "this berthd belongs to user %u", c->server->uid);
        log_refusal(c->server, c, "WrongUser");
        reply_error(c, -EPERM, text);
    } else {
        requests[m->type].handle(c, m);
    }
}

static void client_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct client *c = container_of(w, struct client, watch);
    uint8_t buf[APPMSG_MAX];
    size_t fd_count = 0;
    struct appmsg m;
    if (c->lost) {
        client_free(c);
        return;
    }
    if (c->text) {
        text_continue(c);
        return;
    }
    int came = -EBADF;
    ssize_t n = fdmsg_recv(c->fd, buf, sizeof buf, &came, 1, &fd_count, MSG_DONTWAIT);
    CLEANUP_FD int fd = n > 0 && fd_count == 1 ? came : -EBADF;
    if (n == -EAGAIN)
        return;
    if (n <= 0 || appmsg_decode(&m, buf, (size_t)n) < 0) {
        if (n != 0)
            log_refusal(c->server, c, "BadMessage");
        client_free(c);
        return;
    }
    handle(c, &m, &fd);
}

void control_committed(struct server *s)
{
    list_for_each(c, &s->clients, struct client,
                  link) if (c->awaited && (int32_t)(s->committed - c->awaited) >= 0)
    {
        char *text = c->held;
        c->awaited = 0;
        c->held = NULL;
        reply_text_consume(c, text);
    }
}

/* One local user's connections do not push out those of others. */
static void client_make_room(struct server *s, uid_t uid)
{
    size_t n = 0;
    struct client *oldest = NULL;
    list_for_each(c, &s->clients, struct client, link)
    {
        if (c->cred.uid != uid)
            continue;
        n++;
        oldest = oldest || c->awaited ? oldest : c;
    }
    if (uid == 0 || uid == s->uid || n < USER_CLIENTS_MAX || !oldest)
        return;
    log_refusal(s, oldest, "Limit");
    client_free(oldest);
}

static struct client *client_new_consume(struct server *s, int fd)
{
    struct client *c = calloc(1, sizeof *c);
    socklen_t len = sizeof c->cred;
    if (!c || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->cred, &len) < 0) {
        free(c);
        (void)fd_close(fd);
        return NULL;
    }
    c->server = s;
    c->fd = fd;
    c->watch.fd = c->answer_fd = -EBADF;
    c->watch.ready = client_ready;
    client_make_room(s, c->cred.uid);
    list_append(&s->clients, &c->link);
    s->client_count++;
    if (loop_watch(&s->loop, &c->watch, fd, EPOLLIN) == 0)
        return c;
    client_free(c);
    return NULL;
}

/* What a client waits for goes with it: its application, an answer, the rest of a long one. */
bool control_save(struct server *s, struct client **at, struct wr *w)
{
    struct list *next = *at ? (*at)->link.next : s->clients.next;
    if (next == &s->clients)
        return false;
    struct client *c = *at = container_of(next, struct client, link);
    const char *rest = c->text ? c->text + c->text_at : "";
    handover_put_fd(w, c->fd);
    handover_put_fd(w, c->answer_fd);
    wr_u8(w, c->awaited != 0);
    wr_u8(w, c->later);
    wr_u8(w, c->text != NULL);
    wr_u8(w, c->app != NULL);
    if (c->app)
        recover_app_save(w, c->app, c->instance);
    wr_bytes(w, rest, strlen(rest));
    return true;
}

int control_restore(struct server *s, struct rd *r, struct client **ret_asker)
{
    int fd = (int)rd_u32(r), answer_fd = (int)rd_u32(r);
    bool awaited = rd_u8(r), later = rd_u8(r), text = rd_u8(r), app = rd_u8(r);
    *ret_asker = NULL;
    struct client *c = rd_ok(r) ? client_new_consume(s, fd) : NULL;
    if (!c)
        return -EBADMSG;
    c->answer_fd = answer_fd;
    c->later = later;
    c->app = app ? recover_app_restore(s, r, c->instance) : NULL;
    if (c->app)
        c->app->users++;
    struct str rest = rd_bytes(r, r->left);
    if (text)
        reply_text_consume(c, strndup(rest.p, rest.n));
    /* What it waited for is part of the first COMMIT. */
    c->awaited = awaited ? s->serial + 1 : 0;
    if (later)
        *ret_asker = c;
    return 0;
}

static struct client *client_oldest(struct server *s, bool stranger)
{
    list_for_each(c, &s->clients, struct client,
                  link) if (!c->awaited && !c->later && may(c, RIGHT_USER) != stranger) return c;
    return NULL;
}

/* Nobody can keep others out by holding connections: the oldest that waits for nothing gives way,
 * strangers first. */
static bool client_evict(struct server *s)
{
    struct client *c = client_oldest(s, true);
    if (!c)
        c = client_oldest(s, false);
    if (!c)
        return false;
    log_refusal(s, c, "Limit");
    client_free(c);
    return true;
}

static bool control_make_room(struct acceptor *a)
{
    return client_evict(container_of(a, struct server, control));
}

static void control_accepted_consume(struct acceptor *a, int fd)
{
    struct server *s = container_of(a, struct server, control);
    if (s->client_count >= CLIENTS_MAX)
        (void)client_evict(s);
    (void)client_new_consume(s, fd);
}

int control_adopt_consume(struct server *s, int fd)
{
    acceptor_init(&s->control, &s->loop, control_accepted_consume);
    s->control.make_room = control_make_room;
    return acceptor_open_consume(&s->control, fd);
}

int control_start(struct server *s)
{
    s->control_is_given = s->systemd.control >= 0;
    if (s->control_is_given)
        return control_adopt_consume(s, fd_take(&s->systemd.control));
    /* Programs that gave up root before they bind still come with their application's secret. */
    int fd = runtime_listen(RUNTIME_CONTROL, s->uid == 0 ? 0666 : 0600);
    return fd < 0 ? fd : control_adopt_consume(s, fd);
}

/* A socket that is left behind says that berthd died: this one ends on purpose. */
void control_stop(struct server *s)
{
    char path[RUNTIME_PATH_MAX];
    if (!s->control_is_given && runtime_path(RUNTIME_CONTROL, path) == 0)
        (void)unlink(path);
    list_for_each(c, &s->clients, struct client, link) client_free(c);
    acceptor_close(&s->control);
}
