/* The note of a bind: the two messages that made it (APP, BIND), who sent them, and its options. A
 * successor decodes it and is where its predecessor was. */
#include "berthd/recover.h"

#include "berthd/dispatch-rights.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/rd.h"
#include "base/wr.h"
#include "berthd/pool.h"

static void message_write(struct wr *w, const struct appmsg *m)
{
    uint8_t buf[APPMSG_MAX];
    int n = appmsg_encode(m, buf, sizeof buf);
    if (n < 0)
        w->failed = true;
    else
        wr_vec16(w, (struct str){(char *)buf, (size_t)n});
}

static void app_write(struct wr *w, const struct app *a)
{
    struct appmsg m = {.type = APPMSG_APP,
                       .flags = a->flags,
                       .name = str_of(a->name),
                       .command = str_of(a->command)};
    memcpy(m.instance, a->instance, sizeof m.instance);
    char listens[APPMSG_LISTENS_MAX][ADDR_TEXT_MAX];
    for (size_t i = 0; i < a->listen_count; i++)
        m.listens[m.listen_count++] = str_of(addr_format(&a->listens[i], listens[i]));
    /* The routes as they were given: http and tls of one bare host go as two. Those of a pool are
     * in its definition. */
    for (size_t i = 0; !a->pool && i < a->route_count; i++)
        m.routes[m.route_count++] = str_of(a->routes[i]);
    message_write(w, &m);
}

/* Nothing; a base; or a member with its base and the secret of its worker. */
enum { NOTE_SOLO, NOTE_BASE, NOTE_MEMBER };

static void pool_write(struct wr *w, const struct bind *b)
{
    wr_u8(w, b->base ? NOTE_BASE : b->parent ? NOTE_MEMBER : NOTE_SOLO);
    wr_u32(w, b->parent ? b->parent->id : 0);
    wr_bytes(w, b->parent ? b->worker->instance : b->app->instance, APPMSG_INSTANCE);
}

void recover_app_save(struct wr *w, const struct app *a, const uint8_t instance[APPMSG_INSTANCE])
{
    wr_u32(w, a->uid);
    wr_u32(w, (uint32_t)a->pid);
    wr_u8(w, a->pool != NULL);
    wr_bytes(w, instance, APPMSG_INSTANCE);
    app_write(w, a);
}

struct app *recover_app_restore(struct server *s, struct rd *r,
                                uint8_t ret_instance[APPMSG_INSTANCE])
{
    struct appmsg m;
    struct ucred cred = {0};
    cred.uid = rd_u32(r);
    cred.pid = (pid_t)rd_u32(r);
    bool pooled = rd_u8(r);
    struct str instance = rd_bytes(r, APPMSG_INSTANCE), bytes = rd_vec(r, 2);
    if (!rd_ok(r) || appmsg_decode(&m, bytes.p, bytes.n) < 0)
        return NULL;
    memcpy(m.instance, instance.p, APPMSG_INSTANCE);
    memcpy(ret_instance, instance.p, APPMSG_INSTANCE);
    if (pooled && !worker_find(s, m.instance))
        return NULL;
    char reason[REASON_MAX] = "";
    int err;
    struct app *a = app_get(s, &m, &cred, reason, &err);
    if (!a)
        log_warn("application not recovered reason=%s", reason);
    else if (!a->pool)
        app_watch_pid(a, cred.pid);
    return a;
}

size_t recover_note(const struct bind *b, uint8_t note[RECOVER_NOTE_MAX])
{
    struct wr w = wr_init(note, RECOVER_NOTE_MAX);
    struct appmsg m = {
        .type = APPMSG_BIND, .flags = b->flags, .addr = b->addr, .v6only = b->v6only};
    wr_u8(&w, RECOVER_VERSION);
    wr_u32(&w, b->app->uid);
    wr_u32(&w, (uint32_t)b->app->pid);
    wr_u32(&w, (uint32_t)b->holder);
    wr_u8(&w, b->listening);
    pool_write(&w, b);
    app_write(&w, b->app);
    message_write(&w, &m);
    wr_u8(&w, (uint8_t)b->option_count);
    for (size_t i = 0; i < b->option_count; i++) {
        wr_u32(&w, (uint32_t)b->options[i].level);
        wr_u32(&w, (uint32_t)b->options[i].name);
        wr_vec16(&w, (struct str){(const char *)b->options[i].value, b->options[i].len});
    }
    return wr_ok(&w) ? seal_put(b->server, b->id, note, w.used, RECOVER_NOTE_MAX) : 0;
}

static void options_read(struct rd *r, struct bind *b)
{
    uint8_t count = rd_u8(r);
    for (uint8_t i = 0; i < count && i < OPTIONS_MAX; i++) {
        struct option_value o = {0};
        o.level = (int)rd_u32(r);
        o.name = (int)rd_u32(r);
        struct str value = rd_vec(r, 2);
        if (!rd_ok(r) || value.n > sizeof o.value)
            return;
        o.len = (uint8_t)value.n;
        memcpy(o.value, value.p, value.n);
        b->options[b->option_count++] = o;
    }
}

struct role {
    uint8_t kind;
    uint32_t parent;
    uint8_t instance[APPMSG_INSTANCE];
};

static void role_read(struct rd *r, struct role *role)
{
    role->kind = rd_u8(r);
    role->parent = rd_u32(r);
    struct str instance = rd_bytes(r, APPMSG_INSTANCE);
    memset(role->instance, 0, sizeof role->instance);
    memcpy(role->instance, instance.p, instance.n);
}

