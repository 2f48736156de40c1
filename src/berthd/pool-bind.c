/* The queues of a pool: a base for each port that it listens on, known from its definition or
 * learnt from the first worker that binds, and for each worker a member beside the bases that it
 * took part in. Only members are read by programs. */
#include <stdio.h>
#include <sys/ioctl.h>

#include <linux/sockios.h>

#include "base/clock.h"
#include "base/log.h"
#include "berthd/pool.h"
#include "berthd/quota.h"
#include "share/reason.h"

static struct bind *base_find(const struct pool *p, uint16_t port)
{
    list_for_each(b, &p->app->binds, struct bind, app_link) if (b->port == port) return b;
    return NULL;
}

static size_t base_count(const struct pool *p)
{
    size_t n = 0;
    list_for_each(b, &p->app->binds, struct bind, app_link) n++;
    return n;
}

static void demand(struct watch *w, uint32_t events)
{
    (void)events;
    struct bind *b = container_of(w, struct bind, demand_watch);
    struct pool *p = b->app->pool;
    if (p->state == POOL_WAITING)
        pool_wake(p);
    else
        pool_demand_watch(p, false);
}

static struct bind *base_new(struct pool *p, const struct appmsg *m)
{
    struct bind *b = descriptors_left(true) ? bind_open(p->app, m) : NULL;
    if (!b)
        return NULL;
    b->base = true;
    b->port = addr_port(&m->addr);
    b->demand_watch.ready = demand;
    dispatch_bind(p->server, b);
    return b;
}

void pool_base_adopt(struct bind *b)
{
    b->base = true;
    b->port = addr_port(&b->addr);
    b->demand_watch.ready = demand;
}

/* Connections that nobody reads yet are what starts a worker; while one is there they are
 * dispatch's affair. */
void pool_demand_watch(struct pool *p, bool on)
{
    list_for_each(b, &p->app->binds, struct bind, app_link)
    {
        bool is_on = b->demand_watch.fd >= 0;
        if (on && !is_on && loop_watch(&p->server->loop, &b->demand_watch, b->read_fd, EPOLLIN) < 0)
            log_warn("demand not watched app=%s", p->conf->name);
        if (!on && is_on)
            loop_unwatch(&p->server->loop, &b->demand_watch);
    }
}

/* Of a pool that is for peers only the one base has no port. */
static bool is_listed(const struct app *a, uint16_t port)
{
    if (port == 0)
        return conf_app_is_for_peers(a->pool->conf);
    for (size_t i = 0; i < a->listen_count; i++)
        if (addr_port(&a->listens[i]) == port)
            return true;
    return false;
}

/* Bases whose port is in the definition no more. */
static void bases_drop(struct pool *p)
{
    list_for_each(b, &p->app->binds, struct bind,
                  app_link) if (b->preset && !is_listed(p->app, b->port)) bind_free(b);
}

/* A port that moves takes its queues along: what is parked, and the workers' members. */
static struct bind *base_move(struct pool *p, const struct addr *to)
{
    list_for_each(b, &p->app->binds, struct bind, app_link)
    {
        if (!b->preset || is_listed(p->app, b->port))
            continue;
        b->addr = *to;
        b->port = addr_port(to);
        return b;
    }
    return NULL;
}

static int base_listen(struct bind *b, char reason[REASON_MAX])
{
    int r = claims_update(b, reason);
    if (r == 0 && b->listening)
        r = claims_listen(b, reason);
    return r < 0 ? r : bind_listen(b, reason);
}

static int base_make(struct pool *p, const struct appmsg *m, char reason[REASON_MAX])
{
    struct bind *b = base_find(p, addr_port(&m->addr));
    if (!b)
        b = base_move(p, &m->addr);
    if (!b)
        b = base_new(p, m);
    if (!b) {
        (void)snprintf(reason, REASON_MAX, "berthd has no descriptors left (see ulimit -n)");
        return -EMFILE;
    }
    b->preset = true;
    return 0;
}

