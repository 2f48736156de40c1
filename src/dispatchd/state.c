/* The control side of dispatch: keeps what berthd told in tables by number, freezes them into a
 * snapshot at COMMIT, and gives everything back to a new berthd that asks. Messages come in,
 * snapshots go out. */
#include "dispatchd/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/log.h"
#include "ipc/fdmsg.h"

/* Numbers are dealt out densely by berthd; a larger one is nonsense. */
#define NUMBERS_MAX BOARD_CLAIMS_MAX
/* Twelve days. */
#define NEVER_MS (1u << 30)
/* Beside the time that a client has for its name: for answers on their way. */
#define RETIRE_MS 2000

struct kept_queue {
    struct queue *queue;
    char *note;
    size_t note_len;
    uint32_t parent; /* a member's base */
    struct dispatch_policy policy;
    bool held; /* as of the last COMMIT */
};

struct claim {
    char *route; /* canonical text; NULL: no claim of this number */
    struct addr bound;
    bool v6only;
    uint32_t queue, app;
    uint16_t refuse;
};

/* An array that grows to the number asked for. */
struct table {
    void *items;
    size_t count, item_size;
};

struct state {
    struct table listeners, queues, claims; /* struct listener *, struct kept_queue, struct claim */
    struct queue **dropped;                 /* since the last COMMIT; each a reference */
    size_t dropped_count;
    int board_fd;
    struct shared shared;
    struct worker_limits limits;
    uint32_t connections_max; /* what descriptors allow */
    struct logfile *logs[DISPATCH_LOG_COUNT];
    uint64_t retire_ms; /* it ends then at the latest; 0: it serves */
    int left[2];        /* the process's */
    pid_t keeper;
    size_t next_source;
    size_t worker_count;
    struct worker *workers[DISPATCH_THREADS];
};

static void *table_at(struct table *t, uint32_t i)
{
    return i < t->count ? (char *)t->items + i * t->item_size : NULL;
}

static void *table_grow(struct table *t, uint32_t i)
{
    if (i < t->count)
        return table_at(t, i);
    if (i >= NUMBERS_MAX)
        return NULL;
    size_t count = t->count ? t->count : 16;
    while (count <= i)
        count *= 2;
    char *items = reallocarray(t->items, count, t->item_size);
    if (!items)
        return NULL;
    memset(items + t->count * t->item_size, 0, (count - t->count) * t->item_size);
    t->items = items;
    t->count = count;
    return table_at(t, i);
}

static struct board *board_map(int *ret_fd)
{
    int fd = memfd_create("berth-board", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return NULL;
    void *at = MAP_FAILED;
    /* berthd reads it: a page that could be cut short would be its end. */
    if (ftruncate(fd, sizeof(struct board)) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0)
        at = mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        (void)fd_close(fd);
        return NULL;
    }
    *ret_fd = fd;
    return at;
}

struct state *state_new(const struct state_config *config)
{
    struct state *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->listeners.item_size = sizeof(struct listener *);
    s->queues.item_size = sizeof(struct kept_queue);
    s->claims.item_size = sizeof(struct claim);
    s->shared.board = board_map(&s->board_fd);
    s->limits = config->limits;
    s->connections_max = config->limits.connections;
    s->shared.undecided = sources_new();
    if (!s->shared.board || !s->shared.undecided)
        return NULL;
    memcpy(s->left, config->left, sizeof s->left);
    s->keeper = config->keeper;
    for (size_t i = 0; i < config->threads; i++) {
        s->workers[i] = worker_new(i, &config->limits, &s->shared);
        if (s->workers[i] && config->slots)
            worker_tell_sending(s->workers[i], &config->slots[i].sending);
        if (s->workers[i] && config->keeper > 0 && i == 0)
            worker_take_left(s->workers[i], config->left[0]);
        if (!s->workers[i] || worker_start(s->workers[i]) < 0)
            return NULL;
        s->worker_count++;
    }
    return s;
}

struct board *state_board(struct state *s)
{
    return s->shared.board;
}

static int handle_listener(struct state *s, const struct dispatchmsg *m, int *fds, size_t fd_count)
{
    struct listener **at = table_grow(&s->listeners, m->id);
    if (!at || fd_count == 0)
        return -EBADMSG;
    struct listener *l = listener_new_consume(m->id, fds, fd_count);
    for (size_t i = 0; i < fd_count; i++)
        fds[i] = -EBADF;
    if (!l)
        return -ENOMEM;
    l->bound = m->addr;
    l->v6only = m->v6only;
    l->proxy = m->flags & DISPATCH_PROXY;
    listener_unref(*at);
    *at = l;
    return 0;
}

