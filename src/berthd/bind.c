/* What programs bound: a queue, its holders, its options. A bind lives as long as any process holds
 * its queue, and its waiting connections a little longer, for a successor. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <linux/sockios.h>

#include "base/log.h"
#include "berthd/pool.h"
#include "berthd/quota.h"

/* Room for about a thousand waiting connections, where the system lets us. */
#define QUEUE_BYTES     (8 << 20)
#define MESSAGES_A_TURN 64
/* Kept for the commands of people, who are to find out what is the matter. */
#define SPARE_DESCRIPTORS 24
/* Numbers passed over because their names are still in use. */
#define HELD_MAX 32
/* A program closes its descriptor just after it has said so. */
#define CLOSED_CHECK_MS   20
#define SHORTAGE_CHECK_MS 1000

/* The last holder is gone. With connections still in the queue it waits for a successor. */
static void bind_abandon(struct bind *b)
{
    int bytes = 0;
    /* What waits for a worker of a pool is taken by another. */
    if (b->parent || ioctl(b->read_fd, SIOCINQ, &bytes) < 0 || bytes == 0 || b->orphan) {
        struct app *a = b->app;
        bind_free(b);
        app_free_if_idle(a);
        return;
    }
    log_info("orphaned app=%s queue=%u", b->app->name, b->id);
    b->orphan = true;
    b->listening = false;
    claims_free(b);
    loop_timer(&b->server->loop, &b->timer, ORPHAN_MS);
}

/* A process that has ended, and whose parent has not asked for its status, hides its descriptors.
 */
static bool holder_lives(const struct bind *b)
{
    struct pollfd p = {.fd = b->holder_fd, .events = POLLIN};
    return b->holder_fd >= 0 && poll(&p, 1, 0) == 0;
}

bool bind_check(struct bind *b)
{
    if (b->base)
        return true;
    pid_t pid = b->holder;
    /* Mostly the one that we know: a whole walk is for when it is not. */
    bool known = holder_lives(b) && holders_has(b->inode, pid);
    int found = known ? 1 : holders_find(b->server, b->inode, &pid, 1);
    if (found < 0) {
        /* We are short of descriptors, which says nothing about the queue. */
        loop_timer(&b->server->loop, &b->timer, SHORTAGE_CHECK_MS);
        return true;
    }
    if (found == 0) {
        bind_abandon(b);
        return false;
    }
    bind_watch_holder(b, pid);
    return true;
}

static void bind_timer(struct timer *t)
{
    struct bind *b = container_of(t, struct bind, timer);
    struct server *s = b->server;
    if (b->orphan)
        bind_abandon(b); /* No successor came in time. */
    else
        (void)bind_check(b);
    (void)dispatch_commit(s);
}

static void holder_exited(struct watch *w, uint32_t events)
{
    (void)events;
    struct bind *b = container_of(w, struct bind, holder_watch);
    struct server *s = b->server;
    loop_unwatch(&s->loop, w);
    b->holder_fd = fd_close(b->holder_fd);
    b->holder = 0;
    if (!b->orphan)
        (void)bind_check(b);
    (void)dispatch_commit(s);
}

void bind_watch_holder(struct bind *b, pid_t pid)
{
    if (b->holder == pid && b->holder_fd >= 0)
        return;
    loop_unwatch(&b->server->loop, &b->holder_watch);
    (void)fd_close(b->holder_fd);
    b->holder = pid;
    b->holder_fd = pidfd_of(pid);
    b->holder_watch.ready = holder_exited;
    if (b->holder_fd >= 0 &&
        loop_watch(&b->server->loop, &b->holder_watch, b->holder_fd, EPOLLIN) == 0)
        return;
    /* It is gone already: see who is left, soon but not from within this look. */
    b->holder_fd = fd_close(b->holder_fd);
    loop_timer(&b->server->loop, &b->timer, CLOSED_CHECK_MS);
}

static void message_option(struct bind *b, const struct appmsg *m)
{
    struct option_value o = {.level = m->level, .name = m->option, .len = (uint8_t)m->value.n};
    if (m->value.n > sizeof o.value || !option_allowed(m->level, m->option))
        return;
    memcpy(o.value, m->value.p, m->value.n);
    bind_add_option(b, &o);
}

/* Programs speak to us through their own end of the queue, too: it works in every process that
 * holds it, whatever it may not reach any more. */
static bool queue_message(struct bind *b)
{
    uint8_t buf[256];
    char reason[REASON_MAX] = "";
    struct appmsg m;
    ssize_t n = recv(b->write_fd, buf, sizeof buf, MSG_DONTWAIT | MSG_TRUNC);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            loop_unwatch(&b->server->loop, &b->write_watch);
        return false;
    }
    if ((size_t)n > sizeof buf || appmsg_decode(&m, buf, (size_t)n) < 0)
        return true;
    if (m.type == APPMSG_OPTION)
        message_option(b, &m);
    else if (m.type == APPMSG_CLOSED && !b->orphan && b->timer.at_ms == 0)
        loop_timer(&b->server->loop, &b->timer, CLOSED_CHECK_MS);
    else if (m.type == APPMSG_LISTEN && bind_listen(b, reason) < 0)
        log_warn("listen refused app=%s reason=%s", b->app->name, reason);
    return true;
}

