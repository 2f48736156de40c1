/* berth-dispatch, seen from berthd: started, told what to serve, revived when it dies, and asked
 * for everything when this berthd is the successor of one that died. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/self.h"
#include "berthd/dispatch-rights.h"
#include "berthd/pool.h"
#include "berthd/recover.h"
#include "berthd/reserve.h"
#include "berthd/upstream.h"
#include "ipc/fdmsg.h"
#include "ipc/runtime.h"
#include "launch/proctree.h"

#define CHANNEL_FD    3
#define SUCCESSOR_FD  4
#define LEFT_READ_FD  5
#define LEFT_WRITE_FD 6
#define LEFT_BYTES    (8 << 20)
/* One that served is started again at once; of one that ends at once the starts come ever slower.
 */
#define REVIVE_MS       50
#define REVIVE_MAX_MS   5000
#define SERVED_MS       100
#define SETTLE_MS       1000
#define CHANNEL_SEC     10
#define FINISH_MS       2000
#define TAKE_OVER_TRIES 50
#define TAKE_OVER_MS    20

static void channel_lost(struct server *s)
{
    if (s->channel < 0)
        return;
    loop_unwatch(&s->loop, &s->channel_watch);
    s->channel = fd_close(s->channel);
    if (clock_now_ms() - s->dispatch_born_ms >= SERVED_MS)
        s->revive_ms = 0;
    else
        s->revive_ms = s->revive_ms ? 2 * s->revive_ms : REVIVE_MS;
    if (s->revive_ms > REVIVE_MAX_MS)
        s->revive_ms = REVIVE_MAX_MS;
    log_warn("dispatch is gone: starting it again in_ms=%u", s->revive_ms);
    loop_timer(&s->loop, &s->revive, s->revive_ms);
}

void dispatch_tell(struct server *s, const struct dispatchmsg *m, const int *fds, size_t fd_count)
{
    uint8_t buf[DISPATCHMSG_MAX];
    int n = dispatchmsg_encode(m, buf, sizeof buf);
    if (n < 0) {
        log_error("message to dispatch too long type=%d", m->type);
        return;
    }
    s->changed |= m->type != DISPATCH_COMMIT;
    s->reserve->stale |= m->type != DISPATCH_COMMIT;
    /* Without a dispatch nothing is lost: the next one is told everything. */
    if (s->channel >= 0 && fdmsg_send(s->channel, buf, (size_t)n, fds, fd_count, 0) < 0)
        channel_lost(s);
}

void dispatch_listener_message(const struct shared_listener *l, struct dispatchmsg *ret_msg)
{
    *ret_msg = (struct dispatchmsg){.type = DISPATCH_LISTENER,
                                    .id = l->id,
                                    .flags = l->proxy ? DISPATCH_PROXY : 0,
                                    .addr = l->bound,
                                    .v6only = l->v6only};
}

void dispatch_listener(struct server *s, const struct shared_listener *l)
{
    struct dispatchmsg m;
    dispatch_listener_message(l, &m);
    systemd_store(s, &m, l->fds, l->fd_count);
    dispatch_tell(s, &m, l->fds, l->fd_count);
}

void dispatch_bind_message(const struct bind *b, uint8_t *note, struct dispatchmsg *ret_msg)
{
    const struct app *a = b->app;
    bool proxied = a->flags & APPMSG_PROXY || (a->pool && upstream_wants_header(a->pool->conf));
    *ret_msg = (struct dispatchmsg){.type = DISPATCH_QUEUE,
                                    .id = b->id,
                                    .flags = (b->flags & APPMSG_RICH ? DISPATCH_RICH : 0u) |
                                             (proxied ? DISPATCH_PROXIED : 0u),
                                    .name = str_of(b->app->name),
                                    .note = {(char *)note, recover_note(b, note)}};
    pool_describe(b, ret_msg);
}

static void tell_bind(struct server *s, const struct bind *b, const int *fds, size_t fd_count)
{
    uint8_t note[RECOVER_NOTE_MAX];
    struct dispatchmsg m;
    dispatch_bind_message(b, note, &m);
    systemd_store(s, &m, (int[]){b->write_fd, b->read_fd}, 2);
    dispatch_tell(s, &m, fds, fd_count);
}