static void queue_drop(struct state *s, struct kept_queue *k)
{
    free(k->note);
    struct queue **more = reallocarray(s->dropped, s->dropped_count + 1, sizeof *more);
    if (more) {
        s->dropped = more;
        s->dropped[s->dropped_count++] = k->queue;
    } else {
        queue_unref(k->queue);
    }
    *k = (struct kept_queue){0};
}

static int queue_make_consume(struct state *s, struct kept_queue *k, const struct dispatchmsg *m,
                              int fds[2])
{
    if (m->flags & DISPATCH_POOL && m->flags & DISPATCH_MEMBER)
        return -EBADMSG;
    queue_unref(k->queue);
    k->queue = queue_new_consume(m->id, m->flags, fds[0], fds[1]);
    fds[0] = fds[1] = -EBADF;
    if (!k->queue)
        return -ENOMEM;
    (void)snprintf(k->queue->name, sizeof k->queue->name, STR_FMT, STR_ARG(m->name));
    k->parent = m->parent;
    k->held = false;
    struct board_queue *b = &s->shared.board->queues[m->id % BOARD_QUEUES_MAX];
    atomic_store(&b->parked, (uint64_t)k->queue->parked);
    atomic_store(&b->open, 0);
    return 0;
}

/* A queue that is known already keeps its ends, its kind, its name and what waits for it; note and
 * policy are new. */
static int handle_queue(struct state *s, const struct dispatchmsg *m, int *fds, size_t fd_count)
{
    struct kept_queue *k = table_grow(&s->queues, m->id);
    char *note = malloc(m->note.n + 1);
    if (!k || !note || (fd_count != 2 && !(fd_count == 0 && k->queue))) {
        free(note);
        return -EBADMSG;
    }
    memcpy(note, m->note.p, m->note.n);
    free(k->note);
    k->note = note;
    k->note_len = m->note.n;
    k->policy = m->policy;
    return fd_count == 2 ? queue_make_consume(s, k, m, fds) : 0;
}

static int handle_option(struct state *s, const struct dispatchmsg *m)
{
    struct kept_queue *k = table_at(&s->queues, m->id);
    struct option_value o = {.level = m->level, .name = m->option, .len = (uint8_t)m->value.n};
    if (!k || !k->queue || m->value.n > sizeof o.value)
        return -EBADMSG;
    memcpy(o.value, m->value.p, m->value.n);
    int r = queue_add_option(k->queue, &o);
    if (r < 0)
        log_debug("option passed over queue=%u level=%d option=%d", m->id, m->level, m->option);
    return 0;
}

static int handle_claim(struct state *s, const struct dispatchmsg *m)
{
    struct claim *c = table_grow(&s->claims, m->id);
    char *route = c ? strndup(m->route.p, m->route.n) : NULL;
    if (!route)
        return -EBADMSG;
    free(c->route);
    *c = (struct claim){route, m->addr, m->v6only, m->queue, m->app, m->refuse};
    return 0;
}

static int handle_drop(struct state *s, const struct dispatchmsg *m)
{
    struct listener **l = table_at(&s->listeners, m->id);
    struct kept_queue *k = table_at(&s->queues, m->id);
    struct claim *c = table_at(&s->claims, m->id);
    if (m->type == DISPATCH_DROP_LISTENER && l) {
        listener_unref(*l);
        *l = NULL;
    } else if (m->type == DISPATCH_DROP_QUEUE && k && k->queue) {
        queue_drop(s, k);
    } else if (m->type == DISPATCH_DROP_CLAIM && c) {
        free(c->route);
        *c = (struct claim){0};
    }
    return 0;
}

static int handle_reset(struct state *s)
{
    for (uint32_t i = 0; i < s->listeners.count; i++)
        (void)handle_drop(s, &(struct dispatchmsg){.type = DISPATCH_DROP_LISTENER, .id = i});
    for (uint32_t i = 0; i < s->claims.count; i++)
        (void)handle_drop(s, &(struct dispatchmsg){.type = DISPATCH_DROP_CLAIM, .id = i});
    return 0;
}

