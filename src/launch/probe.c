/* A health probe: a state machine over one socket. The loop's events and a time limit come in, one
 * answer goes out. It owns its socket until then. */
#include "launch/probe.h"

#include <stdarg.h>
#include <stdio.h>

/* How long to wait for the end of an answer that has begun well. */
#define ENDING_MS 1000

/* Nothing of the answer matters any more: the timer says it, from the loop. */
static enum probe_state judge(struct probe *p, bool healthy)
{
    p->healthy = healthy;
    loop_unwatch(p->loop, &p->watch);
    p->fd = fd_close(p->fd);
    loop_timer(p->loop, &p->timer, 0);
    return PROBE_JUDGED;
}

__attribute__((format(printf, 2, 3))) static void say(struct probe *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t used = strlen(p->sentence);
    (void)vsnprintf(p->sentence + used, sizeof p->sentence - used, format, args);
    va_end(args);
}

static enum probe_state fail(struct probe *p, const char *what)
{
    say(p, "%s", what);
    return judge(p, false);
}

static void watch_for(struct probe *p, uint32_t events)
{
    loop_unwatch(p->loop, &p->watch);
    if (loop_watch(p->loop, &p->watch, p->fd, events) < 0)
        p->state = fail(p, "it cannot be watched");
}

static enum probe_state connecting(struct probe *p)
{
    int err = 0;
    socklen_t len = sizeof err;
    if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
        err = errno;
    if (err != 0)
        return fail(p, strerror(err));
    if (p->request_n > 0)
        return PROBE_ASKING;
    say(p, "connected");
    return judge(p, true);
}

static enum probe_state asking(struct probe *p)
{
    ssize_t n =
        send(p->fd, p->request + p->sent, p->request_n - p->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? PROBE_ASKING : fail(p, strerror(errno));
    p->sent += (size_t)n;
    return p->sent == p->request_n ? PROBE_READING : PROBE_ASKING;
}

/* "HTTP/1.1 200" and what follows. -EAGAIN while it may still become that. */
static int status_of(const struct probe *p)
{
    static const char shape[] = "HTTP/1.# ###";
    for (size_t i = 0; i < sizeof shape - 1; i++) {
        if (i == p->line_n)
            return -EAGAIN;
        if (shape[i] == '#' ? !ascii_is_digit(p->line[i]) : p->line[i] != shape[i])
            return -EBADMSG;
    }
    const char *digits = p->line + sizeof shape - 4;
    return (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
}

static enum probe_state answer_judge(struct probe *p)
{
    int status = status_of(p);
    if (status == -EAGAIN)
        return PROBE_READING;
    if (status < 0)
        return fail(p, "the answer is not HTTP");
    say(p, "answered %d", status);
    if (status < 200 || status > 399)
        return judge(p, false);
    loop_timer(p->loop, &p->timer, ENDING_MS);
    return PROBE_ENDING;
}

static enum probe_state reading(struct probe *p)
{
    ssize_t n = recv(p->fd, p->line + p->line_n, sizeof p->line - p->line_n, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? PROBE_READING : fail(p, strerror(errno));
    if (n == 0)
        return fail(p, "the connection was closed without an answer");
    p->line_n += (size_t)n;
    return answer_judge(p);
}

static enum probe_state ending(struct probe *p)
{
    char rest[8192];
    ssize_t n = recv(p->fd, rest, sizeof rest, MSG_DONTWAIT);
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return PROBE_ENDING;
    return judge(p, true);
}

static enum probe_state step(struct probe *p)
{
    switch (p->state) {
    case PROBE_CONNECTING:
        return connecting(p);
    case PROBE_ASKING:
        return asking(p);
    case PROBE_READING:
        return reading(p);
    case PROBE_ENDING:
        return ending(p);
    default:
        return p->state;
    }
}

/* Until a state waits for more. */
static void run(struct probe *p)
{
    enum probe_state before, first = p->state;
    do {
        before = p->state;
        p->state = step(p);
    } while (p->state != before);
    if (first < PROBE_READING && (p->state == PROBE_READING || p->state == PROBE_ENDING))
        watch_for(p, EPOLLIN);
}

static void ready(struct watch *w, uint32_t events)
{
    (void)events;
    run(container_of(w, struct probe, watch));
}

static void finish(struct probe *p)
{
    char sentence[PROBE_SENTENCE_MAX];
    memcpy(sentence, p->sentence, sizeof sentence);
    p->state = PROBE_IDLE;
    p->done(p, p->healthy, sentence);
}

static void fire(struct timer *t)
{
    struct probe *p = container_of(t, struct probe, timer);
    if (p->state == PROBE_JUDGED) {
        finish(p);
        return;
    }
    bool answered = p->state == PROBE_ENDING;
    if (!answered)
        say(p, "no answer within %u.%u s", p->limit_ms / 1000, p->limit_ms % 1000 / 100);
    (void)judge(p, answered);
    loop_untimer(&p->timer);
    finish(p);
}

/* Neither may carry a line of its own into the request. */
static bool is_plain(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text <= ' ' || *text == 0x7f)
            return false;
    return true;
}

static int prepare(struct probe *p, struct loop *l, const struct probe_ask *ask)
{
    const char *host = ask->host ? ask->host : "localhost";
    int n = 0;
    *p = (struct probe){.loop = l,
                        .watch = {.fd = -EBADF, .ready = ready},
                        .timer = {.fire = fire},
                        .fd = -EBADF,
                        .done = ask->done,
                        .limit_ms = ask->limit_ms};
    if (!ask->path)
        return 0;
    if (ask->path[0] != '/' || !is_plain(ask->path) || !is_plain(host))
        return -EINVAL;
    n = snprintf(p->request, sizeof p->request,
                 "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: berth\r\nAccept: */*\r\n"
                 "Connection: close\r\n\r\n",
                 ask->path, host);
    if ((size_t)n >= sizeof p->request)
        return -EINVAL;
    p->request_n = (size_t)n;
    say(p, "GET %.120s: ", ask->path);
    return 0;
}

static void begin(struct probe *p, enum probe_state state)
{
    p->state = state;
    loop_timer(p->loop, &p->timer, p->limit_ms);
    watch_for(p, EPOLLOUT);
}

int probe_start(struct probe *p, struct loop *l, const struct addr *at, const struct probe_ask *ask)
{
    char text[ADDR_TEXT_MAX];
    int err = prepare(p, l, ask);
    if (err < 0)
        return err;
    if (p->request_n == 0)
        say(p, "%s: ", addr_format(at, text));
    p->fd = socket(at->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (p->fd < 0)
        return -errno;
    if (connect(p->fd, &at->sa, at->len) == 0 || errno == EINPROGRESS)
        begin(p, PROBE_CONNECTING);
    else if (errno == EAGAIN)
        p->state = fail(p, "its queue of connections is full");
    else
        p->state = fail(p, strerror(errno));
    return 0;
}

int probe_start_consume(struct probe *p, struct loop *l, int fd, const struct probe_ask *ask)
{
    CLEANUP_FD int owned = fd;
    int err = ask->path ? prepare(p, l, ask) : -EINVAL;
    if (err < 0)
        return err;
    p->fd = fd_take(&owned);
    begin(p, PROBE_ASKING);
    return 0;
}

void probe_stop(struct probe *p)
{
    if (p->state == PROBE_IDLE)
        return;
    loop_unwatch(p->loop, &p->watch);
    loop_untimer(&p->timer);
    p->fd = fd_close(p->fd);
    p->state = PROBE_IDLE;
}