void dispatch_bind(struct server *s, const struct bind *b)
{
    tell_bind(s, b, (int[]){b->write_fd, b->read_fd}, 2);
}

void dispatch_bind_note(struct server *s, const struct bind *b)
{
    tell_bind(s, b, NULL, 0);
}

void dispatch_option(struct server *s, const struct bind *b, const struct option_value *o)
{
    struct dispatchmsg m = {.type = DISPATCH_OPTION,
                            .id = b->id,
                            .level = o->level,
                            .option = o->name,
                            .value = {(const char *)o->value, o->len}};
    dispatch_tell(s, &m, NULL, 0);
}

void dispatch_claim(struct server *s, const struct claim *c)
{
    struct dispatchmsg m = {.type = DISPATCH_CLAIM,
                            .id = c->id,
                            .queue = c->bind->id,
                            .app = c->bind->app->id,
                            .addr = c->listener->bound,
                            .v6only = c->listener->v6only,
                            .route = str_of(c->route)};
    dispatch_tell(s, &m, NULL, 0);
}

void dispatch_refusal(struct server *s, uint32_t id, const struct route *r,
                      const struct shared_listener *l, uint16_t status)
{
    char route[ROUTE_TEXT_MAX];
    struct dispatchmsg m = {.type = DISPATCH_CLAIM,
                            .id = id,
                            .queue = UINT32_MAX,
                            .app = UINT32_MAX,
                            .addr = l->bound,
                            .v6only = l->v6only,
                            .route = str_of(route_format(r, route)),
                            .refuse = status};
    dispatch_tell(s, &m, NULL, 0);
}

void dispatch_limits(struct server *s)
{
    dispatch_tell(s, &(struct dispatchmsg){.type = DISPATCH_LIMITS, .limits = s->limits}, NULL, 0);
}

void dispatch_drop(struct server *s, enum dispatchmsg_type type, uint32_t id)
{
    if (type != DISPATCH_DROP_CLAIM)
        systemd_forget(s, type, id);
    dispatch_tell(s, &(struct dispatchmsg){.type = type, .id = id}, NULL, 0);
}

uint32_t dispatch_commit(struct server *s)
{
    if (s->holding)
        return s->serial;
    reserve_refuse_update(s);
    if (!s->changed)
        return s->serial;
    s->changed = false;
    dispatch_tell(s, &(struct dispatchmsg){.type = DISPATCH_COMMIT, .id = ++s->serial}, NULL, 0);
    return s->serial;
}

static void tell_again(struct server *s, const struct bind *b, bool queues)
{
    if (!queues) {
        dispatch_bind_note(s, b);
        return;
    }
    dispatch_bind(s, b);
    for (size_t i = 0; i < b->option_count; i++)
        dispatch_option(s, b, &b->options[i]);
}

/* A dispatch that knows nothing, or another berthd's numbers, is told all that there is. */
static void tell_everything(struct server *s, bool queues)
{
    dispatch_tell(s, &(struct dispatchmsg){.type = DISPATCH_RESET}, NULL, 0);
    dispatch_limits(s);
    dispatch_logs(s);
    if (queues)
        dispatch_diag(s);
    /* A member belongs to a base that is known. */
    list_for_each(b, &s->binds, struct bind, link) if (!b->parent) tell_again(s, b, queues);
    list_for_each(b, &s->binds, struct bind, link) if (b->parent) tell_again(s, b, queues);
    list_for_each(l, &s->listeners, struct shared_listener, link) if (l->listening)
        dispatch_listener(s, l);
    list_for_each(b, &s->binds, struct bind, link) if (b->listening)
        list_for_each(c, &b->claims, struct claim, link) dispatch_claim(s, c);
    reserve_refuse_tell(s);
    for (struct list *l = s->pools.next; queues && l != &s->pools; l = l->next)
        workers_open_tell(container_of(l, struct pool, link));
    (void)dispatch_commit(s);
}

