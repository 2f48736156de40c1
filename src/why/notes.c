/* The sentences below the verdict: what the listed sockets mean together. Pure. */
#include <netinet/tcp.h>
#include <stdio.h>

#include "why/parts.h"

static const char *owner_name(const struct why_report *r, size_t sock)
{
    const struct why_proc *p = words_owner(r, sock);
    return p ? p->name : "somebody";
}

static void note_special_holder(const struct why_report *r, const struct why_proc *p,
                                struct why_answer *a)
{
    if (words_is_berth(p))
        words_note(a, "berth shares this port: `berth ls` shows with whom");
    if (words_is_docker_proxy(p)) {
        struct str ip = words_option(p->cmdline, "-container-ip");
        struct str port = words_option(p->cmdline, "-container-port");
        words_note(a, "docker-proxy publishes it for port " STR_FMT " of the container " STR_FMT,
                   STR_ARG(port), STR_ARG(ip));
    }
    if (strcmp(p->name, "rootlessport") == 0 || strcmp(p->name, "conmon") == 0)
        words_note(a, "%s publishes it for a podman container", p->name);
    if (p->pid == 1 && strcmp(p->name, "systemd") == 0)
        words_note(a, "systemd holds it for a socket unit, whose service starts at the first "
                      "connection");
    if (p->foreign_netns && r->target.kind != WHY_PID)
        words_note(a, "%s (pid %d) lives in another network namespace, its socket in this one",
                   p->name, p->pid);
}

static void note_invisible(const struct why_report *r, const struct why_sock *s,
                           struct why_answer *a)
{
    if (r->uid != 0)
        words_note(a,
                   "the processes of user %s cannot be seen by user %s: run as root to see which "
                   "program it is",
                   s->user, r->user);
    else
        words_note(a, "no process has this socket open: the kernel itself holds it, or it waits "
                      "in a message between processes, or its process is in a PID namespace "
                      "outside ours");
}

static void note_listener(const struct why_report *r, size_t i, struct why_answer *a)
{
    const struct why_sock *s = &r->socks[i];
    const struct why_proc *p = words_owner(r, i);
    char host[ADDR_TEXT_MAX];
    if (p)
        note_special_holder(r, p, a);
    else
        note_invisible(r, s, a);
    if (s->state != TCP_LISTEN)
        words_note(a,
                   "%s has bound %s and does not listen: a bind fails though no connection "
                   "is ever answered",
                   owner_name(r, i), why_host(&s->local, host));
    else if (s->queued > s->backlog)
        words_note(a,
                   "%s does not accept: its queue on %s is full (%u waiting, limit %u) and "
                   "new connections hang",
                   owner_name(r, i), why_host(&s->local, host), s->queued, s->backlog);
    if (s->mptcp)
        words_note(a, "%s listens with Multipath TCP on %s", owner_name(r, i),
                   why_host(&s->local, host));
}

/* A socket whose like has been noted (same owner, state and kind) adds nothing new. */
static bool is_like_before(const struct why_report *r, size_t i)
{
    const struct why_sock *s = &r->socks[i];
    for (size_t k = 0; k < i; k++)
        if (words_owner(r, k) == words_owner(r, i) && r->socks[k].state == s->state &&
            r->socks[k].uid == s->uid && (s->state == TCP_LISTEN ? s->queued <= s->backlog : false))
            return true;
    return false;
}

/* How berth spreads its listeners is nobody's trouble. */
static bool is_held_by_berth(const struct why_report *r, size_t i)
{
    const struct why_proc *p = words_owner(r, i);
    return p && words_is_berth(p);
}

