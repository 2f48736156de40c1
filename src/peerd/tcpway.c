/* Connections between peers: moves packets between them and sessions, and closes them. A connection
 * belongs to the list; one that was made, or that has shown whose it is, to a peer, too, and ends
 * with it. */
#include <netinet/tcp.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rd.h"
#include "base/wr.h"
#include "peerd/path.h"
#include "peerd/tcpway-internal.h"

#define GREET_MS 5000
/* A connection that carries no session's packets for so long is closed. */
#define IDLE_MS         15000
#define LOOK_MS         5000
#define READS           8
#define USER_TIMEOUT_MS 10000
/* What the kernel holds and has not sent: little, so that acknowledgements do not wait behind it.
 */
#define UNSENT_MAX (128 << 10)
#define PACKET_MAX 2048
#define IN_MAX     (64 << 10)
/* One burst of a session with the lengths. */
#define OUT_MAX (96 << 10)

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
void tcpway_close(struct tcpway *w)
{
    struct tcpways *t = w->all;
    loop_unwatch(tcpway_loop(t), &w->watch);
    loop_untimer(&w->limit);
    w->fd = fd_close(w->fd);
    list_remove(&w->link);
    t->count--;
    t->strange -= !w->remote;
    w->closed = true;
    if (!w->reading)
        way_free(w);
}

void tcpway_refuse(struct tcpway *w)
{
    struct remote *r = w->sequence ? w->remote : NULL;
    const struct addr to = w->addr;
    unsigned role = w->role;
    w->all->refused += !r;
    log_debug("tcp refused state=%d", w->state);
    tcpway_close(w);
    if (r)
        tcpway_make_again(r, role, &to);
}

static void way_lost(struct tcpway *w)
{
    struct remote *r = w->state == TCPWAY_UP ? w->remote : NULL;
    uint32_t id = path_id(w);
    char text[ADDR_TEXT_MAX];
    if (r)
        trail_add(&r->trail, "%s: the TCP connection has ended", addr_format(&w->addr, text));
    tcpway_close(w);
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
        tcpway_refuse(w);
        return;
    }
    if (carries_session(w))
        w->used_ms = now;
    if (w->broken || now - w->used_ms > IDLE_MS)
        way_lost(w);
    else
        loop_timer(tcpway_loop(w->all), t, LOOK_MS);
}

/* Packets -------------------------------------------------------------------------------------- */

static void events_set(struct tcpway *w)
{
    bool out = w->out_used > w->out_at;
    struct epoll_event e = {.events = out ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = &w->watch};
    (void)epoll_ctl(tcpway_loop(w->all)->epoll_fd, EPOLL_CTL_MOD, w->fd, &e);
}

/* Not freed here: a session may be in the midst of sending. */
static void way_break(struct tcpway *w)
{
    w->broken = true;
    w->out_at = w->out_used = 0;
    loop_timer(tcpway_loop(w->all), &w->limit, 0);
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

/* The beginning of one ------------------------------------------------------------------------- */

void tcpway_up(struct tcpway *w)
{
    struct remote *r = w->remote;
    struct quic_path path = {path_id(w), w->addr};
    char text[ADDR_TEXT_MAX];
    w->in = malloc(IN_MAX);
    w->out = malloc(OUT_MAX);
    if (!w->in || !w->out) {
        tcpway_close(w);
        return;
    }
    w->state = TCPWAY_UP;
    w->used_ms = clock_now_ms();
    w->all->greeted++;
    loop_timer(tcpway_loop(w->all), &w->limit, LOOK_MS);
    events_set(w);
    attempt_tcp(r, w->role, &w->addr, ATTEMPT_GREETED, 0);
    trail_add(&r->trail, "%s: greeted over TCP", addr_format(&w->addr, text));
    tcpways_enough(r, w->role);
    punching_worked(r, w->role, TECHNIQUE_TCP);
    path_found(r, &path, CANDIDATE_HOST);
}

size_t tcpways_standing(const struct remote *r, struct quic_path *ret_paths, size_t max)
{
    size_t n = 0;
    list_for_each(w, &r->peerd->net.tcpways.all, struct tcpway, link)
    {
        if (w->remote == r && w->state == TCPWAY_UP && !w->broken && n < max)
            ret_paths[n++] = (struct quic_path){path_id(w), w->addr};
    }
    return n;
}

size_t tcpway_count_of(const struct tcpways *t, const struct remote *r)
{
    size_t n = 0;
    list_for_each(w, &t->all, struct tcpway, link) n += w->remote == r;
    return n;
}

static void ready(struct watch *watch, uint32_t events)
{
    struct tcpway *w = container_of(watch, struct tcpway, watch);
    (void)events;
    if (w->state == TCPWAY_GREETING)
        tcpway_greeting_read(w);
    else
        packets_move(w);
}

static void options_set(int fd)
{
    const int on = 1, timeout_ms = USER_TIMEOUT_MS, unsent = UNSENT_MAX;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
}

struct tcpway *tcpway_new(struct tcpways *t, const struct addr *addr, int consumed_fd,
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
                         .state = TCPWAY_GREETING,
                         .sequence = r != NULL,
                         .limit.fire = limit_fires,
                         .watch = {-EBADF, ready}};
    if (loop_watch(tcpway_loop(t), &w->watch, w->fd, EPOLLIN) < 0) {
        (void)fd_close(w->fd);
        free(w);
        return NULL;
    }
    options_set(w->fd);
    list_append(&t->all, &w->link);
    t->count++;
    t->strange += !r;
    loop_timer(tcpway_loop(t), &w->limit, GREET_MS);
    return w;
}

/* All ------------------------------------------------------------------------------------------ */

void tcpways_close(struct remote *r)
{
    for (unsigned role = 0; role < PUNCHING_ROLES; role++)
        tcpways_enough(r, role);
    list_for_each(w, &r->peerd->net.tcpways.all, struct tcpway, link) if (w->remote == r)
        tcpway_close(w);
}

void tcpways_done(struct tcpways *t)
{
    if (!t->net)
        return;
    list_for_each(w, &t->all, struct tcpway, link) tcpway_close(w);
    loop_unwatch(tcpway_loop(t), &t->watch);
    loop_untimer(&t->pause);
    t->fd = fd_close(t->fd);
}
