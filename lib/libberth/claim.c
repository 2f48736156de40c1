/* The conversation with berthd: who the program is, which routes it claims, from when on it takes
 * connections. The control socket comes from the caller; the queue goes to it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/time.h>

#include "internal.h"
#include "ipc/fdmsg.h"
#include "ipc/runtime.h"

/* A berthd that is stopped must not stop the program. */
#define ANSWER_TIMEOUT_S 5

static void name_choose(struct berth *b)
{
    const char *name = b->wanted_name[0] ? b->wanted_name : program_invocation_short_name;
    struct identity *id = &b->identity;
    (void)snprintf(id->name, sizeof id->name, "%s", *name ? name : "program");
}

/* The command line, for people: blanks between the arguments, nothing that a terminal obeys. */
static void command_read(char command[COMMAND_SIZE])
{
    CLEANUP_FD int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, command, COMMAND_SIZE - 1);
    size_t used = n > 0 ? (size_t)n : 0;
    while (used > 0 && command[used - 1] == 0)
        used--;
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)command[i] < 0x20 || command[i] == 0x7f)
            command[i] = command[i] ? '?' : ' ';
    command[used] = 0;
}

int identity_make(struct berth *b, const char *routes, bool proxy)
{
    struct identity *id = &b->identity;
    *id = (struct identity){.routes = strdup(routes), .proxy = proxy};
    if (!id->routes)
        return -ENOMEM;
    if (getrandom(id->instance, sizeof id->instance, 0) != (ssize_t)sizeof id->instance) {
        identity_done(id);
        return -EIO;
    }
    name_choose(b);
    command_read(id->command);
    return 0;
}

void identity_done(struct identity *id)
{
    free(id->routes);
    free(id->listens);
    *id = (struct identity){0};
}

int claim_connect(void)
{
    struct timeval wait = {.tv_sec = ANSWER_TIMEOUT_S};
    CLEANUP_FD int fd = runtime_connect(RUNTIME_CONTROL);
    if (fd < 0)
        return fd;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) < 0)
        return -errno;
    return fd_take(&fd);
}

/* Cuts a text at its blanks; false when there are more than max pieces. */
static bool split(const char *text, struct str *items, uint8_t max, uint8_t *ret_count)
{
    uint8_t count = 0;
    for (const char *p = text ? text + strspn(text, " ") : ""; *p; p += strspn(p, " ")) {
        size_t n = strcspn(p, " ");
        if (count == max)
            return false;
        items[count++] = (struct str){p, n};
        p += n;
    }
    *ret_count = count;
    return true;
}

static int hello_make(struct berth *b, struct appmsg *ret_hello)
{
    struct identity *id = &b->identity;
    struct appmsg m = {.type = APPMSG_APP,
                       .flags = APPMSG_NATIVE | (id->proxy ? APPMSG_PROXY : 0),
                       .name = str_of(id->name),
                       .command = str_of(id->command)};
    memcpy(m.instance, id->instance, sizeof m.instance);
    if (!split(id->routes, m.routes, APPMSG_ROUTES_MAX, &m.route_count))
        return reason_set(b, -E2BIG, "at most %d routes", APPMSG_ROUTES_MAX);
    if (!split(id->listens, m.listens, APPMSG_LISTENS_MAX, &m.listen_count))
        return reason_set(b, -E2BIG, "at most %d addresses", APPMSG_LISTENS_MAX);
    *ret_hello = m;
    return 0;
}

/* One question and its answer, which may bring a descriptor. */
struct exchange {
    int control;
    struct appmsg reply;
    int fd; /* owned */
    uint8_t bytes[APPMSG_MAX];
};

static int no_answer(struct berth *b, int err)
{
    if (err == -EAGAIN)
        err = -ETIMEDOUT;
    return reason_set(b, err, "no answer from berthd: %s", strerror(-err));
}

static int ask(struct berth *b, struct exchange *x, const struct appmsg *m)
{
    size_t count = 0;
    int n = appmsg_encode(m, x->bytes, sizeof x->bytes);
    if (n < 0)
        return reason_set(b, n, "the routes are too long");
    int r = fdmsg_send(x->control, x->bytes, (size_t)n, NULL, 0, 0);
    if (r < 0)
        return no_answer(b, r);
    x->fd = fd_close(x->fd);
    ssize_t got = fdmsg_recv(x->control, x->bytes, sizeof x->bytes, &x->fd, 1, &count, 0);
    if (got <= 0)
        return no_answer(b, got == 0 ? -ECONNRESET : (int)got);
    if (appmsg_decode(&x->reply, x->bytes, (size_t)got) < 0)
        return no_answer(b, -EPROTO);
    if (x->reply.type != APPMSG_ERROR)
        return 0;
    int err = x->reply.err;
    return reason_set(b, err > 0 && err < 4096 ? -err : -EPROTO, STR_FMT, STR_ARG(x->reply.text));
}

static int converse(struct berth *b, struct exchange *x, const struct appmsg *hello)
{
    char notice[REASON_SIZE];
    struct appmsg bind = {.type = APPMSG_BIND,
                          .flags = APPMSG_NATIVE | APPMSG_RICH | APPMSG_REUSEPORT};
    int r = ask(b, x, hello);
    if (r == 0)
        r = ask(b, x, &bind);
    if (r < 0)
        return r;
    CLEANUP_FD int queue = fd_take(&x->fd);
    if (x->reply.type != APPMSG_BOUND || queue < 0)
        return no_answer(b, -EPROTO);
    (void)snprintf(notice, sizeof notice, STR_FMT, STR_ARG(x->reply.text));
    r = ask(b, x, &(struct appmsg){.type = APPMSG_LISTEN, .queue = x->reply.queue});
    if (r < 0)
        return r;
    (void)reason_set(b, 0, "%s", notice);
    return fd_take(&queue);
}

int claim_make(struct berth *b, int control, int *ret_queue)
{
    struct appmsg hello;
    int r = hello_make(b, &hello);
    struct exchange *x = r < 0 ? NULL : calloc(1, sizeof *x);
    if (!x)
        return r < 0 ? r : reason_set(b, -ENOMEM, "no memory");
    x->control = control;
    x->fd = -EBADF;
    int queue = converse(b, x, &hello);
    (void)fd_close(x->fd);
    free(x);
    if (queue < 0)
        return queue;
    *ret_queue = queue;
    return 0;
}
