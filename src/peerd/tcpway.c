/* Accepts and makes the TCP connections between peers, reads their greetings, and then moves
 * packets between them and sessions. A connection belongs to the list; one that has been greeted,
 * or that was made, to a peer, too, and ends with it. What a stranger can make us hold is the fixed
 * size of a struct, for five seconds. */
#include "peerd/tcpway.h"

#include <netinet/tcp.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rd.h"
#include "base/wr.h"
#include "peerd/path.h"
#include "peerd/peerd.h"
#include "peerd/remote.h"

#define GREET_MS 5000
/* A connection that carries no session's packets for so long is closed. */
#define IDLE_MS 15000
#define LOOK_MS 5000
/* Without descriptors. */
#define PAUSE_MS        1000
#define BACKLOG         32
#define ACCEPTS         16
#define READS           8
#define USER_TIMEOUT_MS 10000
/* What the kernel holds and has not sent: little, so that acknowledgements do not wait behind it.
 */
#define UNSENT_MAX (128 << 10)
#define PACKET_MAX 2048
#define IN_MAX     (64 << 10)
/* One burst of a session with the lengths. */
#define OUT_MAX (96 << 10)

enum tcpway_state { TCPWAY_CONNECTING, TCPWAY_GREETING, TCPWAY_UP };

struct tcpway {
    struct list link;
    struct tcpways *all;
    struct remote *remote; /* NULL: a stranger */
    unsigned role;         /* of the punching that it belongs to */
    int fd;                /* owned */
    struct watch watch;
    struct timer
        limit; /* until it is greeted; then: looks whether it is in use; or: it is broken */
    struct addr addr;
    uint32_t slot;
    uint32_t sequence; /* of our greeting; 0: the other side has connected */
    enum tcpway_state state;
    bool broken, reading, closed;
    uint8_t head[TCPWAY_FIRST];
    size_t head_used;
    uint8_t *in, *out; /* owned, with UP */
    size_t in_used, out_at, out_used;
    uint64_t used_ms;
};

static struct loop *loop_of(const struct tcpways *t)
{
    return &t->net->peerd->loop;
}

static uint32_t path_id(const struct tcpway *w)
{
    return TCPWAY_PATH + w->slot;
}

/* The end of one ------------------------------------------------------------------------------- */

static void way_free(struct tcpway *w)
{
    free(w->in);
    free(w->out);
    free(w);
}

/* Whoever is reading from it frees it. */
static void way_close(struct tcpway *w)
{
    struct tcpways *t = w->all;
    loop_unwatch(loop_of(t), &w->watch);
    loop_untimer(&w->limit);
    w->fd = fd_close(w->fd);
    list_remove(&w->link);
    t->count--;
    t->strange -= !w->remote;
    w->closed = true;
    if (!w->reading)
        way_free(w);
}

static void way_refuse(struct tcpway *w)
{
    if (w->sequence == 0)
        w->all->refused++;
    log_debug("tcp refused state=%d", w->state);
    way_close(w);
}

static void way_lost(struct tcpway *w)
{
    struct remote *r = w->state == TCPWAY_UP ? w->remote : NULL;
    uint32_t id = path_id(w);
    char text[ADDR_TEXT_MAX];
    if (r)
        trail_add(&r->trail, "%s: the TCP connection has ended", addr_format(&w->addr, text));
    way_close(w);
    if (r)
        path_lost(r, id);
}

static bool carries_session(const struct tcpway *w)
{
    struct session_stats s;
    if (!w->remote->session)
        return false;
    session_stat(w->remote->session, &s);
    return s.quic.path.id == path_id(w);
}

static void limit_fires(struct timer *t)
{
    struct tcpway *w = container_of(t, struct tcpway, limit);
    uint64_t now = clock_now_ms();
    if (w->state != TCPWAY_UP) {
        way_refuse(w);
        return;
    }
    if (carries_session(w))
        w->used_ms = now;
    if (w->broken || now - w->used_ms > IDLE_MS)
        way_lost(w);
    else
        loop_timer(loop_of(w->all), t, LOOK_MS);
}

/* Packets -------------------------------------------------------------------------------------- */

static void events_set(struct tcpway *w)
{
    bool out = w->state == TCPWAY_CONNECTING || w->out_used > w->out_at;
    struct epoll_event e = {.events = out ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = &w->watch};
    (void)epoll_ctl(loop_of(w->all)->epoll_fd, EPOLL_CTL_MOD, w->fd, &e);
}