static void note_scope(const struct why_report *r, size_t i, struct why_answer *a)
{
    const struct why_sock *s = &r->socks[i];
    char host[ADDR_TEXT_MAX];
    if (s->state != TCP_LISTEN || is_held_by_berth(r, i))
        return;
    if (addr_is_wildcard(&s->local) && s->local.sa.sa_family == AF_INET6 && !s->v6only)
        words_note(a, "%s listens on [::] without IPV6_V6ONLY, and so holds 0.0.0.0 as well",
                   owner_name(r, i));
    else if (!addr_is_wildcard(&s->local))
        words_note(a,
                   "%s listens on %s only: that blocks a bind to the wildcard, but no other "
                   "address",
                   owner_name(r, i), why_host(&s->local, host));
}

/* One address of IPv4 and one of IPv6 that different programs hold: "localhost" means both. */
static void note_families(const struct why_report *r, struct why_answer *a)
{
    for (size_t i = 0; i < r->socks_count; i++)
        for (size_t k = 0; k < r->socks_count; k++) {
            const struct why_sock *v4 = &r->socks[i], *v6 = &r->socks[k];
            if (v4->state != TCP_LISTEN || v6->state != TCP_LISTEN ||
                v4->local.sa.sa_family != AF_INET || v6->local.sa.sa_family != AF_INET6 ||
                !words_owner(r, i) || !words_owner(r, k) || words_owner(r, i) == words_owner(r, k))
                continue;
            words_note(a,
                       "IPv4 connections reach %s (pid %d), IPv6 connections %s (pid %d): "
                       "`localhost` may be either",
                       owner_name(r, i), words_owner(r, i)->pid, owner_name(r, k),
                       words_owner(r, k)->pid);
            return;
        }
}

static bool is_first_of_group(const struct why_report *r, size_t sock)
{
    for (size_t i = 0; i < sock; i++)
        if (r->socks[i].state == TCP_LISTEN &&
            addr_equal(&r->socks[i].local, &r->socks[sock].local))
            return false;
    return r->socks[sock].state == TCP_LISTEN;
}

/* Several listening sockets with one address: only SO_REUSEPORT allows that. */
static void note_reuseport(const struct why_report *r, size_t first, struct why_answer *a)
{
    char host[ADDR_TEXT_MAX], other[WHY_TEXT_MAX] = "";
    size_t members = 0;
    for (size_t i = first; i < r->socks_count; i++) {
        const struct why_sock *s = &r->socks[i];
        if (s->state != TCP_LISTEN || !addr_equal(&s->local, &r->socks[first].local))
            continue;
        members++;
        const struct why_proc *p = words_owner(r, first), *q = words_owner(r, i);
        if (p && q && p->identity != q->identity)
            (void)words_who(r, i, other);
    }
    if (members < 2)
        return;
    char who[WHY_TEXT_MAX];
    why_host(&r->socks[first].local, host);
    if (other[0])
        words_note(a,
                   "different programs share %s by SO_REUSEPORT, %s and %s: connections are "
                   "spread blindly over these %zu sockets",
                   host, words_who(r, first, who), other, members);
    else if (!is_held_by_berth(r, first))
        words_note(a, "%s shares %s among %zu sockets by SO_REUSEPORT", owner_name(r, first), host,
                   members);
}

static void note_sockets(const struct why_report *r, struct why_answer *a)
{
    for (size_t i = 0; i < r->socks_count; i++)
        if (words_is_asked(r, &r->socks[i]) && !is_like_before(r, i))
            note_listener(r, i, a);
    if (r->target.kind == WHY_PID)
        return;
    for (size_t i = 0; i < r->socks_count; i++)
        if (is_first_of_group(r, i)) {
            note_scope(r, i, a);
            note_reuseport(r, i, a);
        }
    note_families(r, a);
}

