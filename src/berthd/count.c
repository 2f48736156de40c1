/* The open connections and the memory of a pool's workers, as the kernel has them at this moment.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

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
/* "BERTH_INSTANCE=" and the secret: every process of the worker has it in its environment. */
#define MARK_MAX (16 + APPMSG_INSTANCE_TEXT)

static size_t worker_total(const struct pool *p)
{
    size_t n = 0;
    list_for_each(w, &p->workers, struct worker, link) n++;
    return n;
}

/* Its place among the pool's, which is the number of its root in the tree. */
static uint32_t worker_index(const struct worker *w)
{
    uint32_t i = 0;
    list_for_each(other, &w->pool->workers, struct worker, link)
    {
        if (other == w)
            break;
        i++;
    }
    return i;
}

/* All processes of the pool's workers. */
static int tree_read(const struct pool *p, struct proctree *ret_tree)
{
    size_t total = worker_total(p), n = 0;
    struct proctree_root *roots = calloc(total + 1, sizeof *roots);
    char(*marks)[MARK_MAX] = calloc(total + 1, sizeof *marks);
    char hex[APPMSG_INSTANCE_TEXT];
    int r = roots && marks ? 0 : -ENOMEM;
    list_for_each(w, &p->workers, struct worker, link)
    {
        if (r < 0)
            break;
        (void)snprintf(marks[n], MARK_MAX, "BERTH_INSTANCE=%s",
                       appmsg_instance_format(w->instance, hex));
        roots[n] = (struct proctree_root){.pid = w->pid, .mark = marks[n]};
        n++;
    }
    if (r == 0)
        r = proctree_read(roots, n, ret_tree);
    free(roots);
    free(marks);
    return r;
}

/* Where the pool's connections come in. */
struct places {
    uint16_t ports[PLACES_MAX];
    const char *paths[PLACES_MAX];
    struct opencount_places at;
};

static void place_add(struct places *p, const struct addr *bound)
{
    uint16_t port = addr_port(bound);
    p->at.peers |= bound->sa.sa_family == AF_UNSPEC;
    if (bound->sa.sa_family == AF_UNIX && p->at.path_count < PLACES_MAX)
        p->paths[p->at.path_count++] = bound->un.sun_path;
    for (size_t i = 0; i < p->at.port_count; i++)
        if (p->ports[i] == port)
            return;
    if (port && p->at.port_count < PLACES_MAX)
        p->ports[p->at.port_count++] = port;
}

static void places_find(const struct pool *p, struct places *ret_places)
{
    ret_places->at =
        (struct opencount_places){.ports = ret_places->ports, .paths = ret_places->paths};
    list_for_each(b, &p->app->binds, struct bind, app_link)
    {
        list_for_each(c, &b->claims, struct claim, link) place_add(ret_places, &c->listener->bound);
    }
}

static int count(struct pool *p, struct proctree *tree)
{
    struct places places;
    size_t total = worker_total(p);
    uint32_t *open = calloc(total + 1, sizeof *open);
    if (!open)
        return -ENOMEM;
    places_find(p, &places);
    int r = opencount(&places.at, tree, open, total);
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
    if (list_empty(&p->workers))
        return;
    uint64_t from_us = clock_now_us();
    struct proctree tree = {0};
    int r = tree_read(p, &tree);
    if (r == 0)
        r = count(p, &tree);
    if (r < 0)
        log_debug("connections not counted app=%s err=%d", p->conf->name, -r);
    proctree_done(&tree);
    uint64_t cost_ms = (clock_now_us() - from_us) / 1000;
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
    struct proctree tree = {0};
    struct places places;
    if (list_empty(&p->workers))
        return;
    places_find(p, &places);
    int r = tree_read(p, &tree);
    if (r == 0)
        r = opencount_each(&places.at, &tree, open_tell, p);
    if (r < 0)
        log_debug("open connections not told app=%s err=%d", p->conf->name, -r);
    proctree_done(&tree);
}

void worker_signal(struct worker *w, int signal)
{
    struct proctree tree = {0};
    if (tree_read(w->pool, &tree) == 0)
        (void)proctree_kill(&tree, worker_index(w), signal);
    proctree_done(&tree);
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
    struct proctree tree = {0};
    pid_t found = 0;
    uint32_t index = worker_index(w);
    if (tree_read(w->pool, &tree) == 0)
        for (size_t i = 0; i < tree.count && !found; i++)
            if (tree.list[i].root == index && tree.list[i].pid != w->pid)
                found = tree.list[i].pid;
    proctree_done(&tree);
    return found;
}
