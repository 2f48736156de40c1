/* From the text of /proc/PID/cgroup to a systemd unit or a container. Pure. */
#include <stdio.h>

#include "base/str.h"
#include "why/why.h"

/* How engines name the last folders of a container's cgroup. */
static const struct {
    const char *start, *end;
    enum why_engine engine;
} patterns[] = {
    {"docker-", ".scope", ENGINE_DOCKER},
    {"libpod-", ".scope", ENGINE_PODMAN},
    {"libpod-", "", ENGINE_PODMAN},
    {"lxc.payload.", "", ENGINE_LXC},
    {"cri-containerd-", ".scope", ENGINE_KUBE},
    {"crio-", ".scope", ENGINE_KUBE},
    {"machine-", ".scope", ENGINE_NSPAWN},
    {"systemd-nspawn@", ".service", ENGINE_NSPAWN},
};

const char *why_engine_name(enum why_engine engine)
{
    static const char *const names[] = {"", "docker", "podman", "lxc", "kubernetes", "nspawn"};
    return names[engine];
}

static bool ends_with(struct str s, struct str end)
{
    return s.n >= end.n && str_eq(str_skip(s, s.n - end.n), end);
}

static void copy(char *to, size_t size, struct str s)
{
    (void)snprintf(to, size, STR_FMT, STR_ARG(s));
}

static bool is_hex_id(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!strchr("0123456789abcdef", s.p[i]))
            return false;
    return s.n == 64;
}

static void container_set(struct why_cgroup *g, enum why_engine engine, struct str id)
{
    g->engine = engine;
    if (is_hex_id(id))
        id.n = 12; /* what the engines' own lists show */
    copy(g->container, sizeof g->container, id);
}

static void folder_read(struct why_cgroup *g, struct str folder, struct str parent)
{
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        struct str start = str_of(patterns[i].start), end = str_of(patterns[i].end);
        if (!str_starts(folder, start) || !ends_with(folder, end) || folder.n <= start.n + end.n ||
            g->engine != ENGINE_NONE)
            continue;
        struct str id = {folder.p + start.n, folder.n - start.n - end.n};
        container_set(g, patterns[i].engine, id);
        return;
    }
    if (str_eq(parent, STR("docker")) && is_hex_id(folder))
        container_set(g, ENGINE_DOCKER, folder);
    else if (str_eq(parent, STR("lxc")))
        container_set(g, ENGINE_LXC, folder);
    else if (str_starts(parent, STR("pod")) && is_hex_id(folder))
        container_set(g, ENGINE_KUBE, folder);
    if (ends_with(folder, STR(".service")) || ends_with(folder, STR(".scope"))) {
        /* user@1000.service is the user's systemd; what comes below it are that one's units. */
        g->user_unit = g->user_unit || str_starts(str_of(g->unit), STR("user@"));
        copy(g->unit, sizeof g->unit, folder);
    }
}

static void path_read(struct why_cgroup *g, struct str path)
{
    struct str parent = {"", 0};
    while (path.n > 0) {
        size_t n = 0;
        while (n < path.n && path.p[n] != '/')
            n++;
        struct str folder = {path.p, n};
        if (n > 0) {
            folder_read(g, folder, parent);
            parent = folder;
        }
        path = str_skip(path, n + 1);
    }
}

/* Lines are `number:controllers:path`. Version 2 has one, `0::path`; of version 1 the one that
 * systemd keeps says most, and others may name a container. */
void why_cgroup_parse(const char *text, struct why_cgroup *ret_cgroup)
{
    struct why_cgroup g = {.engine = ENGINE_NONE};
    while (*text) {
        size_t n = strcspn(text, "\n");
        const char *first = memchr(text, ':', n);
        const char *second = first ? memchr(first + 1, ':', n - (size_t)(first + 1 - text)) : NULL;
        if (second && !(g.unit[0] || g.engine != ENGINE_NONE))
            path_read(&g, (struct str){second + 1, n - (size_t)(second + 1 - text)});
        text += n + (text[n] == '\n');
    }
    *ret_cgroup = g;
}
