/* The same messages over TCP, each behind a 16-bit length, for networks that let no UDP through. A
 * connection is one struct with room for one message in and a few out; who sends no whole message,
 * or takes no answers, is closed. Connections are this thread's alone. */
#include <netinet/tcp.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/rd.h"
#include "base/wr.h"
#include "rendezvousd/worker.h"

#define PREFIX 2
/* From the connection's beginning to the first whole message. */
#define FIRST_MS 10000
/* A peer that is registered over TCP refreshes long before. */
#define IDLE_MS 150000
#define OUT_MAX (4 * (PREFIX + RDVMSG_MAX))
#define ACCEPTS 64

struct connection {
    struct list link;
    struct watch watch;
    struct tcp *tcp;
    uint64_t id;
    struct addr from;
    uint64_t seen_ms;
    bool spoke;
    size_t in_used, out_used;
    uint8_t in[PREFIX + RDVMSG_MAX], out[OUT_MAX];
};

static void connection_close(struct connection *c)
{
    int fd = c->watch.fd;
    loop_unwatch(worker_loop(c->tcp->worker), &c->watch);
    (void)fd_close(fd);
    list_remove(&c->link);
    c->tcp->count--;
    free(c);
}

/* False when the connection is to be closed. */
static bool out_flush(struct connection *c)
{
    if (c->out_used == 0)
        return true;
    ssize_t n = send(c->watch.fd, c->out, c->out_used, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN;
    c->out_used -= (size_t)n;
    memmove(c->out, c->out + n, c->out_used);
    return true;
}

static bool out_add(struct connection *c, const uint8_t *bytes, size_t n)
{
    struct wr w = wr_init(c->out + c->out_used, OUT_MAX - c->out_used);
    wr_u16(&w, (uint16_t)n);
    wr_bytes(&w, bytes, n);
    if (!wr_ok(&w))
        return false;
    c->out_used += w.used;
    return true;
}

/* Answers one message; false when it was not well-formed. */
static bool message(struct connection *c, struct str bytes)
{
    uint8_t out[RDVMSG_MAX];
    struct rdv_input in = {.bytes = bytes, .from = c->from, .via = {.connection = c->id}};
    size_t n = worker_handle(c->tcp->worker, &in, out);
    c->spoke = true;
    return n == 0 || out_add(c, out, n);
}

/* All whole messages that are there. */
static bool messages(struct connection *c)
{
    size_t done = 0;
    for (;;) {
        struct rd r = rd_init(c->in + done, c->in_used - done);
        uint16_t n = rd_u16(&r);
        if (rd_ok(&r) && (n == 0 || n > RDVMSG_MAX))
            return false;
        struct str bytes = rd_bytes(&r, n);
        if (!rd_ok(&r))
            break;
        if (!message(c, bytes))
            return false;
        done += PREFIX + n;
    }
    c->in_used -= done;
    memmove(c->in, c->in + done, c->in_used);
    return true;
}

static bool readable(struct connection *c)
{
    ssize_t n = recv(c->watch.fd, c->in + c->in_used, sizeof c->in - c->in_used, MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    c->in_used += (size_t)n;
    c->seen_ms = clock_now_ms();
    list_remove(&c->link);
    list_append(&c->tcp->connections, &c->link);
    return messages(c);
}

/* Level-triggered. While answers are not taken nothing is read: the watch then asks for room. */
static bool events_set(struct connection *c)
{
    struct epoll_event e = {.events = c->out_used ? EPOLLOUT : EPOLLIN, .data.ptr = &c->watch};
    int epoll_fd = worker_loop(c->tcp->worker)->epoll_fd;
    return epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->watch.fd, &e) == 0;
}

static void connection_ready(struct watch *w, uint32_t events)
{
    struct connection *c = container_of(w, struct connection, watch);
    bool had = c->out_used > 0;
    bool good = had || !(events & ~(uint32_t)EPOLLOUT) || readable(c);
    good = good && out_flush(c);
    if (good && (c->out_used > 0) != had)
        good = events_set(c);
    if (!good || (events & EPOLLERR))
        connection_close(c);
}

static void connection_new_consume(struct tcp *t, int fd, const struct addr *from)
{
    struct connection *c = malloc(sizeof *c);
    struct loop *loop = worker_loop(t->worker);
    if (!c) {
        (void)fd_close(fd);
        return;
    }
    c->watch = (struct watch){.fd = -EBADF, .ready = connection_ready};
    c->tcp = t;
    c->id = ++t->last_id;
    c->from = *from;
    c->seen_ms = clock_now_ms();
    c->spoke = false;
    c->in_used = c->out_used = 0;
    list_init(&c->link);
    if (loop_watch(loop, &c->watch, fd, EPOLLIN) < 0) {
        (void)fd_close(fd);
        free(c);
        return;
    }
    list_append(&t->connections, &c->link);
    t->count++;
}

static void listener_ready(struct tcp *t, struct watch *w)
{
    for (int i = 0; i < ACCEPTS; i++) {
        struct addr from = {.len = sizeof(struct sockaddr_in6)};
        int fd = accept4(w->fd, &from.sa, &from.len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        from = addr_from(&from.sa, from.len);
        if (!limits_take(worker_limits(t->worker), LIMIT_ACCEPT, &from, clock_now_ms())) {
            (void)fd_close(fd);
            continue;
        }
        if (t->count >= TCP_MAX)
            connection_close(container_of(t->connections.next, struct connection, link));
        connection_new_consume(t, fd, &from);
    }
}

static void listener_event(struct watch *w, uint32_t events)
{
    (void)events;
    struct tcp_listener *l = container_of(w, struct tcp_listener, watch);
    listener_ready(l->tcp, w);
}

int tcp_init(struct tcp *t, struct worker *w, const struct sockets *s)
{
    t->worker = w;
    list_init(&t->connections);
    for (size_t i = 0; i < s->tcp_count; i++) {
        t->listeners[i] = (struct tcp_listener){{.fd = -EBADF, .ready = listener_event}, t};
        int r = loop_watch(worker_loop(w), &t->listeners[i].watch, s->tcp[i], EPOLLIN);
        if (r < 0)
            return r;
    }
    return 0;
}

void tcp_sweep(struct tcp *t)
{
    uint64_t now = clock_now_ms();
    list_for_each(c, &t->connections, struct connection, link)
    {
        uint64_t silent = now - c->seen_ms;
        if (silent < FIRST_MS)
            break;
        if (silent > (c->spoke ? IDLE_MS : FIRST_MS))
            connection_close(c);
    }
}

void tcp_send(struct tcp *t, uint64_t connection, const uint8_t *bytes, size_t n)
{
    list_for_each(c, &t->connections, struct connection, link)
    {
        if (c->id != connection)
            continue;
        bool had = c->out_used > 0;
        if (!out_add(c, bytes, n) || !out_flush(c) || ((c->out_used > 0) != had && !events_set(c)))
            connection_close(c);
        return;
    }
}