/* Not freed here: a session may be in the midst of sending. */
static void way_break(struct tcpway *w)
{
    w->broken = true;
    w->out_at = w->out_used = 0;
    loop_timer(loop_of(w->all), &w->limit, 0);
}

static void flush(struct tcpway *w)
{
    while (w->out_at < w->out_used) {
        ssize_t n =
            send(w->fd, w->out + w->out_at, w->out_used - w->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            way_break(w);
            return;
        }
        w->out_at += (size_t)n;
    }
    w->out_at = w->out_used = 0;
}

static bool frames_put(struct tcpway *w, struct str bytes, size_t segment)
{
    struct wr out = wr_init(w->out, OUT_MAX);
    for (size_t at = 0; at < bytes.n; at += segment) {
        size_t n = bytes.n - at < segment ? bytes.n - at : segment;
        wr_u16(&out, (uint16_t)n);
        wr_bytes(&out, bytes.p + at, n);
    }
    if (!wr_ok(&out))
        return false;
    w->out_used = out.used;
    return true;
}

bool tcpway_is_path(uint32_t path)
{
    return path >= TCPWAY_PATH;
}

static struct tcpway *way_find(struct tcpways *t, uint32_t path)
{
    list_for_each(w, &t->all, struct tcpway,
                  link) if (w->state == TCPWAY_UP && path_id(w) == path) return w;
    return NULL;
}

bool tcpway_send(struct net *n, uint32_t path, struct str bytes, size_t segment)
{
    struct tcpway *w = way_find(&n->tcpways, path);
    if (!w || w->broken || segment == 0 || segment > PACKET_MAX)
        return true;
    if (w->out_used > 0)
        return false;
    if (!frames_put(w, bytes, segment))
        return true;
    flush(w);
    if (w->out_used > 0)
        events_set(w);
    return true;
}

/* False: a frame that cannot be. */
static bool frames_take(struct tcpway *w)
{
    struct rd r = rd_init(w->in, w->in_used);
    struct quic_path path = {path_id(w), w->addr};
    while (!w->closed) {
        struct rd at = r;
        size_t n = rd_u16(&at);
        if (rd_ok(&at) && (n == 0 || n > PACKET_MAX))
            return false;
        struct str frame = rd_bytes(&at, n);
        if (!rd_ok(&at))
            break;
        r = at;
        if (quic_is_quic(frame.p, frame.n))
            endpoint_input(w->all->net->endpoint, &path, frame.p, frame.n, frame.n);
    }
    if (r.left > 0)
        memmove(w->in, r.p, r.left);
    w->in_used = r.left;
    return true;
}

static void packets_read(struct tcpway *w)
{
    for (int i = 0; i < READS && !w->closed; i++) {
        ssize_t n = recv(w->fd, w->in + w->in_used, IN_MAX - w->in_used, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            way_break(w);
            return;
        }
        w->in_used += (size_t)n;
        w->used_ms = clock_now_ms();
        if (!frames_take(w) && !w->closed) {
            way_break(w);
            return;
        }
    }
}

static void packets_move(struct tcpway *w)
{
    bool was_full = w->out_used > 0;
    w->reading = true;
    flush(w);
    if (was_full && w->out_used == 0)
        endpoint_resume(w->all->net->endpoint, path_id(w));
    if (!w->closed)
        packets_read(w);
    w->reading = false;
    if (w->closed)
        way_free(w);
    else
        events_set(w);
}

/* Greetings ------------------------------------------------------------------------------------ */