static void note_time_wait(const struct why_report *r, struct why_answer *a)
{
    uint32_t n = r->states[TCP_TIME_WAIT];
    bool refused_plain = false, refused_reuse = false;
    for (size_t i = 0; i < r->probes_count; i++) {
        refused_plain |= r->probes[i].plain == EADDRINUSE;
        refused_reuse |= r->probes[i].reuse == EADDRINUSE;
    }
    if (n == 0)
        return;
    const char *effect = "no bind is refused because of them";
    if (r->socks_count > 0)
        effect = "they matter only when the listener is gone, to a program without SO_REUSEADDR";
    else if (refused_reuse)
        effect =
            "made by a program without SO_REUSEADDR, they refuse every bind for up to a minute";
    else if (refused_plain)
        effect = "they refuse a bind without SO_REUSEADDR for up to a minute";
    words_note(a, "%u connection%s in TIME_WAIT: %s", n, n == 1 ? "" : "s", effect);
}

static bool is_ephemeral(const struct why_report *r)
{
    return r->rules.ephemeral_lo <= r->target.port && r->target.port <= r->rules.ephemeral_hi;
}

static void note_connections(const struct why_report *r, struct why_answer *a)
{
    uint32_t n = words_connections(r);
    char local[ADDR_TEXT_MAX], peer[ADDR_TEXT_MAX];
    if (n == 0)
        return;
    if (r->states[TCP_LISTEN] > 0) {
        words_note(a, "%u connection%s open", n, n == 1 ? " is" : "s are");
        return;
    }
    const struct why_sock *s = &r->samples[0];
    for (size_t i = 0; i < r->samples_count && s->state == TCP_TIME_WAIT; i++)
        s = &r->samples[i];
    words_note(a, "%u connection%s this local port, such as %s to %s (%s): %s", n,
               n == 1 ? " uses" : "s use", addr_format(&s->local, local),
               addr_format(&s->peer, peer), why_state_name(s->state),
               is_ephemeral(r) ? "probably outgoing, as the port is one that the kernel gives to "
                                 "outgoing connections"
                               : "left behind by a listener that is gone, or outgoing");
}

static void note_rules(const struct why_report *r, struct why_answer *a)
{
    const struct why_rules *rules = &r->rules;
    if (r->target.port < rules->unprivileged_start)
        words_note(a,
                   "ports below %d are privileged (net.ipv4.ip_unprivileged_port_start), and user "
                   "%s %s bind them",
                   rules->unprivileged_start, r->user, rules->may_bind_low ? "may" : "may not");
    if (rules->reserved)
        words_note(a, "the port is in net.ipv4.ip_local_reserved_ports: outgoing connections do "
                      "not take it, programs may");
    else if (is_ephemeral(r))
        words_note(a,
                   "the port is in net.ipv4.ip_local_port_range (%d to %d): any outgoing "
                   "connection may take it for a while",
                   rules->ephemeral_lo, rules->ephemeral_hi);
}

static void note_steering(const struct why_report *r, struct why_answer *a)
{
    for (size_t i = 0; i < r->redirs_count && i < 4; i++)
        words_note(a, "%s sends connections %s before any listener sees them", r->redirs[i].via,
                   r->redirs[i].what);
    for (size_t i = 0; i < r->lookups_count; i++)
        words_note(a,
                   "the sk_lookup program `%s` is attached here: it may steer connections of any "
                   "port, whoever listens",
                   r->lookups[i]);
    for (size_t i = 0; i < r->elsewhere_count && i < 4; i++) {
        const struct why_elsewhere *e = &r->elsewhere[i];
        char text[ADDR_TEXT_MAX];
        words_note(a,
                   "%s is also held in another network namespace (that of %s, pid %d): this "
                   "does not conflict",
                   addr_format(&e->local, text), e->name, e->pid);
    }
}

void notes_add(const struct why_report *r, struct why_answer *a)
{
    note_sockets(r, a);
    if (r->foreign)
        words_note(a,
                   "process %d lives in another network namespace: its ports do not conflict "
                   "with ours",
                   r->target.pid);
    if (r->target.kind == WHY_PID)
        return;
    note_connections(r, a);
    note_time_wait(r, a);
    note_steering(r, a);
    note_rules(r, a);
}
