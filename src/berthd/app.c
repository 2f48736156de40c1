/* Applications. One comes with its first message, and goes when its process and its last bind have
 * gone. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>

#include "base/log.h"
#include "berthd/pool.h"
#include "berthd/quota.h"
#include "berthd/reserve.h"

int pidfd_of(pid_t pid)
{
    int fd = pid > 0 ? pidfd_open(pid, 0) : -1;
    return fd < 0 ? -EBADF : fd;
}

static struct app *app_find(struct server *s, const uint8_t instance[APPMSG_INSTANCE])
{
    list_for_each(a, &s->apps, struct app,
                  link) if (memcmp(a->instance, instance, APPMSG_INSTANCE) == 0) return a;
    return NULL;
}

static int app_read_routes(struct app *a, const struct appmsg *m, char reason[REASON_MAX])
{
    a->routes = calloc(2 * m->route_count + 1u, sizeof *a->routes);
    if (!a->routes)
        return -ENOMEM;
    for (uint8_t i = 0; i < m->route_count; i++) {
        char text[ROUTE_TEXT_MAX], why[ROUTE_REASON_MAX];
        struct route routes[2];
        (void)snprintf(text, sizeof text, STR_FMT, STR_ARG(m->routes[i]));
        int n = route_expand(text, routes, why);
        if (n < 0) {
            (void)snprintf(reason, REASON_MAX, "route '%s': %s", text, why);
            return n;
        }
        for (int k = 0; k < n; k++) {
            int err = reserve_admit_route(a->server, &routes[k], a->uid, reason);
            if (err < 0)
                return err;
            char *canonical = strdup(route_format(&routes[k], text));
            if (!canonical)
                return -ENOMEM;
            a->routes[a->route_count++] = canonical;
        }
    }
    /* A bare host counts as two, and all must fit into the note for a successor. */
    if (a->route_count > APPMSG_ROUTES_MAX) {
        (void)snprintf(reason, REASON_MAX,
                       "at most %d routes; a bare host name is two (http and tls)",
                       APPMSG_ROUTES_MAX);
        return -E2BIG;
    }
    for (uint8_t i = 0; i < m->listen_count; i++) {
        char text[ADDR_TEXT_MAX];
        (void)snprintf(text, sizeof text, STR_FMT, STR_ARG(m->listens[i]));
        if (addr_parse(text, &a->listens[i]) < 0) {
            (void)snprintf(reason, REASON_MAX,
                           "'%s' is no address: write 0.0.0.0:80, [::]:80 or "
                           "unix:/path",
                           text);
            return -EINVAL;
        }
        a->listen_count++;
    }
    return 0;
}

size_t app_route(const struct app *a, size_t i, struct route ret_routes[2])
{
    return conf_route(a->routes[i], ret_routes);
}

static bool text_is_printable(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
            return false;
    return true;
}

/* A command line may hold anything, a script of several lines, too; it is shown, never run. */
static char *printable_copy(struct str s)
{
    char *copy = strndup(s.p, s.n);
    for (char *p = copy; p && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    return copy;
}

/* Who owns it: a worker that gave up its user's rights shows the secret of an application that had
 * an owner before. In the system's berthd every local user may have applications. */
static int app_owner(const struct server *s, const struct appmsg *m, const struct ucred *creator,
                     uid_t *ret_uid, char reason[REASON_MAX])
{
    *ret_uid = creator->uid;
    if (creator->uid == s->uid || creator->uid == 0)
        return 0;
    if (instances_find(m->instance, ret_uid) == 0)
        return 0;
    if (s->uid == 0)
        return quota_check(s, creator->uid, QUOTA_APPS, reason);
    (void)snprintf(reason, REASON_MAX, "this berthd belongs to user %u, not to user %u", s->uid,
                   creator->uid);
    return -EPERM;
}

static int app_admit(const struct appmsg *m, char reason[REASON_MAX])
{
    if (m->name.n == 0 || m->name.n > APP_NAME_MAX || !text_is_printable(m->name)) {
        (void)snprintf(reason, REASON_MAX,
                       "an application's name has 1 to 64 printable characters");
        return -EINVAL;
    }
    if (m->route_count == 0) {
        (void)snprintf(reason, REASON_MAX, "an application needs a route");
        return -EINVAL;
    }
    return 0;
}

struct app *app_new(struct server *s, const char *name, const uint8_t instance[APPMSG_INSTANCE])
{
    struct app *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    list_init(&a->link);
    list_init(&a->binds);
    a->server = s;
    a->pidfd = a->pid_watch.fd = -EBADF;
    a->uid = s->uid;
    memcpy(a->instance, instance, sizeof a->instance);
    a->name = strdup(name);
    a->id = numbers_take(&s->app_numbers);
    list_append(&s->apps, &a->link);
    if (a->id != UINT32_MAX && a->name)
        return a;
    app_free(a);
    return NULL;
}

struct app *app_get(struct server *s, const struct appmsg *m, const struct ucred *creator,
                    char reason[REASON_MAX], int *ret_err)
{
    char name[APP_NAME_MAX + 1];
    struct worker *w = worker_find(s, m->instance);
    struct app *a = w ? w->pool->app : app_find(s, m->instance);
    if (a)
        return a;
    uid_t uid = 0;
    *ret_err = app_owner(s, m, creator, &uid, reason);
    if (*ret_err == 0)
        *ret_err = app_admit(m, reason);
    if (*ret_err < 0)
        return NULL;
    *ret_err = -ENOMEM;
    (void)snprintf(name, sizeof name, STR_FMT, STR_ARG(m->name));
    a = app_new(s, name, m->instance);
    if (!a)
        return NULL;
    a->uid = uid;
    a->flags = m->flags;
    a->command = printable_copy(m->command);
    if (a->command)
        *ret_err = app_read_routes(a, m, reason);
    if (*ret_err == 0) {
        instances_add(s, a->instance, a->uid);
        return a;
    }
    app_free(a);
    return NULL;
}

static void app_exited(struct watch *w, uint32_t events)
{
    (void)events;
    struct app *a = container_of(w, struct app, pid_watch);
    loop_unwatch(&a->server->loop, w);
    a->pidfd = fd_close(a->pidfd);
    app_free_if_idle(a);
}

void app_watch_pid(struct app *a, pid_t pid)
{
    if (a->pidfd >= 0)
        return;
    if (a->pool)
        return;
    a->pid = pid;
    /* A program that speaks berth's own language has as many applications as it has names, each for
     * as long as it holds the queue. */
    if (a->flags & APPMSG_NATIVE)
        return;
    a->pidfd = pidfd_of(pid);
    a->pid_watch.ready = app_exited;
    if (a->pidfd >= 0 && loop_watch(&a->server->loop, &a->pid_watch, a->pidfd, EPOLLIN) < 0)
        a->pidfd = fd_close(a->pidfd);
}

void app_free_if_idle(struct app *a)
{
    if (!a->pool && list_empty(&a->binds) && a->pidfd < 0 && a->users == 0)
        app_free(a);
}

void app_free(struct app *a)
{
    struct server *s = a->server;
    list_for_each(b, &a->binds, struct bind, app_link) bind_free(b);
    loop_unwatch(&s->loop, &a->pid_watch);
    a->pidfd = fd_close(a->pidfd);
    list_remove(&a->link);
    if (a->id != UINT32_MAX)
        numbers_give(&s->app_numbers, a->id);
    free(a->name);
    free(a->command);
    for (size_t i = 0; i < a->route_count; i++)
        free(a->routes[i]);
    free(a->routes);
    free(a);
    server_idle_check(s);
}