/* A pool for each queue that is no member's; by number in by_id. */
static int pools_freeze(struct state *s, struct snapshot *snap, struct pool **by_id)
{
    for (uint32_t i = 0; i < s->queues.count; i++) {
        struct kept_queue *k = table_at(&s->queues, i);
        if (!k->queue || k->queue->flags & DISPATCH_MEMBER)
            continue;
        by_id[i] = pool_new(k->queue, &k->policy);
        if (!by_id[i] || (k->policy.per_source && queue_count_sources(k->queue) < 0))
            return -ENOMEM;
        snap->pools[snap->pool_count++] = by_id[i];
    }
    return 0;
}

static int members_freeze(struct state *s, struct pool **by_id)
{
    for (uint32_t i = 0; i < s->queues.count; i++) {
        struct kept_queue *k = table_at(&s->queues, i);
        bool member = k->queue && k->queue->flags & DISPATCH_MEMBER;
        struct pool *p = member && k->parent < s->queues.count ? by_id[k->parent] : NULL;
        if (!p || !(p->queue->flags & DISPATCH_POOL))
            continue;
        if (!k->queue->base)
            k->queue->base = queue_ref(p->queue);
        /* The number of a base that is gone may be another's by now. */
        if (k->queue->base != p->queue)
            continue;
        int r = pool_add(p, k->queue, k->policy.state == DISPATCH_SERVE);
        if (r == -ENOSPC)
            log_error("member gets nothing queue=%u reason=TooMany", i);
        else if (r < 0)
            return r;
    }
    return 0;
}

/* No listener brings its connections, so it is in a list of its own. */
static void service_add(struct snapshot *snap, const struct route *r, uint32_t claim)
{
    struct service *entry = &snap->services[snap->service_count++];
    *entry = (struct service){.claim = claim};
    (void)snprintf(entry->name, sizeof entry->name, "%.40s", r->host);
}

static size_t services_count(const struct state *s)
{
    size_t n = 0;
    for (uint32_t i = 0; i < s->claims.count; i++) {
        const struct claim *c = (const struct claim *)s->claims.items + i;
        n += c->route && strncmp(c->route, "peer:", 5) == 0;
    }
    return n;
}

/* Adds the entries of the routing table one by one, as each takes 1.5 KiB, and by claim number the
 * targets. */
static void claims_freeze(struct state *s, struct route_builder *routes, struct snapshot *snap,
                          struct pool **by_id)
{
    for (uint32_t i = 0; i < s->claims.count; i++) {
        struct claim *c = table_at(&s->claims, i);
        struct pool *p = c->queue < s->queues.count ? by_id[c->queue] : NULL;
        struct route_entry e;
        char reason[ROUTE_REASON_MAX];
        if (!c->route || (!p && !c->refuse))
            continue;
        if (route_parse(c->route, &e.route, reason) < 0) {
            log_error("route not understood claim=%u reason=%s", i, reason);
            continue;
        }
        if (e.route.scheme == SCHEME_PEER) {
            service_add(snap, &e.route, i);
            snap->targets[i] = (struct target){p, c->refuse};
            continue;
        }
        e.bound = c->bound;
        e.v6only = c->v6only;
        e.claim = i;
        e.app = c->app;
        route_builder_add(routes, &e);
        snap->targets[i] = (struct target){p, c->refuse};
    }
}

static int snapshot_fill(struct state *s, struct snapshot *snap, struct route_builder *routes,
                         struct pool **by_id)
{
    for (uint32_t i = 0; i < s->listeners.count; i++) {
        struct listener **l = table_at(&s->listeners, i);
        if (*l)
            snap->listeners[snap->listener_count++] = listener_ref(*l);
    }
    snap->limits = s->limits;
    for (size_t i = 0; i < DISPATCH_LOG_COUNT; i++)
        snap->logs[i] = logfile_ref(s->logs[i]);
    int r = pools_freeze(s, snap, by_id);
    if (r == 0)
        r = members_freeze(s, by_id);
    if (r < 0)
        return r;
    snap->claim_count = s->claims.count;
    claims_freeze(s, routes, snap, by_id);
    snapshot_services_sort(snap);
    snap->routes = route_builder_finish(routes);
    return snap->routes ? 0 : -ENOMEM;
}

