/* Accepts clients, checks who they are, and gives each question to the table of verbs. A client
 * has one question at a time; what it asks meanwhile waits in its socket. Answers that it does not
 * take at once wait here, in one piece. */
#include "peerd/control.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "ipc/fdmsg.h"
#include "ipc/runtime.h"
#include "peerd/peerd.h"

#define CLIENTS_MAX 256
#define TEXT_PIECE  8192

struct control_client {
    struct list link;
    struct control *control;
    int fd; /* owned */
    struct watch watch;
    struct ask *ask; /* owned; NULL: it asks nothing now */
    char *text;      /* owned; what it has not taken yet of a long answer */
    size_t text_at;
};

static void ask_free(struct ask *ask)
{
    if (!ask)
        return;
    (void)fd_close(ask->fd);
    free(ask);
}

static void client_free(struct control_client *c)
{
    struct control *control = c->control;
    if (c->ask && c->ask->forget)
        c->ask->forget(c->ask);
    ask_free(c->ask);
    loop_unwatch(&control->peerd->loop, &c->watch);
    (void)fd_close(c->fd);
    list_remove(&c->link);
    control->client_count--;
    free(c->text);
    free(c);
    peerd_idle_check(control->peerd);
}

static int send_try(struct control_client *c, const struct appmsg *m)
{
    uint8_t buf[APPMSG_MAX];
    int n = appmsg_encode(m, buf, sizeof buf);
    return n < 0 ? n : fdmsg_send(c->fd, buf, (size_t)n, NULL, 0, MSG_DONTWAIT);
}

/* Nobody waits for a client that does not read: its end is noticed as an event. */
static void send_or_end(struct control_client *c, const struct appmsg *m)
{
    if (send_try(c, m) < 0)
        (void)shutdown(c->fd, SHUT_RDWR);
}

static void events_set(struct control_client *c, uint32_t events)
{
    struct loop *loop = &c->control->peerd->loop;
    loop_unwatch(loop, &c->watch);
    if (loop_watch(loop, &c->watch, c->fd, events) < 0)
        log_warn("client not watched");
}

static void question_end(struct control_client *c)
{
    ask_free(c->ask);
    c->ask = NULL;
    events_set(c, EPOLLIN);
}

static void text_continue(struct control_client *c)
{
    for (size_t n; (n = strnlen(c->text + c->text_at, TEXT_PIECE)) > 0;) {
        struct str piece = {c->text + c->text_at, n};
        int r = send_try(c, &(struct appmsg){.type = APPMSG_TEXT, .text = piece});
        if (r == -EAGAIN)
            return;
        if (r < 0)
            break;
        c->text_at += n;
    }
    free(c->text);
    c->text = NULL;
    send_or_end(c, &(struct appmsg){.type = APPMSG_OK});
    question_end(c);
}

void ask_done_consume(struct ask *ask, char *text)
{
    struct control_client *c = ask->client;
    ask->forget = NULL;
    if (!text) {
        send_or_end(c, &(struct appmsg){.type = APPMSG_OK});
        question_end(c);
        return;
    }
    c->text = text;
    c->text_at = 0;
    events_set(c, EPOLLOUT);
    text_continue(c);
}

void ask_fail(struct ask *ask, int err, const char *format, ...)
{
    char text[TEXT_PIECE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ask->forget = NULL;
    send_or_end(ask->client,
                &(struct appmsg){.type = APPMSG_ERROR, .err = -err, .text = str_of(text)});
    question_end(ask->client);
}

void ask_say(struct ask *ask, const char *text)
{
    (void)send_try(ask->client, &(struct appmsg){.type = APPMSG_TEXT, .text = str_of(text)});
}

/* The arguments are copied: the question may live longer than the message. */
static struct ask *ask_new(struct control_client *c, const struct appmsg *m, int *fd)
{
    struct ask *ask = calloc(1, sizeof *ask + m->text.n + 1);
    if (!ask)
        return NULL;
    ask->peerd = c->control->peerd;
    ask->client = c;
    ask->fd = fd_take(fd);
    memcpy(ask->bytes, m->text.p, m->text.n);
    for (struct str rest = {ask->bytes, m->text.n}; rest.n > 0;) {
        size_t n = strnlen(rest.p, rest.n);
        if (n == rest.n || ask->arg_count == ASK_ARGS_MAX) {
            ask_free(ask);
            return NULL;
        }
        ask->args[ask->arg_count++] = rest.p;
        rest = str_skip(rest, n + 1);
    }
    return ask;
}

static int question_take(struct control_client *c, const uint8_t *bytes, size_t n, int *fd)
{
    struct appmsg m;
    if (appmsg_decode(&m, bytes, n) < 0 || m.type != APPMSG_COMMAND)
        return -EBADMSG;
    c->ask = ask_new(c, &m, fd);
    if (!c->ask)
        return -EBADMSG;
    /* While it waits only its end is of interest. */
    events_set(c, EPOLLRDHUP);
    if (command_run(c->ask, m.name) == -ENOENT)
        ask_fail(c->ask, -EOPNOTSUPP, "this berth-peer knows no '" STR_FMT "': is it an older one?",
                 STR_ARG(m.name));
    return 0;
}

static void client_ready(struct watch *w, uint32_t events)
{
    struct control_client *c = container_of(w, struct control_client, watch);
    uint8_t buf[APPMSG_MAX];
    int came = -EBADF;
    size_t count = 0;
    if (c->text && events & EPOLLOUT) {
        text_continue(c);
        return;
    }
    if (c->ask || !(events & EPOLLIN)) {
        client_free(c);
        return;
    }
    ssize_t n = fdmsg_recv(c->fd, buf, sizeof buf, &came, 1, &count, MSG_DONTWAIT);
    if (n == -EAGAIN)
        return;
    CLEANUP_FD int fd = count ? came : -EBADF;
    if (n <= 0 || question_take(c, buf, (size_t)n, &fd) < 0)
        client_free(c);
}

static bool is_welcome(int fd)
{
    struct ucred cred;
    socklen_t len = sizeof cred;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
           (cred.uid == geteuid() || cred.uid == 0);
}

static void client_ask_for(struct control *control, int *fd)
{
    struct control_client *c = calloc(1, sizeof *c);
    if (!c)
        return;
    c->control = control;
    c->watch.ready = client_ready;
    c->watch.fd = -EBADF;
    if (loop_watch(&control->peerd->loop, &c->watch, *fd, EPOLLIN) < 0) {
        free(c);
        return;
    }
    c->fd = fd_take(fd);
    list_append(&control->clients, &c->link);
    control->client_count++;
}

static void accepted_consume(struct acceptor *a, int accepted)
{
    struct control *control = container_of(a, struct control, acceptor);
    CLEANUP_FD int fd = accepted;
    if (is_welcome(fd) && control->client_count < CLIENTS_MAX)
        client_ask_for(control, &fd);
}

int control_start(struct control *c, struct peerd *p)
{
    c->peerd = p;
    list_init(&c->clients);
    acceptor_init(&c->acceptor, &p->loop, accepted_consume);
    int fd = runtime_listen(RUNTIME_PEER, 0600);
    return fd < 0 ? fd : acceptor_open_consume(&c->acceptor, fd);
}

void control_stop(struct control *c)
{
    char path[RUNTIME_PATH_MAX];
    if (c->acceptor.fd < 0)
        return;
    list_for_each(client, &c->clients, struct control_client, link) client_free(client);
    acceptor_close(&c->acceptor);
    if (runtime_path(RUNTIME_PEER, path) == 0)
        (void)unlink(path);
}

bool control_busy(const struct control *c)
{
    return c->client_count > 0;
}