static struct bind *note_read(struct server *s, const struct dispatchmsg *m, int fds[2])
{
    struct str note = m->note;
    if (!seal_check(s, m->id, &note)) {
        log_warn("queue not recovered reason=Seal queue=%u", m->id);
        return NULL;
    }
    struct rd r = rd_init(note.p, note.n);
    struct appmsg app, bound;
    struct ucred cred = {0};
    if (rd_u8(&r) != RECOVER_VERSION) {
        log_warn("queue not recovered reason=Version queue=%u", m->id);
        return NULL;
    }
    cred.uid = rd_u32(&r);
    cred.pid = (pid_t)rd_u32(&r);
    pid_t holder = (pid_t)rd_u32(&r);
    bool listening = rd_u8(&r);
    struct role role;
    role_read(&r, &role);
    struct str app_bytes = rd_vec(&r, 2), bind_bytes = rd_vec(&r, 2);
    if (!rd_ok(&r) || appmsg_decode(&app, app_bytes.p, app_bytes.n) < 0 ||
        appmsg_decode(&bound, bind_bytes.p, bind_bytes.n) < 0)
        return NULL;
    char reason[REASON_MAX] = "";
    int err;
    struct app *a = app_get(s, &app, &cred, reason, &err);
    struct worker *worker = role.kind == NOTE_MEMBER ? worker_find(s, role.instance) : NULL;
    if (!a || (role.kind != NOTE_SOLO && !a->pool) || (role.kind == NOTE_MEMBER && !worker)) {
        log_warn("application not recovered name=" STR_FMT " reason=%s", STR_ARG(app.name), reason);
        return NULL;
    }
    if (role.kind == NOTE_SOLO)
        app_watch_pid(a, cred.pid);
    struct bind *b = bind_new_consume(a, m->id, fd_take(&fds[0]), fd_take(&fds[1]));
    if (!b)
        return NULL;
    b->addr = bound.addr;
    b->v6only = bound.v6only;
    b->flags = bound.flags;
    b->listening = listening;
    b->holder = holder;
    options_read(&r, b);
    if (role.kind == NOTE_BASE)
        pool_base_adopt(b);
    b->worker = worker;
    b->recovered_parent = role.parent;
    /* Dispatch was told so at once, the file of the pools is a little behind. */
    if (worker && listening && m->policy.state == DISPATCH_SERVE)
        worker->said_ready = true;
    return b;
}

void recover_queue_consume(struct server *s, const struct dispatchmsg *m, int fds[2])
{
    if (m->id < s->bind_numbers.max)
        numbers_reserve(&s->bind_numbers, m->id);
    if (!note_read(s, m, fds)) {
        (void)fd_close(fds[0]);
        (void)fd_close(fds[1]);
        dispatch_drop(s, DISPATCH_DROP_QUEUE, m->id);
    }
}

void recover_listener_consume(struct server *s, const struct dispatchmsg *m, int *fds,
                              size_t fd_count)
{
    struct shared_listener *l = calloc(1, sizeof *l);
    bool good = l && fd_count <= DISPATCH_THREADS && m->id < s->listener_numbers.max &&
                dispatch_listener_is_true(m, fds, fd_count);
    if (!good) {
        log_warn("listener not recovered");
        free(l);
        while (fd_count > 0)
            (void)fd_close(fds[--fd_count]);
        return;
    }
    numbers_reserve(&s->listener_numbers, m->id);
    l->id = m->id;
    l->bound = m->addr;
    l->v6only = m->v6only;
    l->proxy = m->flags & DISPATCH_PROXY;
    l->listening = true;
    l->fd_count = s->threads = fd_count;
    memcpy(l->fds, fds, fd_count * sizeof *fds);
    listener_list(s, l);
}

static void listeners_sweep(struct server *s)
{
    list_for_each(l, &s->listeners, struct shared_listener, link)
    {
        if (l->refs > 0)
            continue;
        for (size_t i = 0; i < l->fd_count; i++)
            (void)fd_close(l->fds[i]);
        numbers_give(&s->listener_numbers, l->id);
        listener_unlist(s, l);
        free(l);
    }
}

/* Members find their bases when all have come. */
static void members_adopt(struct server *s)
{
    list_for_each(b, &s->binds, struct bind, link)
    {
        if (!b->worker)
            continue;
        struct bind *base = bind_find(s, b->recovered_parent);
        if (base && base->base && base->app == b->app)
            pool_member_adopt(b, base, b->worker);
        else
            bind_free(b);
    }
}

void recover_finish(struct server *s)
{
    char reason[REASON_MAX] = "";
    members_adopt(s);
    list_for_each(b, &s->binds, struct bind, link)
    {
        pid_t holder = b->holder;
        b->holder = 0;
        if (b->parent) {
            bind_watch_holder(b, holder);
            continue;
        }
        if (b->base) {
            /* The pool itself asks again, should it not have them now. */
            (void)claims_make(b, reason);
            continue;
        }
        if (claims_make(b, reason) < 0) {
            log_warn("claims not recovered app=%s reason=%s", b->app->name, reason);
            struct app *a = b->app;
            bind_free(b);
            app_free_if_idle(a);
            continue;
        }
        bind_watch_holder(b, holder);
    }
    listeners_sweep(s);
}
