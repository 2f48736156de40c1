/* Streams that peers have dialled: berth-peer's packets come in, each with a connected socket and
 * the name of a service; the sockets go where the service's claim leads, as accepted ones do, and
 * an answer goes back. What comes is not trusted: a packet that makes no sense ends its source, a
 * socket of another kind is refused, and of what is held there is an end. */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "ipc/fdmsg.h"
#include "share/worker-internal.h"
#include "wire/streammsg.h"

/* Of one thread. */
#define STREAMS_MAX 64
/* Packets at a turn: accepted connections have theirs, too. */
#define BATCH 64

/* One that was handed over and waits for its sender to close its own copy. */
struct held {
    struct conn conn;
    struct streammsg message; /* its texts point into the bytes */
    char service[WIRE_NAME_MAX];
    enum reason refused; /* as soon as it came */
};

struct streams {
    struct source source;
    struct list link;
    int fd; /* owned */
    struct held held[STREAMMSG_HELD_MAX];
    size_t held_count, held_at; /* from held_at on they are to be delivered */
    size_t due;                 /* so many of them */
    uint8_t answer[STREAMMSG_MAX];
    size_t answer_size; /* one that found no room; 0: none */
};

static void streams_free(struct worker *w, struct streams *s)
{
    (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
    (void)fd_close(s->fd);
    for (size_t i = s->held_at; i < s->held_count; i++)
        (void)fd_close(s->held[i].conn.fd);
    list_remove(&s->link);
    w->streams_count--;
    free(s);
}

static void streams_poll(struct worker *w, struct streams *s, int op, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = s};
    if (epoll_ctl(w->epoll_fd, op, s->fd, &e) < 0)
        log_error("source of streams not polled err=%d", errno);
}

void streams_add_consume(struct worker *w, int fd)
{
    struct streams *s = w->streams_count < STREAMS_MAX && !w->retired ? calloc(1, sizeof *s) : NULL;
    if (!s) {
        (void)fd_close(fd);
        return;
    }
    s->source.kind = SOURCE_STREAMS;
    s->fd = fd;
    list_append(&w->streams, &s->link);
    w->streams_count++;
    streams_poll(w, s, EPOLL_CTL_ADD, EPOLLIN);
}

static bool option_is(int fd, int option, int wanted)
{
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && value == wanted;
}

/* A connected TCP socket of berth-peer's own, as accept() makes them. Programs get it as it is. */
static bool socket_is_good(int fd, struct addr *ret_peer)
{
    struct addr local = {0}, peer = {0};
    uint16_t none = 0;
    const struct addr wanted = addr_make(AF_INET, STREAMMSG_IP, none);
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    if (flags < 0 || flags & (O_NONBLOCK | O_ASYNC) || !option_is(fd, SO_TYPE, SOCK_STREAM) ||
        !option_is(fd, SO_PROTOCOL, IPPROTO_TCP) || !option_is(fd, SO_ACCEPTCONN, 0))
        return false;
    conn_local(fd, &local);
    addr_set_port(&local, none);
    peer.len = sizeof peer.un;
    if (!addr_equal(&local, &wanted) || getpeername(fd, &peer.sa, &peer.len) < 0)
        return false;
    *ret_peer = addr_from(&peer.sa, peer.len);
    return true;
}

static void hold(struct worker *w, struct streams *s, const struct streammsg *m, int fd)
{
    struct held *h = &s->held[s->held_count++];
    *h = (struct held){.message = *m,
                       .conn = {.source.kind = SOURCE_CONN,
                                .state = CONN_SNIFF,
                                .fd = fd,
                                .stream = true,
                                .claim = ROUTE_NONE,
                                .since_ms = w->now_ms}};
    memcpy(h->service, m->service.p, m->service.n);
    h->message.service.p = h->service;
    h->message.name = STR("");
    list_init(&h->conn.link);
    if (!socket_is_good(fd, &h->conn.peer))
        h->refused = REASON_BAD_STREAM;
    board_add(&w->board->accepted, 1);
}

static enum reason stream_refuse(struct worker *w, struct conn *c, const struct refusal *why)
{
    refusal_count(w, why);
    refuse_log(w, c, why, &w->judgement);
    c->fd = fd_close(c->fd);
    return why->reason;
}

/* Its queue has no room now. */
static enum reason stream_wait(struct worker *w, struct conn *c, const struct pool *p)
{
    struct refusal why = {.reason = REASON_APP_STOPPED};
    if (!p || deliver_overflows(w, p, c, &why))
        return stream_refuse(w, c, &why);
    struct conn *kept = worker_hold(w, c);
    c->fd = -EBADF;
    if (!kept)
        return REASON_NO_MEMORY;
    deliver_wait(w, kept, p);
    return REASON_NONE;
}

