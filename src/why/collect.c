/* Fills a report: sockets first, then who holds them, then the rules and what else bears on the
 * port. The report owns its three arrays. */
#include <stdlib.h>

#include "why/parts.h"

static bool is_kept(const struct why_sock *s)
{
    return s->state == 10 || s->state == WHY_STATE_INACTIVE;
}

static void sock_keep(struct why_report *r, const struct why_sock *s)
{
    if (r->socks_count == WHY_SOCKS_MAX)
        return;
    void *more = realloc(r->socks, (r->socks_count + 1) * sizeof *r->socks);
    if (!more)
        return; /* an answer from fewer sockets is better than none */
    r->socks = more;
    r->socks[r->socks_count] = *s;
    procs_user_name(s->uid, r->socks[r->socks_count++].user);
}

static void on_socket(void *ctx, const struct why_sock *s)
{
    struct why_report *r = ctx;
    if (s->state >= 0 && s->state < WHY_STATES)
        r->states[s->state]++;
    if (is_kept(s))
        sock_keep(r, s);
    else if (r->samples_count < WHY_SAMPLES_MAX)
        r->samples[r->samples_count++] = *s;
}

static void on_mptcp(void *ctx, const struct why_sock *s)
{
    struct why_report *r = ctx;
    for (size_t i = 0; i < r->socks_count; i++)
        if (r->socks[i].inode == s->inode && s->inode != 0)
            r->socks[i].mptcp = true;
}

/* The sockets of one process: what collect_process() keeps of the machine's listeners. */
struct inodes {
    struct why_report *report;
    uint32_t *list;
    size_t count;
};

static void on_inode(void *ctx, uint32_t inode)
{
    struct inodes *all = ctx;
    void *more = realloc(all->list, (all->count + 1) * sizeof *all->list);
    if (!more)
        return;
    all->list = more;
    all->list[all->count++] = inode;
}

static void on_socket_of(void *ctx, const struct why_sock *s)
{
    struct inodes *all = ctx;
    for (size_t i = 0; i < all->count; i++)
        if (all->list[i] == s->inode) {
            on_socket(all->report, s);
            return;
        }
}

static int collect_process(struct why_report *r)
{
    const uint32_t states = SOCKDIAG_LISTENING | SOCKDIAG_UNUSED;
    pid_t pid = r->target.pid;
    struct inodes all = {.report = r};
    uint64_t netns = procs_netns(pid);
    int rc = procs_each_inode(pid, on_inode, &all);
    r->foreign = netns != 0 && netns != procs_netns(0);
    if (rc == 0 && r->foreign)
        rc = netns_dump(pid, 0, states, (struct netns_reader){on_socket_of, &all});
    else if (rc == 0)
        rc = sockdiag_dump(0, states, on_socket_of, &all);
    free(all.list);
    return rc < 0 ? rc : procs_collect(r);
}

static int collect_port(struct why_report *r, enum why_depth depth)
{
    int rc = sockdiag_dump(r->target.port, SOCKDIAG_ALL, on_socket, r);
    /* A kernel without MPTCP has nothing to add. */
    if (rc == 0 && r->socks_count > 0)
        (void)sockdiag_dump_mptcp(r->target.port, on_mptcp, r);
    if (rc == 0 && r->socks_count > 0)
        rc = procs_collect(r);
    if (rc < 0 || depth == WHY_BRIEF)
        return rc;
    probe_collect(r);
    redirect_collect(r);
    elsewhere_collect(r);
    return 0;
}

int why_collect(const struct why_target *target, enum why_depth depth, struct why_report *report)
{
    report->target = *target;
    report->uid = geteuid();
    procs_user_name(report->uid, report->user);
    rules_collect(report);
    return target->kind == WHY_PID ? collect_process(report) : collect_port(report, depth);
}

void why_report_done(struct why_report *r)
{
    free(r->socks);
    free(r->procs);
    free(r->holds);
    *r = (struct why_report){.uid = 0};
}