int pool_bases_make(struct pool *p, char reason[REASON_MAX])
{
    int err = 0;
    if (p->app->listen_count == 0 && conf_app_is_for_peers(p->conf))
        err = base_make(p, &(struct appmsg){.type = APPMSG_BIND, .flags = APPMSG_NATIVE}, reason);
    if (err < 0)
        return err;
    for (size_t i = 0; i < p->app->listen_count; i++) {
        struct appmsg m = {.type = APPMSG_BIND, .addr = p->app->listens[i], .v6only = true};
        err = base_make(p, &m, reason);
        if (err < 0)
            return err;
    }
    bases_drop(p);
    list_for_each(b, &p->app->binds, struct bind, app_link)
    {
        int r = base_listen(b, reason);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The base that a worker's bind is for: the one of this port; the only one there is, whatever port
 * the program has of its own; or, where the definition names no address, a new one. */
static int base_for(struct pool *p, const struct appmsg *m, struct bind **ret_base,
                    char reason[REASON_MAX])
{
    uint16_t port = addr_port(&m->addr);
    struct bind *b = base_find(p, port);
    struct bind *only =
        base_count(p) == 1 ? container_of(p->app->binds.next, struct bind, app_link) : NULL;
    bool native = m->flags & APPMSG_NATIVE;
    if (!b && only && (native || !only->program_port || only->program_port == port))
        b = only;
    if (b) {
        if (!native)
            b->program_port = port;
        *ret_base = b;
        return 0;
    }
    if (p->app->listen_count > 0)
        return -ENOENT;
    int r = quota_check(p->server, p->app->uid, QUOTA_BINDS, reason);
    if (r < 0)
        return r;
    b = base_new(p, m);
    if (!b)
        return -ENOMEM;
    r = claims_make(b, reason);
    if (r < 0) {
        bind_free(b);
        return r;
    }
    b->program_port = port;
    *ret_base = b;
    return 0;
}

static struct bind *member_find(const struct worker *w, const struct bind *base,
                                const struct appmsg *m)
{
    list_for_each(b, &w->binds, struct bind,
                  app_link) if (b->parent == base && addr_equal(&b->addr, &m->addr)) return b;
    return NULL;
}

void pool_member_adopt(struct bind *b, struct bind *base, struct worker *w)
{
    list_remove(&b->app_link);
    list_append(&w->binds, &b->app_link);
    list_append(&base->members, &b->member_link);
    b->parent = base;
    b->worker = w;
}

int pool_bind(struct worker *w, const struct appmsg *m, pid_t pid, struct bind **ret_bind,
              char reason[REASON_MAX])
{
    struct bind *base = NULL;
    int r = base_for(w->pool, m, &base, reason);
    if (r < 0)
        return r;
    struct bind *b = member_find(w, base, m);
    if (b && !(b->flags & m->flags & APPMSG_REUSEPORT) && bind_check(b)) {
        (void)snprintf(reason, REASON_MAX, "worker %u of %s has bound this address already",
                       w->number, w->pool->conf->name);
        return -EADDRINUSE;
    }
    b = member_find(w, base, m);
    if (!b) {
        r = quota_check(w->pool->server, w->pool->app->uid, QUOTA_BINDS, reason);
        if (r < 0)
            return r;
        b = bind_open(w->pool->app, m);
        if (!b)
            return -ENOMEM;
        pool_member_adopt(b, base, w);
        dispatch_bind(w->pool->server, b);
    }
    bind_watch_holder(b, pid);
    *ret_bind = b;
    return 0;
}

size_t pool_pass(struct worker *w, int *fds, size_t max)
{
    size_t count = 0;
    list_for_each(base, &w->pool->app->binds, struct bind, app_link)
    {
        struct appmsg m = {
            .type = APPMSG_BIND, .flags = APPMSG_REUSEPORT, .addr = base->addr, .v6only = true};
        struct bind *b = base->preset && count < max ? bind_open(w->pool->app, &m) : NULL;
        if (!b)
            continue;
        pool_member_adopt(b, base, w);
        b->listening = true;
        bind_mark_listening(b);
        dispatch_bind(w->pool->server, b);
        fds[count++] = b->read_fd;
    }
    return count;
}

int pool_listen(struct bind *member, char reason[REASON_MAX])
{
    int r = bind_listen(member->parent, reason);
    if (r < 0)
        return r;
    member->listening = true;
    bind_mark_listening(member);
    worker_listens(member->worker);
    dispatch_bind_note(member->server, member);
    return 0;
}

static uint32_t retry_s(const struct pool *p)
{
    uint64_t now = clock_now_ms();
    return p->retry.at_ms > now ? (uint32_t)((p->retry.at_ms - now + 999) / 1000) : 1;
}

static void base_describe(const struct pool *p, struct dispatchmsg *m)
{
    const struct conf_app *c = p->conf;
    m->flags |= DISPATCH_POOL;
    m->policy = (struct dispatch_policy){
        .overflow = c->queue_full == CONF_FULL_RESET ? DISPATCH_RESET_TCP : DISPATCH_ANSWER,
        .length = c->queue_length,
        .patience_ms = (uint32_t)c->patience_ms,
        .connections = c->connections,
        .per_source = c->per_source,
        .retry_s = retry_s(p),
    };
    if (p->state == POOL_PAUSED || p->state == POOL_STOPPED || p->leaving) {
        m->policy.state = DISPATCH_REFUSE;
        m->policy.reason = p->state == POOL_PAUSED ? REASON_RAPID_FAIL : REASON_APP_STOPPED;
    }
}

void pool_describe(const struct bind *b, struct dispatchmsg *m)
{
    if (b->base) {
        base_describe(b->app->pool, m);
    } else if (b->parent) {
        m->flags |= DISPATCH_MEMBER;
        m->parent = b->parent->id;
        bool serves = b->listening && b->worker->state == WORKER_READY;
        m->policy.state = serves ? DISPATCH_SERVE : DISPATCH_HOLD;
    }
}

void pool_tell(struct pool *p)
{
    list_for_each(b, &p->app->binds, struct bind, app_link) dispatch_bind_note(p->server, b);
}

void worker_tell(struct worker *w)
{
    list_for_each(b, &w->binds, struct bind, app_link) dispatch_bind_note(b->server, b);
}

size_t bind_waiting(const struct bind *b)
{
    uint8_t buf[APPMSG_CONN_MAX];
    int bytes = 0, each = appmsg_encode(&(struct appmsg){.type = APPMSG_CONN}, buf, sizeof buf);
    if (b->base && b->server->board)
        return (size_t)board_get(&b->server->board->queues[b->id].parked);
    /* Messages of a native queue differ in size: that it is not empty is all that can be said. */
    if (ioctl(b->read_fd, SIOCINQ, &bytes) < 0 || each <= 0)
        return 0;
    return b->flags & APPMSG_RICH ? bytes > 0 : (size_t)(bytes / each);
}

static uint64_t member_delivered(const struct bind *b)
{
    struct board *board = b->server->board;
    return board ? board_get(&board->queues[b->id].delivered) - b->delivered_before : 0;
}

static uint64_t member_taken(const struct bind *b)
{
    uint64_t waiting = bind_waiting(b), delivered = member_delivered(b);
    return delivered > waiting ? delivered - waiting : 0;
}

uint64_t worker_delivered(const struct worker *w)
{
    uint64_t n = 0;
    list_for_each(b, &w->binds, struct bind, app_link) n += member_delivered(b);
    return n;
}

size_t worker_waiting(const struct worker *w)
{
    size_t n = 0;
    list_for_each(b, &w->binds, struct bind, app_link) n += bind_waiting(b);
    return n;
}

size_t pool_parked(const struct pool *p)
{
    size_t n = 0;
    list_for_each(b, &p->app->binds, struct bind, app_link) n += bind_waiting(b);
    return n;
}

void pool_member_gone(struct bind *member)
{
    member->worker->taken_before += member_taken(member);
}

uint64_t worker_taken(const struct worker *w)
{
    uint64_t n = w->taken_before;
    list_for_each(b, &w->binds, struct bind, app_link) n += member_taken(b);
    return n;
}
