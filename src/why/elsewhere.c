/* Looks for listeners of the port in the other network namespaces of this machine, so that "held by
 * a container, but that does not conflict" can be said. Needs root; without it nothing is found. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "why/parts.h"

#define NAMESPACES_MAX 256

struct visit {
    struct why_report *report;
    struct why_elsewhere who;
};

static void on_listener(void *ctx, const struct why_sock *s)
{
    struct visit *v = ctx;
    struct why_report *r = v->report;
    if (r->elsewhere_count == WHY_ELSEWHERE_MAX)
        return;
    r->elsewhere[r->elsewhere_count] = v->who;
    r->elsewhere[r->elsewhere_count++].local = s->local;
}

static bool is_known(const uint64_t *seen, size_t count, uint64_t netns)
{
    for (size_t i = 0; i < count; i++)
        if (seen[i] == netns)
            return true;
    return false;
}

static void name_read(struct why_elsewhere *who)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/comm", who->pid);
    ssize_t n = procs_read(path, who->name, sizeof who->name);
    who->name[n > 0 ? n : 0] = 0;
    who->name[strcspn(who->name, "\n")] = 0;
}

static void visit(struct why_report *r, uint64_t netns, pid_t pid)
{
    struct visit v = {.report = r, .who = {.netns = netns, .pid = pid}};
    name_read(&v.who);
    /* The process may be gone by now, and a namespace that cannot be entered is left out. */
    (void)netns_dump(pid, r->target.port, SOCKDIAG_LISTENING,
                     (struct netns_reader){on_listener, &v});
}

void elsewhere_collect(struct why_report *r)
{
    DIR *dir = geteuid() == 0 ? opendir("/proc") : NULL;
    if (!dir)
        return;
    uint64_t seen[NAMESPACES_MAX] = {procs_netns(0)};
    size_t count = 1;
    for (struct dirent *e = readdir(dir); e && count < NAMESPACES_MAX; e = readdir(dir)) {
        pid_t pid = ascii_is_digit(e->d_name[0]) ? (pid_t)strtol(e->d_name, NULL, 10) : 0;
        uint64_t netns = pid > 0 ? procs_netns(pid) : 0;
        if (netns == 0 || is_known(seen, count, netns))
            continue;
        seen[count++] = netns;
        visit(r, netns, pid);
    }
    (void)closedir(dir);
}
