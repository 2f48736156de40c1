/* From a process's cgroup to its systemd unit or container. */
#include "test.h"

#include "why/why.h"

#define ID "4f9d2c1e8b7a6053f1e2d3c4b5a69788990a1b2c3d4e5f60718293a4b5c6d7e8"

struct sample {
    const char *text, *unit;
    bool user_unit;
    enum why_engine engine;
    const char *container;
};

static const struct sample samples[] = {
    {"0::/system.slice/nginx.service\n", "nginx.service", false, ENGINE_NONE, ""},
    {"0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope", false, ENGINE_NONE, ""},
    {"0::/user.slice/user-1000.slice/user@1000.service/app.slice/blog.service\n", "blog.service",
     true, ENGINE_NONE, ""},
    {"0::/system.slice/docker-" ID ".scope\n", "", false, ENGINE_DOCKER, "4f9d2c1e8b7a"},
    {"0::/docker/" ID "\n", "", false, ENGINE_DOCKER, "4f9d2c1e8b7a"},
    {"0::/machine.slice/libpod-" ID ".scope/container\n", "", false, ENGINE_PODMAN, "4f9d2c1e8b7a"},
    {"0::/lxc.payload.web/system.slice/a.service\n", "a.service", false, ENGINE_LXC, "web"},
    {"0::/lxc/web\n", "", false, ENGINE_LXC, "web"},
    {"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" ID ".scope\n", "", false, ENGINE_KUBE,
     "4f9d2c1e8b7a"},
    {"0::/kubepods/besteffort/pod12-34/" ID "\n", "", false, ENGINE_KUBE, "4f9d2c1e8b7a"},
    {"0::/machine.slice/machine-deb.scope/payload\n", "", false, ENGINE_NSPAWN, "deb"},
    {"5:cpu:/\n1:name=systemd:/system.slice/old.service\n0::/\n", "old.service", false, ENGINE_NONE,
     ""},
    {"0::/\n", "", false, ENGINE_NONE, ""},
    {"", "", false, ENGINE_NONE, ""},
    {"garbage\n:::\n::\n", "", false, ENGINE_NONE, ""},
    {"0::/docker-.scope/libpod-\n", "docker-.scope", false, ENGINE_NONE, ""},
};

TEST("units and containers are read from a cgroup")
{
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        struct why_cgroup g;
        char unit[WHY_NAME_MAX];
        why_cgroup_parse(samples[i].text, &g);
        (void)snprintf(unit, sizeof unit, "%.*s", WHY_NAME_MAX - 1, samples[i].unit);
        CHECK_TEXT(g.unit, unit);
        CHECK_INT(g.user_unit, samples[i].user_unit);
        CHECK_INT(g.engine, samples[i].engine);
        CHECK_TEXT(g.container, samples[i].container);
    }
}