/* Somebody who sends without end is read again when others have had their turn. */
void bind_read_messages(struct bind *b)
{
    for (int i = 0; i < MESSAGES_A_TURN && queue_message(b); i++)
        ;
}

static void queue_readable(struct watch *w, uint32_t events)
{
    (void)events;
    struct bind *b = container_of(w, struct bind, write_watch);
    bind_read_messages(b);
    (void)dispatch_commit(b->server);
}

struct bind *bind_new_consume(struct app *a, uint32_t id, int write_fd, int read_fd)
{
    struct stat st = {0};
    struct bind *b = calloc(1, sizeof *b);
    if (!b || fstat(read_fd, &st) < 0 || id == UINT32_MAX) {
        free(b);
        (void)fd_close(write_fd);
        (void)fd_close(read_fd);
        return NULL;
    }
    list_init(&b->claims);
    list_init(&b->members);
    list_init(&b->member_link);
    list_append(&a->server->binds, &b->link);
    list_append(&a->binds, &b->app_link);
    b->app = a;
    b->server = a->server;
    b->id = id;
    b->write_fd = write_fd;
    b->read_fd = read_fd;
    b->inode = st.st_ino;
    b->holder_fd = b->holder_watch.fd = b->write_watch.fd = b->demand_watch.fd = -EBADF;
    if (b->server->board) {
        b->delivered_before = board_get(&b->server->board->queues[id].delivered);
        b->refused_before = board_get(&b->server->board->queues[id].refused);
    }
    b->timer.fire = bind_timer;
    b->write_watch.ready = queue_readable;
    if (loop_watch(&a->server->loop, &b->write_watch, write_fd, EPOLLIN) < 0)
        log_warn("queue not watched app=%s", a->name);
    return b;
}

static int queue_name_bind(int fd, const struct appmsg *m, uint32_t id, uint32_t nonce)
{
    struct queue_name name = {m->addr, m->v6only, id, nonce};
    if (m->addr.sa.sa_family == AF_UNSPEC)
        name.addr = addr_make(AF_INET, (uint8_t[4]){0}, 0);
    struct sockaddr_un un;
    socklen_t len;
    queue_name_format(&name, &un, &len);
    return bind(fd, (struct sockaddr *)&un, len) < 0 ? -errno : 0;
}

/* A number under which the queue gets its name. One that was given back may still belong to a queue
 * that a program, or dispatch for a moment, holds on to. */
static uint32_t queue_number_take(struct server *s, int read_fd, const struct appmsg *m)
{
    uint32_t held[HELD_MAX], id;
    size_t n = 0;
    int r;
    for (;;) {
        id = numbers_take(&s->bind_numbers);
        r = id == UINT32_MAX ? 0 : queue_name_bind(read_fd, m, id, s->nonce);
        if (r != -EADDRINUSE || n == HELD_MAX)
            break;
        held[n++] = id;
    }
    if (r < 0)
        log_warn("queue has no name err=%s", strerror(-r));
    while (n > 0)
        numbers_give(&s->bind_numbers, held[--n]);
    return id;
}

/* The lowest free number is dealt out first: while the first of the last few is free, they all are.
 */
bool descriptors_left(bool for_base)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur <= SPARE_DESCRIPTORS)
        return true;
    /* Pools that listen are of no use when none of their workers finds a place. */
    rlim_t spare = SPARE_DESCRIPTORS + (for_base ? limit.rlim_cur / 4 : 0);
    int first = limit.rlim_cur > spare ? (int)(limit.rlim_cur - spare) : 0;
    CLEANUP_FD int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, first);
    return fd == first || (fd < 0 && errno != EMFILE);
}