static void board_take_consume(struct server *s, int fd)
{
    void *at = MAP_FAILED;
    if (dispatch_board_is_true(fd))
        at = mmap(NULL, sizeof(struct board), PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        (void)fd_close(fd);
        return;
    }
    if (s->board)
        (void)munmap(s->board, sizeof(struct board));
    (void)fd_close(s->board_fd);
    s->board = at;
    s->board_fd = fd;
}

/* 0 with a message that dispatch may say now; negative when there is none or the
 * channel is lost. */
static int channel_message(struct server *s, struct dispatchmsg *m, uint8_t *buf, int *fds,
                           size_t *fd_count, unsigned when)
{
    int flags = when == SAYS_SERVING ? MSG_DONTWAIT : 0;
    *fd_count = 0;
    ssize_t n = fdmsg_recv(s->channel, buf, DISPATCHMSG_MAX, fds, FDMSG_FDS_MAX, fd_count, flags);
    if (n == -EAGAIN)
        return -EAGAIN;
    bool good = n > 0 && dispatchmsg_decode(m, buf, (size_t)n) == 0;
    if (good && !dispatch_may_say(m->type, when, *fd_count)) {
        log_error("dispatch said what it may not type=%d", m->type);
        good = false;
    }
    if (!good) {
        while (n > 0 && *fd_count > 0)
            (void)fd_close(fds[--*fd_count]);
        channel_lost(s);
        return -EPIPE;
    }
    return 0;
}

static void channel_read(struct server *s)
{
    uint8_t buf[DISPATCHMSG_MAX];
    int fds[FDMSG_FDS_MAX];
    size_t fd_count;
    struct dispatchmsg m;
    if (channel_message(s, &m, buf, fds, &fd_count, SAYS_SERVING) == 0 &&
        (int32_t)(s->serial - m.id) >= 0)
        s->committed = m.id;
}

static void channel_ready(struct watch *w, uint32_t events)
{
    (void)events;
    struct server *s = container_of(w, struct server, channel_watch);
    channel_read(s);
    control_committed(s);
}

bool dispatch_is_settled(const struct server *s)
{
    return !s->changed && s->committed == s->serial;
}

bool dispatch_settle(struct server *s)
{
    uint32_t serial = dispatch_commit(s);
    if (s->committed == serial)
        return false;
    while (s->channel >= 0 && s->committed != serial) {
        struct pollfd p = {.fd = s->channel, .events = POLLIN};
        if (poll(&p, 1, SETTLE_MS) <= 0)
            break;
        channel_read(s);
    }
    return true;
}

static void channel_watch(struct server *s)
{
    s->channel_watch.ready = channel_ready;
    if (loop_watch(&s->loop, &s->channel_watch, s->channel, EPOLLIN) < 0)
        log_error("channel to dispatch not watched");
}

static void exec_dispatch(const struct server *s, int channel)
{
    char path[4096], threads[16], silence[16], wait[16], level[16];
    (void)snprintf(threads, sizeof threads, "%zu", s->threads);
    (void)snprintf(silence, sizeof silence, "%u", s->limits.silence_ms);
    (void)snprintf(wait, sizeof wait, "%u", s->limits.header_wait_ms);
    (void)snprintf(level, sizeof level, "%d", log_level());
    char name[] = "berth-dispatch";
    char *argv[] = {name, threads, silence, wait, level, NULL};
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    /* Of the shell that berthd may have been started from it shares neither signals nor, where the
     * kernel divides time among sessions, time. */
    (void)setsid();
    /* Above where they go to first: neither must overwrite the other. */
    int from[] = {channel, s->successor_fd, s->left[0], s->left[1]};
    static const int to[] = {CHANNEL_FD, SUCCESSOR_FD, LEFT_READ_FD, LEFT_WRITE_FD};
    for (size_t i = 0; i < 4; i++)
        from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 10);
    for (size_t i = 0; i < 4; i++)
        if (dup2(from[i], to[i]) < 0)
            _exit(126);
    if (self_file("berth-dispatch", BERTH_DISPATCH_INSTALLED, path, sizeof path))
        (void)execv(path, argv);
    _exit(127);
}

