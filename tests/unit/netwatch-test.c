/* What counts as another network, in a namespace of our own with a cable to nowhere. */
#include "peerd/netwatch.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"

/* Nothing comes of what is no news; it is waited for so long. */
#define QUIET_MS 400
#define SOON_MS  5000

struct rig {
    struct loop loop;
    struct netwatch watch;
    struct timer end;
    unsigned changes;
};

static void changed(struct netwatch *w)
{
    struct rig *g = container_of(w, struct rig, watch);
    g->changes++;
    loop_stop(&g->loop);
}

static void ends(struct timer *t)
{
    loop_stop(&container_of(t, struct rig, end)->loop);
}

static unsigned changes_within(struct rig *g, uint64_t ms)
{
    g->changes = 0;
    g->loop.stopped = false;
    loop_timer(&g->loop, &g->end, ms);
    loop_run(&g->loop);
    loop_untimer(&g->end);
    return g->changes;
}

static int ip(const char *words)
{
    char line[256];
    (void)snprintf(line, sizeof line, "ip %s", words);
    /* NOLINTNEXTLINE(cert-env33-c): words of this file */
    return system(line);
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? write(fd, text, strlen(text)) : 0;
    (void)n;
    if (fd >= 0)
        (void)close(fd);
}

/* Root has the right anyway; others have it in a namespace of users. */
static bool enter(void)
{
    char map[64];
    (void)snprintf(map, sizeof map, "0 %u 1", (unsigned)geteuid());
    if (geteuid() == 0)
        return unshare(CLONE_NEWNET) == 0;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return false;
    write_file("/proc/self/setgroups", "deny");
    write_file("/proc/self/uid_map", map);
    return true;
}

static bool rig_open(struct rig *g)
{
    *g = (struct rig){.end.fire = ends};
    if (!enter() || ip("link add d0 type veth peer name p0") != 0) {
        (void)printf("# no namespace of our own here\n");
        return false;
    }
    CHECK_INT(ip("link set lo up"), 0);
    CHECK_INT(ip("link set p0 up"), 0);
    CHECK_INT(ip("link set d0 up"), 0);
    CHECK_INT(ip("addr add 192.0.2.2/24 dev d0"), 0);
    CHECK_INT(ip("route add default via 192.0.2.1"), 0);
    CHECK_INT(loop_init(&g->loop), 0);
    CHECK_INT(netwatch_start(&g->watch, &g->loop, changed), 0);
    return true;
}

static void rig_close(struct rig *g)
{
    netwatch_stop(&g->watch);
    loop_done(&g->loop);
}

/* Each in a process of its own, for one cannot go back to where one came from. */
static void apart(void (*test)(struct rig *g))
{
    (void)fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct rig g;
        if (rig_open(&g)) {
            test(&g);
            rig_close(&g);
        }
        (void)fflush(stdout);
        _exit(test_failed ? 1 : 0);
    }
    int status = -1;
    CHECK_INT(waitpid(pid, &status, 0), pid);
    CHECK_INT(status, 0);
}

static void routes_come(struct rig *g)
{
    CHECK_INT(ip("route replace default via 192.0.2.9"), 0);
    CHECK_INT(changes_within(g, SOON_MS), 1);
    CHECK_INT(ip("link add vpn type veth peer name pvpn"), 0);
    CHECK_INT(ip("link set pvpn up"), 0);
    CHECK_INT(ip("link set vpn up"), 0);
    CHECK_INT(ip("route add 128.0.0.0/1 dev vpn"), 0);
    CHECK_INT(changes_within(g, SOON_MS), 1);
    CHECK_INT(ip("route del 128.0.0.0/1 dev vpn"), 0);
    CHECK_INT(changes_within(g, SOON_MS), 1);
    CHECK_INT(ip("route add default dev vpn table 77"), 0);
    CHECK_INT(ip("rule add pref 10 lookup 77"), 0);
    CHECK_INT(ip("route add default dev vpn table 78"), 0);
    CHECK_INT(changes_within(g, SOON_MS), 1);
    CHECK_INT(ip("route del default"), 0);
    CHECK_INT(changes_within(g, QUIET_MS), 0);
}

TEST("another default route is another network, also by a VPN's halves and tables")
{
    apart(routes_come);
}

static void containers_come(struct rig *g)
{
    CHECK_INT(ip("link add c0 type veth peer name c1"), 0);
    CHECK_INT(ip("link set c1 up"), 0);
    CHECK_INT(ip("link set c0 up"), 0);
    CHECK_INT(ip("route add 203.0.113.0/24 dev c0"), 0);
    CHECK_INT(ip("route add 198.51.100.1/32 dev c0"), 0);
    CHECK_INT(ip("route del 198.51.100.1/32 dev c0"), 0);
    CHECK_INT(ip("route replace default via 192.0.2.1"), 0);
    CHECK_INT(ip("route add default via 192.0.2.7 metric 500"), 0);
    CHECK_INT(changes_within(g, QUIET_MS), 0);
    CHECK_INT(ip("link del c0"), 0);
    CHECK_INT(changes_within(g, QUIET_MS), 0);
}

TEST("routes and links of containers are no news, nor is the same default route once more")
{
    apart(containers_come);
}

static void carrier_goes(struct rig *g)
{
    CHECK_INT(ip("link set p0 down"), 0);
    CHECK_INT(changes_within(g, QUIET_MS), 0);
    CHECK_INT(ip("link set p0 up"), 0);
    CHECK_INT(changes_within(g, SOON_MS), 1);
    CHECK_INT(changes_within(g, QUIET_MS), 0);
}

TEST("a carrier that was lost and is back may be another network's")
{
    apart(carrier_goes);
}

static void address_goes(struct rig *g)
{
    CHECK_INT(ip("addr del 192.0.2.2/24 dev d0"), 0);
    CHECK_INT(ip("addr add 192.0.2.2/24 dev d0"), 0);
    CHECK_INT(ip("route replace default via 192.0.2.1"), 0);
    CHECK_INT(changes_within(g, SOON_MS), 1);
    CHECK_INT(changes_within(g, QUIET_MS), 0);
}

TEST("an address that was lost and is back may be another network's")
{
    apart(address_goes);
}
