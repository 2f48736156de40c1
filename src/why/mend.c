/* The last part of an answer: commands that mend it, the best first. Pure. */
#include <netinet/tcp.h>
#include <stdio.h>

#include "why/parts.h"

/* What belongs to somebody else is ended by root only. */
static const char *sudo_for(const struct why_report *r, uint32_t uid)
{
    return r->uid != 0 && r->uid != uid ? "sudo " : "";
}

static bool is_service(const char *unit)
{
    struct str u = str_of(unit), end = STR(".service");
    return u.n > end.n && str_eq(str_skip(u, u.n - end.n), end) && !str_starts(u, STR("user@"));
}

static void mend_by_engine(const struct why_report *r, const struct why_proc *p,
                           struct why_answer *a)
{
    const char *id = p->cgroup.container;
    if (p->cgroup.engine == ENGINE_DOCKER)
        words_mend(a, "ends the container", "docker stop %s", id);
    else if (p->cgroup.engine == ENGINE_PODMAN)
        words_mend(a, "ends the container", "%spodman stop %s", sudo_for(r, p->uid), id);
    else if (p->cgroup.engine == ENGINE_LXC)
        words_mend(a, "ends the container", "lxc-stop -n %s", id);
    else if (p->cgroup.engine == ENGINE_NSPAWN)
        words_mend(a, "ends the container", "machinectl poweroff %s", id);
    else
        words_mend(a, "names the pod of the container", "crictl ps --id %s", id);
}

static void mend_holder(const struct why_report *r, const struct why_proc *p, struct why_answer *a)
{
    char effect[128];
    (void)snprintf(effect, sizeof effect, "ends %s", p->name);
    if (words_is_docker_proxy(p))
        words_mend(a, "names the container, for `docker stop`", "docker ps --filter publish=%u",
                   r->target.port);
    else if (strcmp(p->name, "berth-peer") == 0)
        words_mend(a, "ends a `berth forward` that is in the background; else interrupt it",
                   "berth forward --end %u", r->target.port);
    else if (p->pid == 1)
        words_mend(a, "names the socket unit, for `systemctl stop`",
                   "systemctl list-sockets --show-types");
    else if (p->cgroup.engine != ENGINE_NONE)
        mend_by_engine(r, p, a);
    else if (is_service(p->cgroup.unit) && p->cgroup.user_unit)
        words_mend(a, effect, "systemctl --user stop %s", p->cgroup.unit);
    else if (is_service(p->cgroup.unit))
        words_mend(a, effect, "%ssystemctl stop %s", r->uid ? "sudo " : "", p->cgroup.unit);
    else
        words_mend(a, effect, "%skill %d", sudo_for(r, p->uid), p->pid);
}

static bool is_in_the_way(const struct why_report *r, size_t i)
{
    return words_is_asked(r, &r->socks[i]);
}

static void mend_holders(const struct why_report *r, struct why_answer *a)
{
    for (size_t i = 0; i < r->socks_count; i++) {
        const struct why_proc *p = is_in_the_way(r, i) ? words_owner(r, i) : NULL;
        if (p && words_is_berth(p))
            words_mend(a, "adds a program to this shared port, under a name of its own",
                       "berth run -- COMMAND");
        else if (p && r->socks[i].state == TCP_LISTEN)
            words_mend(a, "start both programs so: they share the port, each under its own name",
                       "berth run -- COMMAND");
    }
    for (size_t i = 0; i < r->socks_count; i++) {
        if (!is_in_the_way(r, i))
            continue;
        const struct why_proc *p = words_owner(r, i);
        if (p && !words_is_berth(p))
            mend_holder(r, p, a);
        else if (!p && r->uid != 0)
            words_mend(a, "names the program", "sudo berth why %u", r->target.port);
    }
}

static void mend_refusals(const struct why_report *r, struct why_answer *a)
{
    bool denied = false, in_use = false, absent = false, reuse_helps = false;
    for (size_t i = 0; i < r->probes_count; i++) {
        const struct why_probe *p = &r->probes[i];
        denied |= p->plain == EACCES;
        in_use |= p->reuse == EADDRINUSE;
        reuse_helps |= p->plain == EADDRINUSE && p->reuse == 0;
        absent |= r->target.kind == WHY_ADDR && i == 0 && p->plain == EADDRNOTAVAIL;
    }
    if (denied && r->target.port < r->rules.unprivileged_start) {
        words_mend(a, "lets every user bind it and the ports above",
                   "sudo sysctl net.ipv4.ip_unprivileged_port_start=%u", r->target.port);
        words_mend(a, "lets this one program bind it",
                   "sudo setcap cap_net_bind_service=+ep PROGRAM");
    }
    if (reuse_helps && !in_use && r->states[TCP_LISTEN] == 0)
        words_mend(a, "or wait a minute: closed connections then no longer count",
                   "set SO_REUSEADDR before bind()");
    if (in_use && r->socks_count == 0 && words_connections(r) > 0)
        words_mend(a, "then keeps outgoing connections away (add it to the list that is there)",
                   "sudo sysctl net.ipv4.ip_local_reserved_ports=%u", r->target.port);
    else if (in_use && r->socks_count == 0 && r->states[TCP_TIME_WAIT] > 0)
        words_mend(a, "until TIME_WAIT is over", "sleep 60");
    if (absent)
        words_mend(a, "shows the addresses that a program can bind", "ip -brief address");
}

static void mend_steering(const struct why_report *r, struct why_answer *a)
{
    if (r->redirs_count == 0)
        return;
    if (strcmp(r->redirs[0].via, "nftables") == 0)
        words_mend(a, "shows the rule and its handle, for `nft delete rule`",
                   "nft -a list ruleset");
    else
        words_mend(a, "shows the rule, for `iptables -t nat -D`", "iptables-save | grep %u",
                   r->target.port);
}

void mends_add(const struct why_report *r, struct why_answer *a)
{
    if (r->target.kind == WHY_PID)
        return;
    mend_holders(r, a);
    mend_refusals(r, a);
    mend_steering(r, a);
}