/* A dispatch that does not answer for so long is as good as dead, and treated so. */
static void channel_limit(int channel)
{
    struct timeval limit = {.tv_sec = CHANNEL_SEC};
    (void)setsockopt(channel, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    (void)setsockopt(channel, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

static int left_open(int ret_pair[2])
{
    int bytes = LEFT_BYTES;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_pair) < 0)
        return -errno;
    if (setsockopt(ret_pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0)
        (void)setsockopt(ret_pair[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return 0;
}

static int spawn(struct server *s)
{
    int pair[2];
    if (s->successor_fd < 0)
        s->successor_fd = runtime_listen(RUNTIME_DISPATCH, 0600);
    if (s->successor_fd < 0)
        return s->successor_fd;
    if (s->left[0] < 0 && left_open(s->left) < 0)
        return -errno;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        exec_dispatch(s, pair[1]);
    (void)fd_close(pair[1]);
    if (pid < 0) {
        (void)fd_close(pair[0]);
        return -EAGAIN;
    }
    s->dispatch_pid = pid;
    s->dispatch_born_ms = clock_now_ms();
    s->channel = pair[0];
    channel_limit(s->channel);
    log_debug("dispatch started pid=%d", pid);
    return 0;
}

static bool process_is_child(pid_t pid, pid_t parent)
{
    struct proctree_process p;
    return proctree_look(pid, &p) == 0 && p.parent == parent;
}

/* Whose dispatch is asked: a new one, one that we know all of already, or a dead berthd's, from
 * which everything is to be learnt. */
enum recover_from { RECOVER_NEW, RECOVER_KNOWN, RECOVER_LEFT };

/* Asks for what dispatch holds: its counters, and what a dead berthd has left becomes ours. */
static int recover(struct server *s, enum recover_from from)
{
    bool rebuild = from == RECOVER_LEFT;
    dispatch_tell(s, &(struct dispatchmsg){.type = DISPATCH_RECOVER}, NULL, 0);
    for (;;) {
        uint8_t buf[DISPATCHMSG_MAX];
        int fds[FDMSG_FDS_MAX];
        size_t fd_count;
        struct dispatchmsg m;
        unsigned when = SAYS_ANSWER | (from == RECOVER_NEW ? 0 : SAYS_REBUILD);
        if (s->channel < 0 || channel_message(s, &m, buf, fds, &fd_count, when) < 0) {
            channel_lost(s);
            return -EPIPE;
        }
        if (m.type == DISPATCH_QUEUE && rebuild) {
            recover_queue_consume(s, &m, fds);
            fd_count = 0;
        } else if (m.type == DISPATCH_LISTENER && rebuild) {
            recover_listener_consume(s, &m, fds, fd_count);
            fd_count = 0;
        } else if (m.type == DISPATCH_BOARD && fd_count > 0) {
            board_take_consume(s, fds[0]);
            fds[0] = -EBADF;
            for (size_t i = 0; i < 2 && fd_count == 3; i++)
                if (s->left[i] < 0)
                    s->left[i] = fd_take(&fds[1 + i]);
        }
        while (fd_count > 0)
            (void)fd_close(fds[--fd_count]);
        if (m.type == DISPATCH_RECOVERED) {
            /* A child's number is known; what it says of itself could be anybody's. */
            if (rebuild)
                s->dispatch_pid = dispatch_peer_pid(s->channel);
            s->keeper_pid = process_is_child((pid_t)m.flags, s->dispatch_pid) ? (pid_t)m.flags : 0;
            return 0;
        }
    }
}

static int start_fresh(struct server *s)
{
    int r = spawn(s);
    if (r == 0)
        r = recover(s, RECOVER_NEW);
    if (r < 0)
        return r;
    channel_watch(s);
    tell_everything(s, true);
    return 0;
}

static void revive(struct timer *t)
{
    struct server *s = container_of(t, struct server, revive);
    /* Should it still live, with its channel lost: two must not serve the same listeners. */
    if (s->dispatch_pid > 0)
        (void)kill(s->dispatch_pid, SIGKILL);
    s->dispatch_pid = 0;
    s->dispatch_restarts++;
    if (start_fresh(s) < 0)
        channel_lost(s);
    if (s->channel < 0 && s->revive.at_ms == 0)
        loop_timer(&s->loop, &s->revive, REVIVE_MAX_MS);
}

int dispatch_replace(struct server *s)
{
    int r = start_fresh(s);
    if (r == 0)
        (void)dispatch_settle(s);
    if (r == 0 && s->channel >= 0 && s->committed == s->serial)
        return 0;
    loop_untimer(&s->revive);
    return r < 0 ? r : -EPIPE;
}

void dispatch_keep_consume(struct server *s, int channel, pid_t pid)
{
    s->channel = channel;
    s->dispatch_pid = pid;
    channel_limit(channel);
    if (recover(s, RECOVER_KNOWN) < 0)
        return;
    channel_watch(s);
    tell_everything(s, false);
}

bool dispatch_is(const struct server *s, pid_t pid)
{
    return pid == s->dispatch_pid || pid == s->keeper_pid || retire_has(s, pid);
}

bool dispatch_runs(char reason[REASON_MAX])
{
    char path[4096], line[128] = "";
    const char *command = self_file("berth-dispatch", BERTH_DISPATCH_INSTALLED, path, sizeof path);
    if (!command) {
        (void)snprintf(reason, REASON_MAX, "there is no berth-dispatch beside the new berthd");
        return false;
    }
    int out[2];
    if (pipe2(out, O_CLOEXEC) < 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)execl(command, "berth-dispatch", "--version", (char *)NULL);
        _exit(127);
    }
    (void)fd_close(out[1]);
    ssize_t n = pid < 0 ? -1 : read(out[0], line, sizeof line - 1);
    (void)fd_close(out[0]);
    if (n > 0 && strcmp(line, "berth-dispatch " BERTH_VERSION "\n") == 0)
        return true;
    line[strcspn(line, "\n")] = 0;
    (void)snprintf(reason, REASON_MAX, "%.3000s does not run as version " BERTH_VERSION "%s%s",
                   command, *line ? ": it says " : "", line);
    return false;
}

static int take_over(struct server *s, int channel)
{
    s->channel = channel;
    channel_limit(channel);
    if (recover(s, RECOVER_LEFT) < 0)
        return -EPIPE;
    channel_watch(s);
    s->reserve->recovering = true;
    systemd_restore(s, true);
    recover_finish(s);
    s->reserve->recovering = false;
    tell_everything(s, false);
    log_info("took over from a berthd that died");
    return 0;
}

void dispatch_init(struct server *s)
{
    s->revive.fire = revive;
}

int dispatch_start(struct server *s)
{
    /* A dispatch that has not yet noticed that its berthd died turns us away: it will, soon. */
    for (int i = 0; i < TAKE_OVER_TRIES; i++) {
        int channel = runtime_connect(RUNTIME_DISPATCH);
        if (channel < 0)
            break;
        if (take_over(s, channel) == 0)
            return 0;
        loop_untimer(&s->revive);
        (void)poll(NULL, 0, TAKE_OVER_MS);
    }
    systemd_restore(s, false);
    return start_fresh(s);
}

/* The service manager keeps what waits; what is still looked at is to be decided first. */
static void finish_in_hand(struct server *s)
{
    (void)dispatch_settle(s);
    dispatch_tell(s, &(struct dispatchmsg){.type = DISPATCH_RETIRE}, NULL, 0);
    struct pollfd p = {.fd = s->channel, .events = POLLIN};
    (void)poll(&p, 1, FINISH_MS);
}

void dispatch_stop(struct server *s)
{
    char path[RUNTIME_PATH_MAX];
    if (s->systemd.stores)
        finish_in_hand(s);
    if (s->dispatch_pid > 0)
        (void)kill(s->dispatch_pid, SIGTERM);
    if (runtime_path(RUNTIME_DISPATCH, path) == 0)
        (void)unlink(path);
}
