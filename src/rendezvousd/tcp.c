/* The same messages over TCP, each behind a 16-bit length, for networks that let no UDP through;
 * plain, or in TLS, as the first byte says. A connection is one struct with room for the beginning
 * of one message, and a buffer for what its peer has not taken yet: who sends no whole message, or
 * takes no answers, is closed; relayed packets that a peer does not take are dropped. Connections
 * are this thread's alone. */
#include <netinet/tcp.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rd.h"
#include "base/wr.h"
#include "rendezvousd/thread.h"

#define PREFIX 2
/* From the connection's beginning to the first whole message, with the handshake of TLS. */
#define FIRST_MS 10000
/* A peer that is registered over TCP refreshes long before. */
#define IDLE_MS 150000
/* Answers and invitations that are not taken; then it is read no more, or closed. */
#define OUT_MAX (4 * (PREFIX + RDVMSG_MAX))
/* Beside relayed packets, of one connection; and what all buffers may grow by together beyond the
 * size that each of them has first. */
#define OUT_RELAY_MAX (128 << 10)
#define OUT_FIRST     OUT_MAX
#define GROWN_MAX     (64u << 20)
#define IN_MAX        (64 << 10)
#define READS         4
#define ACCEPTS       64
/* RFC 8446 5.1: the type of a record that begins a handshake. A length never begins so. */
#define TLS_FIRST 0x16

struct connection {
    struct list link, dirty;
    struct watch watch;
    struct tcp *tcp;
    struct tls *tls; /* owned; NULL: plain */
    uint64_t id;
    struct addr from;
    uint64_t seen_ms;
    bool begun;  /* its first byte has been looked at */
    bool spoke;  /* a whole message */
    bool relays; /* packets were sent to it */
    bool broken; /* to be closed */
    uint32_t events;
    uint8_t *out; /* owned; NULL before anything was sent */
    size_t out_at, out_used, out_size;
    size_t in_used;
    uint8_t in[PREFIX + RELAY_MAX];
};

static size_t grown(size_t size)
{
    return size > OUT_FIRST ? size - OUT_FIRST : 0;
}

static void out_free(struct connection *c)
{
    c->tcp->grown -= grown(c->out_size);
    free(c->out);
    c->out = NULL;
    c->out_at = c->out_used = c->out_size = 0;
}

static void connection_close(struct connection *c)
{
    struct tcp *t = c->tcp;
    int fd = c->watch.fd;
    loop_unwatch(&t->thread->loop, &c->watch);
    tls_free(c->tls);
    (void)fd_close(fd);
    list_remove(&c->link);
    list_remove(&c->dirty);
    t->slots[c->id % TCP_MAX] = NULL;
    t->count--;
    out_free(c);
    free(c);
}

static struct connection *connection_find(struct tcp *t, uint64_t id)
{
    struct connection *c = t->slots[id % TCP_MAX];
    return c && c->id == id && !c->broken ? c : NULL;
}

/* Out ----------------------------------------------------------------------- */

/* To be sent, or closed, at the end of the event at hand. */
static void make_dirty(struct connection *c)
{
    list_remove(&c->dirty);
    list_append(&c->tcp->dirty, &c->dirty);
}

static bool out_grow(struct connection *c, size_t need)
{
    struct tcp *t = c->tcp;
    if (c->out_at > 0) {
        memmove(c->out, c->out + c->out_at, c->out_used);
        c->out_at = 0;
    }
    size_t size = c->out_size ? c->out_size : OUT_FIRST;
    while (size < need)
        size *= 2;
    if (size == c->out_size)
        return true;
    size_t more = grown(size) - grown(c->out_size);
    uint8_t *bigger = t->grown + more <= GROWN_MAX ? realloc(c->out, size) : NULL;
    if (!bigger)
        return false;
    t->grown += more;
    c->out = bigger;
    c->out_size = size;
    return true;
}

static bool out_add(struct connection *c, struct str bytes, size_t most)
{
    size_t need = c->out_used + PREFIX + bytes.n;
    if (need > most || (c->out_at + need > c->out_size && !out_grow(c, need)))
        return false;
    struct wr w = wr_init(c->out + c->out_at + c->out_used, PREFIX + bytes.n);
    wr_u16(&w, (uint16_t)bytes.n);
    wr_bytes(&w, bytes.p, bytes.n);
    c->out_used += w.used;
    make_dirty(c);
    return true;
}

