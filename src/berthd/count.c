/* The open connections and the memory of a pool's workers, as the kernel has them at this moment.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "berthd/pool.h"
#include "launch/opencount.h"
#include "launch/proctree.h"

#define PLACES_MAX 64
/* Counting asks the kernel for all sockets and looks into every process of the workers: it may take
 * this part of berthd's time, and no more. */
#define COUNT_SHARE  20
#define COUNT_MS_MIN 200
/* "BERTH_INSTANCE=" and the secret in hexadecimal: every process of the worker has it. */
#define MARK_MAX (16 + 2 * APPMSG_INSTANCE)

struct worker_marks {
    struct proctree_root *roots;
    char (*marks)[MARK_MAX];
    size_t count;
};

static int marks_make(const struct pool *p, struct worker_marks *m)
{
    size_t n = 0;
    list_for_each(w, &p->workers, struct worker, link) n++;
    m->roots = calloc(n + 1, sizeof *m->roots);
    m->marks = calloc(n + 1, sizeof *m->marks);
    m->count = 0;
    if (!m->roots || !m->marks)
        return -ENOMEM;
    list_for_each(w, &p->workers, struct worker, link)
    {
        char *mark = m->marks[m->count];
        size_t used = (size_t)snprintf(mark, MARK_MAX, "BERTH_INSTANCE=");
        for (size_t i = 0; i < APPMSG_INSTANCE; i++)
            (void)snprintf(mark + used + 2 * i, 3, "%02x", w->instance[i]);
        m->roots[m->count++] = (struct proctree_root){.pid = w->pid, .mark = mark};
    }
    return 0;
}

static void marks_done(struct worker_marks *m)
{
    free(m->roots);
    free(m->marks);
}

static size_t places_find(const struct pool *p, uint16_t *ports, const char **paths,
                          size_t *ret_path_count)
{
    size_t port_count = 0, path_count = 0;
    list_for_each(b, &p->app->binds, struct bind, app_link){list_for_each(
        c, &b->claims, struct claim, link){uint16_t port = addr_port(&c->listener->bound);
    bool known = false;
    for (size_t i = 0; i < port_count; i++)
        known |= ports[i] == port;
    if (port && !known && port_count < PLACES_MAX)
        ports[port_count++] = port;
    if (c->listener->bound.sa.sa_family == AF_UNIX && path_count < PLACES_MAX)
        paths[path_count++] = c->listener->bound.un.sun_path;
}
}
*ret_path_count = path_count;
return port_count;
}

static int count(struct pool *p, const struct worker_marks *m, struct proctree *tree)
{
    uint16_t ports[PLACES_MAX];
    const char *paths[PLACES_MAX];
    struct opencount_places places = {.ports = ports, .paths = paths};
    uint32_t *open = calloc(m->count + 1, sizeof *open);
    if (!open)
        return -ENOMEM;
    places.port_count = places_find(p, ports, paths, &places.path_count);
    int r = opencount(&places, tree, open, m->count);
    uint32_t i = 0;
    list_for_each(w, &p->workers, struct worker, link)
    {
        /* Not known is as good as busy. */
        w->open = r < 0 ? 1 : open[i];
        w->memory = proctree_rss(tree, i);
        i++;
    }
    free(open);
    return r;
}

bool workers_count_due(const struct pool *p)
{
    return clock_now_ms() - p->count_ms >= p->count_every_ms;
}

void workers_count(struct pool *p)
{
    struct timespec from, to;
    if (list_empty(&p->workers))
        return;
    (void)clock_gettime(CLOCK_MONOTONIC, &from);
    struct worker_marks m = {0};
    struct proctree tree = {0};
    int r = marks_make(p, &m);
    if (r == 0)
        r = proctree_read(m.roots, m.count, &tree);
    if (r == 0)
        r = count(p, &m, &tree);
    if (r < 0)
        log_debug("connections not counted app=%s err=%d", p->conf->name, -r);
    proctree_done(&tree);
    marks_done(&m);
    (void)clock_gettime(CLOCK_MONOTONIC, &to);
    uint64_t cost_ms =
        (uint64_t)((to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000);
    p->count_every_ms = cost_ms * COUNT_SHARE < COUNT_MS_MIN ? COUNT_MS_MIN : cost_ms * COUNT_SHARE;
    p->count_ms = clock_now_ms();
}

/* To the worker's first member: whichever it came by, the worker has it. */
static void open_tell(void *ctx, const struct opencount_conn *c)
{
    struct pool *p = ctx;
    uint32_t i = 0;
    list_for_each(w, &p->workers, struct worker, link)
    {
        if (i++ != c->root || list_empty(&w->binds))
            continue;
        struct dispatchmsg m = {.type = DISPATCH_OPEN,
                                .queue = container_of(w->binds.next, struct bind, app_link)->id,
                                .addr = c->local,
                                .peer = c->peer,
                                .cookie = c->cookie};
        dispatch_tell(p->server, &m, NULL, 0);
    }
}

void workers_open_tell(struct pool *p)
{
    struct worker_marks m = {0};
    struct proctree tree = {0};
    uint16_t ports[PLACES_MAX];
    const char *paths[PLACES_MAX];
    struct opencount_places places = {.ports = ports, .paths = paths};
    if (list_empty(&p->workers))
        return;
    places.port_count = places_find(p, ports, paths, &places.path_count);
    int r = marks_make(p, &m);
    if (r == 0)
        r = proctree_read(m.roots, m.count, &tree);
    if (r == 0)
        r = opencount_each(&places, &tree, open_tell, p);
    if (r < 0)
        log_debug("open connections not told app=%s err=%d", p->conf->name, -r);
    proctree_done(&tree);
    marks_done(&m);
}

void worker_signal(struct worker *w, int signal)
{
    struct worker_marks m = {0};
    struct proctree tree = {0};
    uint32_t index = 0;
    if (marks_make(w->pool, &m) == 0 && proctree_read(m.roots, m.count, &tree) == 0) {
        list_for_each(other, &w->pool->workers, struct worker, link)
        {
            if (other == w)
                break;
            index++;
        }
        (void)proctree_kill(&tree, index, signal);
    }
    proctree_done(&tree);
    marks_done(&m);
}

/* Who holds a queue of the worker is of the worker, whatever it has done to its session and to its
 * environment. */
static pid_t holder_other(const struct worker *w)
{
    list_for_each(b, &w->binds, struct bind, app_link)
    {
        pid_t pid = 0;
        if (holders_find(w->pool->server, b->inode, &pid, 1) > 0 && pid != w->pid)
            return pid;
    }
    return 0;
}

pid_t worker_background(const struct worker *w)
{
    pid_t holder = holder_other(w);
    if (holder > 0)
        return holder;
    struct worker_marks m = {0};
    struct proctree tree = {0};
    pid_t found = 0;
    uint32_t index = 0;
    list_for_each(other, &w->pool->workers, struct worker, link)
    {
        if (other == w)
            break;
        index++;
    }
    if (marks_make(w->pool, &m) == 0 && proctree_read(m.roots, m.count, &tree) == 0)
        for (size_t i = 0; i < tree.count && !found; i++)
            if (tree.list[i].root == index && tree.list[i].pid != w->pid)
                found = tree.list[i].pid;
    proctree_done(&tree);
    marks_done(&m);
    return found;
}