static struct snapshot *freeze(struct state *s)
{
    struct snapshot *snap = calloc(1, sizeof *snap);
    struct route_builder *routes = route_builder_new();
    struct pool **by_id = calloc(s->queues.count + 1, sizeof(struct pool *));
    if (snap) {
        snap->refs = 1;
        snap->listeners = calloc(s->listeners.count + 1, sizeof(struct listener *));
        snap->targets = calloc(s->claims.count + 1, sizeof *snap->targets);
        snap->pools = calloc(s->queues.count + 1, sizeof(struct pool *));
        snap->services = calloc(services_count(s) + 1, sizeof *snap->services);
    }
    bool room = snap && routes && by_id && snap->listeners && snap->targets && snap->pools &&
                snap->services;
    if (!room || snapshot_fill(s, snap, routes, by_id) < 0) {
        snapshot_unref(snap);
        snap = NULL;
    }
    route_builder_free(routes);
    free(by_id);
    return snap;
}

static int reply(int channel, const struct dispatchmsg *m, const int *fds, size_t fd_count)
{
    uint8_t buf[DISPATCHMSG_MAX];
    int n = dispatchmsg_encode(m, buf, sizeof buf);
    return n < 0 ? n : fdmsg_send(channel, buf, (size_t)n, fds, fd_count, 0);
}

/* A member that began to drain gets nothing new: what it has not taken goes to others. */
static void held_take_back(struct state *s)
{
    for (uint32_t i = 0; i < s->queues.count; i++) {
        struct kept_queue *k = table_at(&s->queues, i);
        bool member = k->queue && k->queue->flags & DISPATCH_MEMBER;
        bool holds = member && k->policy.state != DISPATCH_SERVE;
        if (holds && !k->held)
            worker_drain(s->workers[0], k->queue);
        k->held = holds;
    }
}

static int handle_commit(struct state *s, int channel, const struct dispatchmsg *m)
{
    struct snapshot *snap = freeze(s);
    if (!snap) {
        log_error("change not taken up reason=NoMemory");
        return -ENOMEM;
    }
    for (size_t i = 0; i < s->dropped_count; i++)
        atomic_store(&s->dropped[i]->dropped, true);
    for (size_t i = 0; i < s->worker_count; i++)
        worker_publish(s->workers[i], snap);
    snapshot_unref(snap);
    /* Only now is no thread left that could still put something into them. */
    held_take_back(s);
    for (size_t i = 0; i < s->dropped_count; i++) {
        worker_drain(s->workers[0], s->dropped[i]);
        queue_unref(s->dropped[i]);
    }
    s->dropped_count = 0;
    return reply(channel, &(struct dispatchmsg){.type = DISPATCH_COMMITTED, .id = m->id}, NULL, 0);
}

static int handle_recover(struct state *s, int channel)
{
    int r = 0;
    for (uint32_t i = 0; i < s->queues.count && r >= 0; i++) {
        struct kept_queue *k = table_at(&s->queues, i);
        if (!k->queue)
            continue;
        struct dispatchmsg m = {.type = DISPATCH_QUEUE,
                                .id = i,
                                .flags = k->queue->flags,
                                .parent = k->parent,
                                .policy = k->policy,
                                .name = str_of(k->queue->name),
                                .note = {k->note, k->note_len}};
        r = reply(channel, &m, (int[]){k->queue->write_fd, k->queue->read_fd}, 2);
    }
    for (uint32_t i = 0; i < s->listeners.count && r >= 0; i++) {
        struct listener **l = table_at(&s->listeners, i);
        if (!*l)
            continue;
        struct dispatchmsg m = {.type = DISPATCH_LISTENER,
                                .id = i,
                                .flags = (*l)->proxy ? DISPATCH_PROXY : 0,
                                .addr = (*l)->bound,
                                .v6only = (*l)->v6only};
        r = reply(channel, &m, (*l)->fds, (*l)->fd_count);
    }
    if (r >= 0)
        r = reply(channel, &(struct dispatchmsg){.type = DISPATCH_BOARD},
                  (int[]){s->board_fd, s->left[0], s->left[1]}, s->keeper > 0 ? 3 : 1);
    if (r >= 0)
        r = reply(channel,
                  &(struct dispatchmsg){.type = DISPATCH_RECOVERED,
                                        .id = (uint32_t)getpid(),
                                        .flags = (uint32_t)s->keeper},
                  NULL, 0);
    return r;
}

static int handle_diag(struct state *s, int *fds, size_t fd_count)
{
    for (size_t i = 0; i < fd_count && i < s->worker_count; i++)
        worker_diag_consume(s->workers[i], fd_take(&fds[i]));
    return fd_count > 0 ? 0 : -EBADMSG;
}