struct bind *bind_open(struct app *a, const struct appmsg *m)
{
    int pair[2], bytes = QUEUE_BYTES;
    if (!descriptors_left(false) || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return NULL;
    if (setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
        (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    uint32_t id = queue_number_take(a->server, pair[1], m);
    struct bind *b = bind_new_consume(a, id, pair[0], pair[1]);
    if (!b)
        return NULL;
    b->addr = m->addr;
    b->v6only = m->v6only;
    b->flags = m->flags;
    return b;
}

/* A native bind has no address: there is one of an application, where its routes are. */
static bool same_address(const struct bind *b, const struct appmsg *m)
{
    if (b->flags & m->flags & APPMSG_NATIVE)
        return true;
    return addr_equal(&b->addr, &m->addr) && b->v6only == m->v6only;
}

static bool same_routes(const struct app *a, const struct app *b)
{
    if (a->route_count != b->route_count)
        return false;
    for (size_t i = 0; i < a->route_count; i++)
        if (strcmp(a->routes[i], b->routes[i]) != 0)
            return false;
    return true;
}

/* The same application has bound this address before: a worker beside it, or what it left. */
static struct bind *bind_find_own(struct app *a, const struct appmsg *m)
{
    list_for_each(b, &a->binds, struct bind, app_link) if (same_address(b, m)) return b;
    return NULL;
}

static bool same_place(const struct bind *b, const struct app *a, const struct appmsg *m)
{
    return b->app->uid == a->uid && strcmp(b->app->name, a->name) == 0 && same_address(b, m) &&
           (!(m->flags & APPMSG_NATIVE) || same_routes(b->app, a));
}

/* A successor may be faster than the news that its predecessor is gone. */
static void predecessors_check(struct app *a, const struct appmsg *m)
{
    list_for_each(b, &a->server->binds, struct bind, link)
    {
        if (b->app != a && !b->orphan && same_place(b, a, m))
            (void)bind_check(b);
    }
}

/* The queue of a predecessor that died with connections waiting, moved to its successor. */
static struct bind *bind_inherit(struct app *a, const struct appmsg *m)
{
    predecessors_check(a, m);
    list_for_each(b, &a->server->binds, struct bind, link)
    {
        if (!b->orphan || !same_place(b, a, m))
            continue;
        struct app *old = b->app;
        loop_untimer(&b->timer);
        list_remove(&b->app_link);
        list_append(&a->binds, &b->app_link);
        b->app = a;
        b->orphan = false;
        b->flags = m->flags;
        b->option_count = 0;
        log_info("inherited app=%s queue=%u", a->name, b->id);
        app_free_if_idle(old);
        return b;
    }
    return NULL;
}

int bind_get(struct app *a, const struct appmsg *m, pid_t pid, struct bind **ret_bind,
             char reason[REASON_MAX])
{
    struct server *s = a->server;
    struct bind *b = bind_find_own(a, m);
    bool shared = b && b->flags & m->flags & APPMSG_REUSEPORT;
    if (b && !b->orphan && !shared && bind_check(b)) {
        (void)snprintf(reason, REASON_MAX, "%s has bound this address already", a->name);
        return -EADDRINUSE;
    }
    b = bind_find_own(a, m);
    if (!b || b->orphan) {
        int admitted = quota_check(s, a->uid, QUOTA_BINDS, reason);
        if (admitted < 0)
            return admitted;
        b = bind_inherit(a, m);
        bool fresh = !b;
        if (fresh)
            b = bind_open(a, m);
        if (!b)
            return -ENOMEM;
        int r = claims_make(b, reason);
        if (r < 0) {
            bind_free(b);
            return r;
        }
        if (fresh)
            dispatch_bind(s, b);
        else
            dispatch_bind_note(s, b);
    }
    bind_watch_holder(b, pid);
    *ret_bind = b;
    return 0;
}

struct bind *bind_find(struct server *s, uint32_t id)
{
    list_for_each(b, &s->binds, struct bind, link) if (b->id == id) return b;
    return NULL;
}

void bind_mark_listening(const struct bind *b)
{
    int priority = 5;
    (void)setsockopt(b->read_fd, SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority);
}

int bind_listen(struct bind *b, char reason[REASON_MAX])
{
    if (b->listening || b->orphan)
        return 0;
    if (b->parent)
        return pool_listen(b, reason);
    int r = claims_listen(b, reason);
    if (r < 0)
        return r;
    b->listening = true;
    bind_mark_listening(b);
    dispatch_bind_note(b->server, b);
    return 0;
}

void bind_unlisten(struct bind *b)
{
    claims_free(b);
    b->listening = false;
    dispatch_bind_note(b->server, b);
}

void bind_add_option(struct bind *b, const struct option_value *o)
{
    /* Each worker of a program says the same. */
    for (size_t i = b->option_count; i > 0; i--) {
        const struct option_value *had = &b->options[i - 1];
        if (had->level != o->level || had->name != o->name)
            continue;
        if (had->len == o->len && memcmp(had->value, o->value, o->len) == 0)
            return;
        break;
    }
    if (b->option_count == OPTIONS_MAX)
        return;
    b->options[b->option_count++] = *o;
    dispatch_option(b->server, b, o);
}

void bind_free(struct bind *b)
{
    struct server *s = b->server;
    list_for_each(member, &b->members, struct bind, member_link) bind_free(member);
    if (b->worker)
        pool_member_gone(b);
    claims_free(b);
    loop_untimer(&b->timer);
    loop_unwatch(&s->loop, &b->demand_watch);
    loop_unwatch(&s->loop, &b->holder_watch);
    loop_unwatch(&s->loop, &b->write_watch);
    dispatch_drop(s, DISPATCH_DROP_QUEUE, b->id);
    numbers_give(&s->bind_numbers, b->id);
    list_remove(&b->link);
    list_remove(&b->app_link);
    list_remove(&b->member_link);
    (void)fd_close(b->holder_fd);
    (void)fd_close(b->write_fd);
    (void)fd_close(b->read_fd);
    free(b);
}