static ssize_t out_send(struct connection *c)
{
    const uint8_t *bytes = c->out + c->out_at;
    if (c->tls)
        return tls_send(c->tls, bytes, c->out_used);
    ssize_t n = send(c->watch.fd, bytes, c->out_used, MSG_NOSIGNAL | MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

/* False when the connection is to be closed. */
static bool out_flush(struct connection *c)
{
    while (c->out_used > 0) {
        ssize_t n = out_send(c);
        if (n <= 0)
            return n == -EAGAIN;
        c->out_at += (size_t)n;
        c->out_used -= (size_t)n;
    }
    /* The first one stays: most connections never need more. */
    c->out_at = 0;
    if (c->out_size > OUT_FIRST)
        out_free(c);
    return true;
}

static bool out_is_full(const struct connection *c)
{
    return c->out_used > (c->relays ? OUT_RELAY_MAX : 0);
}

/* Level-triggered. Who does not take answers is not read any more; who does not take relayed
 * packets is. */
static bool events_set(struct connection *c)
{
    uint32_t events = out_is_full(c) ? 0 : EPOLLIN;
    if (c->out_used > 0 || (c->tls && tls_waits_to_send(c->tls)))
        events |= EPOLLOUT;
    if (events == c->events)
        return true;
    struct epoll_event e = {.events = events, .data.ptr = &c->watch};
    c->events = events;
    return epoll_ctl(c->tcp->thread->loop.epoll_fd, EPOLL_CTL_MOD, c->watch.fd, &e) == 0;
}

void tcp_flush(struct tcp *t)
{
    while (!list_empty(&t->dirty)) {
        struct connection *c = container_of(t->dirty.next, struct connection, dirty);
        list_remove(&c->dirty);
        if (c->broken || !out_flush(c) || !events_set(c))
            connection_close(c);
    }
}

void tcp_send(struct tcp *t, uint64_t connection, struct str bytes)
{
    struct connection *c = connection_find(t, connection);
    if (!c)
        return;
    size_t most = OUT_MAX + (c->relays ? OUT_RELAY_MAX : 0);
    if (out_add(c, bytes, most) || (out_flush(c) && out_add(c, bytes, most)))
        return;
    c->broken = true;
    make_dirty(c);
}

bool tcp_relay(struct tcp *t, uint64_t connection, struct str packet)
{
    struct connection *c = connection_find(t, connection);
    if (!c)
        return false;
    c->relays = true;
    return out_add(c, packet, OUT_RELAY_MAX);
}

/* In ------------------------------------------------------------------------ */

/* Who has not said anything whole keeps its place, however many bytes come. */
static void seen(struct connection *c)
{
    if (!c->spoke)
        return;
    c->seen_ms = c->tcp->thread->now_ms;
    list_remove(&c->link);
    list_append(&c->tcp->connections, &c->link);
}

/* One message or packet. */
static void message(struct connection *c, struct str bytes)
{
    struct thread *th = c->tcp->thread;
    struct rdv_input in = {
        .bytes = bytes, .from = c->from, .via = {.connection = c->id, .thread = th->index}};
    uint8_t out[RDVMSG_MAX];
    if (relay_looks(bytes.p, bytes.n)) {
        c->relays = true;
        const struct relayed d = {place_make(&in.from, &in.via), (uint8_t *)bytes.p, bytes.n,
                                  bytes.n};
        (void)forward(th, &d);
        return;
    }
    size_t n = thread_handle(th, &in, out);
    if (!c->spoke) {
        c->spoke = true;
        seen(c);
    }
    if (n > 0)
        tcp_send(c->tcp, c->id, (struct str){(const char *)out, n});
}

/* All whole messages that are there; what is left is the beginning of one. False when a length is
 * none. */
static bool messages(struct connection *c, uint8_t *bytes, size_t n)
{
    struct rd r = rd_init(bytes, n);
    for (;;) {
        struct rd ahead = r;
        uint16_t length = rd_u16(&ahead);
        if (rd_ok(&ahead) && (length == 0 || length > RELAY_MAX))
            return false;
        struct str one = rd_bytes(&ahead, length);
        if (!rd_ok(&ahead))
            break;
        if (one.n > RDVMSG_MAX && !relay_looks(one.p, one.n))
            return false;
        message(c, one);
        r = ahead;
        if (c->broken)
            return false;
    }
    c->in_used = r.left;
    memcpy(c->in, r.p, r.left);
    return true;
}

/* Plain or TLS? False when it can be neither. */
static bool begin(struct connection *c)
{
    struct tcp *t = c->tcp;
    uint8_t first;
    ssize_t n = recv(c->watch.fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    c->begun = true;
    if (first != TLS_FIRST)
        return true;
    c->tls = tls_new(t->thread->hub->tls, c->watch.fd);
    return c->tls != NULL;
}

/* What has come, behind what had come before. Who only asks is read in small pieces, so that the
 * answers to a piece fit. */
static ssize_t in_read(struct connection *c)
{
    uint8_t *in = c->tcp->in;
    size_t room = (c->relays ? IN_MAX : sizeof c->in) - c->in_used;
    memcpy(in, c->in, c->in_used);
    if (c->tls)
        return tls_recv(c->tls, in + c->in_used, room);
    ssize_t n = recv(c->watch.fd, in + c->in_used, room, MSG_DONTWAIT);
    return n < 0 ? -errno : n;
}

/* TLS may have more ready than the socket shows. */
static bool has_more(const struct connection *c, int reads)
{
    return c->begun && !out_is_full(c) && (reads < READS || (c->tls && tls_has_more(c->tls)));
}

static bool readable(struct connection *c)
{
    if (!c->begun && !begin(c))
        return false;
    for (int i = 0; has_more(c, i); i++) {
        ssize_t n = in_read(c);
        if (n == -EAGAIN)
            return true;
        if (n <= 0)
            return false;
        seen(c);
        if (!messages(c, c->tcp->in, c->in_used + (size_t)n))
            return false;
        /* What is passed on still stands in the buffer. */
        udp_flush(c->tcp->thread);
        if (!out_flush(c))
            return false;
    }
    return true;
}

static void connection_ready(struct watch *w, uint32_t events)
{
    struct connection *c = container_of(w, struct connection, watch);
    struct thread *thread = c->tcp->thread;
    thread_clocks(thread);
    bool waits = c->tls && tls_waits_to_send(c->tls);
    if (events & EPOLLERR || ((events & ~(uint32_t)EPOLLOUT || waits) && !readable(c)))
        c->broken = true;
    make_dirty(c);
    thread_flush(thread);
}

static void connection_new_consume(struct tcp *t, int fd, const struct addr *from)
{
    struct connection *c = calloc(1, sizeof *c);
    if (!c) {
        (void)fd_close(fd);
        return;
    }
    c->watch = (struct watch){.fd = -EBADF, .ready = connection_ready};
    c->tcp = t;
    c->from = *from;
    c->seen_ms = clock_now_ms();
    c->events = EPOLLIN;
    list_init(&c->link);
    list_init(&c->dirty);
    if (loop_watch(&t->thread->loop, &c->watch, fd, EPOLLIN) < 0) {
        (void)fd_close(fd);
        free(c);
        return;
    }
    /* There is a free place, for there are fewer connections than places. */
    do
        c->id = ++t->last_id;
    while (t->slots[c->id % TCP_MAX]);
    t->slots[c->id % TCP_MAX] = c;
    list_append(&t->silent, &c->link);
    t->count++;
}

/* Who has said nothing yet goes first: those are what a flood is made of. */
static void make_room(struct tcp *t)
{
    struct list *from = list_empty(&t->silent) ? &t->connections : &t->silent;
    connection_close(container_of(from->next, struct connection, link));
}

static void listener_ready(struct tcp *t, struct watch *w)
{
    for (int i = 0; i < ACCEPTS; i++) {
        struct addr from = {.len = sizeof(struct sockaddr_in6)};
        int fd = accept4(w->fd, &from.sa, &from.len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
            return;
        if (fd < 0) {
            /* Without descriptors: who waits in the backlog would wake this thread for ever. */
            log_warn("no TCP connection accepted err=%s", strerror(errno));
            loop_unwatch(&t->thread->loop, w);
            return;
        }
        from = addr_from(&from.sa, from.len);
        if (!limits_take(t->thread->rdv.limits, LIMIT_ACCEPT, &from, clock_now_ms())) {
            (void)fd_close(fd);
            continue;
        }
        if (t->count >= TCP_MAX)
            make_room(t);
        connection_new_consume(t, fd, &from);
    }
}

static void listener_event(struct watch *w, uint32_t events)
{
    (void)events;
    struct tcp_listener *l = container_of(w, struct tcp_listener, watch);
    listener_ready(l->tcp, w);
}

int tcp_init(struct tcp *t, struct thread *th, const struct sockets *s)
{
    t->thread = th;
    list_init(&t->connections);
    list_init(&t->silent);
    list_init(&t->dirty);
    t->in = malloc(IN_MAX);
    if (!t->in)
        return -ENOMEM;
    for (size_t i = 0; i < s->tcp_count; i++) {
        t->listeners[i] =
            (struct tcp_listener){{.fd = -EBADF, .ready = listener_event}, t, s->tcp[i]};
        t->listener_count++;
        int r = loop_watch(&th->loop, &t->listeners[i].watch, s->tcp[i], EPOLLIN);
        if (r < 0)
            return r;
    }
    return 0;
}

static void list_sweep(struct list *connections, uint64_t silent_ms)
{
    uint64_t now = clock_now_ms();
    list_for_each(c, connections, struct connection, link)
    {
        if (now - c->seen_ms <= silent_ms)
            break;
        connection_close(c);
    }
}

/* One that cannot be watched now is tried again a second later. */
static void listeners_resume(struct tcp *t)
{
    for (size_t i = 0; i < t->listener_count; i++) {
        struct tcp_listener *l = &t->listeners[i];
        if (l->watch.fd < 0 && loop_watch(&t->thread->loop, &l->watch, l->fd, EPOLLIN) < 0)
            log_debug("still not accepting fd=%d", l->fd);
    }
}

void tcp_sweep(struct tcp *t)
{
    list_sweep(&t->silent, FIRST_MS);
    list_sweep(&t->connections, IDLE_MS);
    listeners_resume(t);
}