static bool greeting_send(struct tcpway *w, const struct probe *as)
{
    uint8_t frame[TCPWAY_FIRST] = {0, PROBE_SIZE};
    punching_greet(w->remote, w->role, as, frame + TCPWAY_PREFIX);
    if (w->sequence) {
        struct probe p;
        if (probe_decode(&p, frame + TCPWAY_PREFIX, PROBE_SIZE) == 0)
            w->sequence = p.sequence;
    }
    return send(w->fd, frame, sizeof frame, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof frame;
}

static void way_up(struct tcpway *w)
{
    struct remote *r = w->remote;
    struct quic_path path = {path_id(w), w->addr};
    char text[ADDR_TEXT_MAX];
    w->in = malloc(IN_MAX);
    w->out = malloc(OUT_MAX);
    if (!w->in || !w->out) {
        way_close(w);
        return;
    }
    w->state = TCPWAY_UP;
    w->used_ms = clock_now_ms();
    w->all->greeted++;
    loop_timer(loop_of(w->all), &w->limit, LOOK_MS);
    events_set(w);
    trail_add(&r->trail, "%s: greeted over TCP", addr_format(&w->addr, text));
    punching_worked(r, w->role, TECHNIQUE_TCP);
    path_found(r, &path, CANDIDATE_HOST);
}

static size_t count_of(const struct tcpways *t, const struct remote *r)
{
    size_t n = 0;
    list_for_each(w, &t->all, struct tcpway, link) n += w->remote == r;
    return n;
}

/* Whose attempt is it? */
static bool stranger_known(struct tcpway *w, struct probe *ret_ping)
{
    struct tcpways *t = w->all;
    list_for_each(r, &t->net->peerd->remotes, struct remote, link)
    {
        for (unsigned role = 0; role < PUNCHING_ROLES; role++) {
            if (!punching_greeted(r, role, w->head + TCPWAY_PREFIX, ret_ping))
                continue;
            if (ret_ping->type != PROBE_PING || count_of(t, r) >= TCPWAYS_REMOTE_MAX)
                return false;
            w->remote = r;
            w->role = role;
            t->strange--;
            return true;
        }
    }
    return false;
}

static void greeting_take(struct tcpway *w)
{
    struct probe p = {.attempt = 0};
    bool good;
    if (w->remote) {
        good = punching_greeted(w->remote, w->role, w->head + TCPWAY_PREFIX, &p) &&
               p.type == PROBE_PONG && p.sequence == w->sequence;
    } else {
        good = stranger_known(w, &p);
        p.type = PROBE_PONG;
        good = good && greeting_send(w, &p);
    }
    if (good)
        way_up(w);
    else
        way_refuse(w);
}

static void greeting_read(struct tcpway *w)
{
    ssize_t n = recv(w->fd, w->head + w->head_used, sizeof w->head - w->head_used, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        w->head_used += (size_t)n;
    if (n <= 0 || w->head[0] != 0 || (w->head_used > 1 && w->head[1] != PROBE_SIZE))
        way_refuse(w);
    else if (w->head_used == sizeof w->head)
        greeting_take(w);
}

static void connected(struct tcpway *w)
{
    const struct probe ping = {.type = PROBE_PING};
    int error = 0;
    socklen_t len = sizeof error;
    char text[ADDR_TEXT_MAX];
    if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        error = errno;
    w->state = TCPWAY_GREETING;
    if (error == 0 && greeting_send(w, &ping)) {
        events_set(w);
        return;
    }
    trail_add(&w->remote->trail, "%s: no TCP connection: %s", addr_format(&w->addr, text),
              strerror(error));
    way_close(w);
}

static void ready(struct watch *watch, uint32_t events)
{
    struct tcpway *w = container_of(watch, struct tcpway, watch);
    (void)events;
    if (w->state == TCPWAY_CONNECTING)
        connected(w);
    else if (w->state == TCPWAY_GREETING)
        greeting_read(w);
    else
        packets_move(w);
}

/* The beginning of one ------------------------------------------------------------------------- */

static void options_set(int fd)
{
    const int on = 1, timeout_ms = USER_TIMEOUT_MS, unsent = UNSENT_MAX;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
}

/* NULL: no memory, or not watched; the descriptor is closed then. */
static struct tcpway *way_new(struct tcpways *t, const struct addr *addr, int consumed_fd,
                              struct remote *r)
{
    struct tcpway *w = t->count < TCPWAYS_MAX ? calloc(1, sizeof *w) : NULL;
    if (!w) {
        (void)fd_close(consumed_fd);
        return NULL;
    }
    *w = (struct tcpway){.all = t,
                         .remote = r,
                         .fd = consumed_fd,
                         .addr = *addr,
                         .slot = t->next_slot++ % (UINT32_MAX - TCPWAY_PATH),
                         .state = r ? TCPWAY_CONNECTING : TCPWAY_GREETING,
                         .sequence = r != NULL,
                         .limit.fire = limit_fires,
                         .watch = {-EBADF, ready}};
    if (loop_watch(loop_of(t), &w->watch, w->fd, r ? EPOLLOUT : EPOLLIN) < 0) {
        (void)fd_close(w->fd);
        free(w);
        return NULL;
    }
    options_set(w->fd);
    list_append(&t->all, &w->link);
    t->count++;
    t->strange += !r;
    loop_timer(loop_of(t), &w->limit, GREET_MS);
    return w;
}

/* The oldest goes, so that nobody keeps others out by being silent. */
static void stranger_drop(struct tcpways *t)
{
    list_for_each(w, &t->all, struct tcpway, link)
    {
        if (!w->remote) {
            way_refuse(w);
            return;
        }
    }
}

static void acceptable(struct watch *watch, uint32_t events)
{
    struct tcpways *t = container_of(watch, struct tcpways, watch);
    (void)events;
    for (int i = 0; i < ACCEPTS; i++) {
        struct sockaddr_in6 from;
        socklen_t len = sizeof from;
        int fd = accept4(t->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
            return;
        if (fd < 0) {
            log_warn("no TCP connection accepted err=%s", strerror(errno));
            loop_unwatch(loop_of(t), &t->watch);
            loop_timer(loop_of(t), &t->pause, PAUSE_MS);
            return;
        }
        struct addr raw = addr_from((struct sockaddr *)&from, len), a = addr_unmap(&raw);
        if (t->strange >= TCPWAYS_STRANGE_MAX)
            stranger_drop(t);
        (void)way_new(t, &a, fd, NULL);
    }
}

static void pause_ends(struct timer *timer)
{
    struct tcpways *t = container_of(timer, struct tcpways, pause);
    if (loop_watch(loop_of(t), &t->watch, t->fd, EPOLLIN) < 0)
        loop_timer(loop_of(t), timer, PAUSE_MS);
}

static void way_make(struct remote *r, unsigned role, const struct addr *to)
{
    struct tcpways *t = &r->peerd->net.tcpways;
    int fd = socket(to->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (connect(fd, &to->sa, to->len) < 0 && errno != EINPROGRESS) {
        (void)fd_close(fd);
        return;
    }
    struct tcpway *w = way_new(t, to, fd, r);
    if (w)
        w->role = role;
}

/* Loopback means this host only to somebody who may be on it. */
static bool is_usable(const struct net *n, const struct addr *a)
{
    return candidate_is_usable(a) || (addr_is_loopback(a) && net_is_local(n));
}

void tcpways_connect(struct remote *r, unsigned role, const struct offer *o)
{
    struct net *n = &r->peerd->net;
    size_t made = 0;
    for (size_t i = 0; i < o->candidate_count; i++) {
        const struct record_candidate *c = &o->candidates[i];
        if (c->transport != RECORD_TCP || !is_usable(n, &c->addr) ||
            count_of(&n->tcpways, r) >= TCPWAYS_REMOTE_MAX)
            continue;
        way_make(r, role, &c->addr);
        made++;
    }
    if (made > 0)
        trail_add(&r->trail, "tried over TCP: %zu addresses", made);
}

/* All ------------------------------------------------------------------------------------------ */

void tcpways_init(struct tcpways *t, struct net *n)
{
    *t = (struct tcpways){
        .net = n, .fd = -EBADF, .watch = {-EBADF, acceptable}, .pause.fire = pause_ends};
    list_init(&t->all);
}

static int listen_at(const struct tcpways *t, uint16_t port, struct addr *ret_name)
{
    static const uint8_t any[16] = {0};
    const int on = 1, off = 0;
    bool v6 = t->net->udp.v6;
    struct addr a = addr_make(v6 ? AF_INET6 : AF_INET, any, port), name;
    socklen_t len = sizeof name.v6;
    int fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (v6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, &a.sa, a.len) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, &name.sa, &len) < 0) {
        int r = -errno;
        (void)fd_close(fd);
        return r;
    }
    name.len = len;
    *ret_name = name;
    return fd;
}

void tcpways_listen(struct tcpways *t, uint16_t port)
{
    struct addr name;
    int fd = listen_at(t, port, &name);
    if (fd < 0)
        fd = listen_at(t, 0, &name);
    if (fd < 0 || loop_watch(loop_of(t), &t->watch, fd, EPOLLIN) < 0) {
        log_warn("nothing listens for TCP err=%s", fd < 0 ? strerror(-fd) : "not watched");
        (void)fd_close(fd);
        return;
    }
    t->fd = fd;
    t->port = addr_port(&name);
}

void tcpways_close(struct remote *r)
{
    list_for_each(w, &r->peerd->net.tcpways.all, struct tcpway, link) if (w->remote == r)
        way_close(w);
}

void tcpways_done(struct tcpways *t)
{
    if (!t->net)
        return;
    list_for_each(w, &t->all, struct tcpway, link) way_close(w);
    loop_unwatch(loop_of(t), &t->watch);
    loop_untimer(&t->pause);
    t->fd = fd_close(t->fd);
}