/* No limit of time is one that nobody lives to see. */
static uint32_t or_never(uint32_t ms)
{
    return ms > 0 && ms < NEVER_MS ? ms : NEVER_MS;
}

static int handle_limits(struct state *s, const struct dispatch_limits *l)
{
    uint32_t most = s->connections_max;
    s->limits = (struct worker_limits){
        .silence_ms = or_never(l->silence_ms),
        .header_wait_ms = or_never(l->header_wait_ms),
        .connections = l->connections && l->connections < most ? l->connections : most,
        .min_rate = l->min_rate,
        .sniff_bytes = l->sniff_bytes,
        .per_source = l->per_source};
    return 0;
}

static int handle_log(struct state *s, const struct dispatchmsg *m, int *fds, size_t fd_count)
{
    if (m->id >= DISPATCH_LOG_COUNT || fd_count > 1)
        return -EBADMSG;
    logfile_unref(s->logs[m->id]);
    s->logs[m->id] = fd_count ? logfile_new_consume(fd_take(&fds[0])) : NULL;
    return 0;
}

/* The threads take turns. */
static int handle_source(struct state *s, int *fds, size_t fd_count)
{
    if (fd_count != 1)
        return -EBADMSG;
    worker_streams_consume(s->workers[s->next_source++ % s->worker_count], fd_take(&fds[0]));
    return 0;
}

static int handle_retire(struct state *s)
{
    if (s->retire_ms)
        return 0;
    for (size_t i = 0; i < s->worker_count; i++)
        worker_retire(s->workers[i]);
    s->retire_ms = clock_now_ms() + s->limits.header_wait_ms + RETIRE_MS;
    return 0;
}

bool state_is_retiring(const struct state *s)
{
    return s->retire_ms != 0;
}

bool state_retire(struct state *s, int channel)
{
    bool idle = true;
    for (size_t i = 0; i < s->worker_count; i++)
        idle &= worker_is_idle(s->workers[i]);
    if (!s->retire_ms || (!idle && clock_now_ms() < s->retire_ms))
        return false;
    (void)reply(channel, &(struct dispatchmsg){.type = DISPATCH_RETIRED}, NULL, 0);
    return true;
}

/* What a worker got from the dispatch before this one. */
static int handle_open(struct state *s, const struct dispatchmsg *m)
{
    struct kept_queue *k = table_at(&s->queues, m->queue);
    struct ledger_entry *e =
        k && k->queue ? ledger_entry_make(&m->addr, &m->peer, m->cookie) : NULL;
    if (!e)
        return 0;
    open_rebuild(s->workers[0], k->queue, e);
    return 0;
}

/* Takes descriptors out of fds by leaving -EBADF in their place. */
static int handle(struct state *s, int channel, const struct dispatchmsg *m, int *fds,
                  size_t fd_count)
{
    switch (m->type) {
    case DISPATCH_LISTENER:
        return handle_listener(s, m, fds, fd_count);
    case DISPATCH_QUEUE:
        return handle_queue(s, m, fds, fd_count);
    case DISPATCH_OPTION:
        return handle_option(s, m);
    case DISPATCH_CLAIM:
        return handle_claim(s, m);
    case DISPATCH_DROP_LISTENER:
    case DISPATCH_DROP_QUEUE:
    case DISPATCH_DROP_CLAIM:
        return handle_drop(s, m);
    case DISPATCH_RESET:
        return handle_reset(s);
    case DISPATCH_COMMIT:
        return handle_commit(s, channel, m);
    case DISPATCH_DIAG:
        return handle_diag(s, fds, fd_count);
    case DISPATCH_OPEN:
        return handle_open(s, m);
    case DISPATCH_SOURCE:
        return handle_source(s, fds, fd_count);
    case DISPATCH_LIMITS:
        return handle_limits(s, &m->limits);
    case DISPATCH_LOG:
        return handle_log(s, m, fds, fd_count);
    case DISPATCH_RETIRE:
        return handle_retire(s);
    case DISPATCH_RECOVER:
        return handle_recover(s, channel);
    default:
        return -EBADMSG;
    }
}

int state_handle_consume(struct state *s, int channel, const struct dispatchmsg *m, int *fds,
                         size_t fd_count)
{
    int r = handle(s, channel, m, fds, fd_count);
    for (size_t i = 0; i < fd_count; i++)
        (void)fd_close(fds[i]);
    return r;
}