/* What the logs, and programs that ask for it, are told: the service in the place of a host. */
static void judgement_make(struct conn_judgement *j, struct str service)
{
    j->sniffed_valid = true;
    j->sniffed.proto = PROTO_NONE;
    j->sniffed.host = service;
    j->sniffed.path = STR("");
    j->local.sa.sa_family = AF_UNSPEC;
}

static enum reason stream_deliver(struct worker *w, struct held *h, uint32_t claim)
{
    struct conn_judgement *j = &w->judgement;
    judgement_make(j, h->message.service);
    if (h->refused || claim == ROUTE_NONE)
        return stream_refuse(
            w, &h->conn, &(struct refusal){.reason = h->refused ? h->refused : REASON_NOT_SERVED});
    int r = deliver(w, &h->conn, claim, j);
    if (r == 0)
        return REASON_NONE;
    return r == -EAGAIN ? stream_wait(w, &h->conn, deliver_pool(w, claim))
                        : stream_refuse(w, &h->conn, &j->refusal);
}

/* False when there is no room for it: it goes before anything else is done. */
static bool answer_send(struct worker *w, struct streams *s)
{
    ssize_t n = send(s->fd, s->answer, s->answer_size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) {
        streams_poll(w, s, EPOLL_CTL_MOD, EPOLLOUT);
        return false;
    }
    s->answer_size = 0;
    return true;
}

static bool next_deliver(struct worker *w, struct streams *s)
{
    struct held *h = &s->held[s->held_at++];
    uint32_t claim = w->snapshot ? snapshot_service(w->snapshot, h->message.service) : ROUTE_NONE;
    const struct pool *p = claim == ROUTE_NONE ? NULL : deliver_pool(w, claim);
    struct streammsg m = {.type = STREAMMSG_ANSWER, .id = h->message.id};
    m.result = (uint8_t)stream_deliver(w, h, claim);
    m.flags = p && p->queue->flags & DISPATCH_PROXIED ? STREAMMSG_PROXY : 0;
    int n = streammsg_encode(&m, s->answer, sizeof s->answer);
    s->answer_size = n > 0 ? (size_t)n : 0;
    s->due--;
    if (s->held_at == s->held_count)
        s->held_at = s->held_count = 0;
    return answer_send(w, s);
}

/* False when nothing more can be done now, or the source is not what it should be (then -EPROTO).
 */
static int packet_read(struct worker *w, struct streams *s)
{
    uint8_t buf[STREAMMSG_MAX];
    struct streammsg m;
    CLEANUP_FD int fd = -EBADF;
    size_t count = 0;
    ssize_t n = fdmsg_recv(s->fd, buf, sizeof buf, &fd, 1, &count, MSG_DONTWAIT);
    if (n == -EAGAIN)
        return 0;
    if (n == 0 || n == -ECONNRESET)
        return -EPIPE;
    if (n < 0 || streammsg_decode(&m, buf, (size_t)n) < 0)
        return -EPROTO;
    if (m.type == STREAMMSG_CLOSED && count == 0) {
        s->due = s->held_count - s->held_at;
        return 1;
    }
    if (m.type != STREAMMSG_STREAM || s->held_count == STREAMMSG_HELD_MAX)
        return -EPROTO;
    hold(w, s, &m, fd_take(&fd));
    return 1;
}

/* 1: there may be more; 0: not now; negative: the source is over. */
static int streams_step(struct worker *w, struct streams *s)
{
    if (s->answer_size > 0 && !answer_send(w, s))
        return 0;
    if (s->due > 0)
        return next_deliver(w, s) ? 1 : 0;
    return packet_read(w, s);
}

static int streams_run(struct worker *w, struct streams *s, int steps)
{
    int r = 1;
    for (int i = 0; i < steps && r > 0; i++)
        r = streams_step(w, s);
    if (r == -EPROTO)
        log_warn("source of streams ended reason=BadMessage");
    return r;
}

void streams_event(struct worker *w, struct source *source, uint32_t events)
{
    struct streams *s = container_of(source, struct streams, source);
    if (events & EPOLLOUT)
        streams_poll(w, s, EPOLL_CTL_MOD, EPOLLIN);
    if (streams_run(w, s, BATCH) < 0)
        streams_free(w, s);
    else if (s->answer_size == 0 && s->due > 0)
        streams_poll(w, s, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
}

void streams_end(struct worker *w)
{
    list_for_each(s, &w->streams, struct streams, link)
    {
        /* From now on its sender is told that nobody reads. */
        (void)shutdown(s->fd, SHUT_RD);
        while (streams_run(w, s, BATCH) > 0)
            ;
        streams_free(w, s);
    }
}
