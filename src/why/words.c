/* The phrases of an answer: who holds a socket, and why a bind is refused. Pure. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>

#include "why/parts.h"

const char *why_state_name(int state)
{
    static const char *const names[WHY_STATES] = {
        [TCP_ESTABLISHED] = "established",
        [TCP_SYN_SENT] = "syn-sent",
        [TCP_SYN_RECV] = "syn-received",
        [TCP_FIN_WAIT1] = "fin-wait-1",
        [TCP_FIN_WAIT2] = "fin-wait-2",
        [TCP_TIME_WAIT] = "time-wait",
        [TCP_CLOSE] = "closed",
        [TCP_CLOSE_WAIT] = "close-wait",
        [TCP_LAST_ACK] = "last-ack",
        [TCP_LISTEN] = "listening",
        [TCP_CLOSING] = "closing",

        [WHY_STATE_INACTIVE] = "bound",
    };
    return state >= 0 && state < WHY_STATES && names[state] ? names[state] : "unknown";
}

const char *why_host(const struct addr *a, char buf[ADDR_TEXT_MAX])
{
    (void)addr_format(a, buf);
    char *colon = strrchr(buf, ':');
    if (colon)
        *colon = 0;
    return buf;
}

bool words_is_berth(const struct why_proc *p)
{
    return strcmp(p->name, "berthd") == 0 || strcmp(p->name, "berth-dispatch") == 0;
}

bool words_is_docker_proxy(const struct why_proc *p)
{
    return strcmp(p->name, "docker-proxy") == 0;
}

struct str words_option(const char *cmdline, const char *option)
{
    char pattern[64];
    (void)snprintf(pattern, sizeof pattern, " %s ", option);
    const char *at = strstr(cmdline, pattern);
    if (!at)
        return (struct str){"", 0};
    at += strlen(pattern);
    return (struct str){at, strcspn(at, " ")};
}

size_t why_holders(const struct why_report *r, size_t sock)
{
    size_t n = 0;
    for (size_t i = 0; i < r->holds_count; i++)
        n += r->holds[i].sock == sock;
    return n;
}

const struct why_proc *why_holder(const struct why_report *r, size_t sock, size_t i)
{
    for (size_t h = 0; h < r->holds_count; h++)
        if (r->holds[h].sock == sock && i-- == 0)
            return &r->procs[r->holds[h].proc];
    return NULL;
}

const struct why_proc *words_owner(const struct why_report *r, size_t sock)
{
    for (size_t i = 0; r->target.kind == WHY_PID && i < why_holders(r, sock); i++)
        if (why_holder(r, sock, i)->pid == r->target.pid)
            return why_holder(r, sock, i);
    return why_holder(r, sock, 0);
}

const char *words_who(const struct why_report *r, size_t sock, char buf[WHY_TEXT_MAX])
{
    const struct why_proc *p = words_owner(r, sock);
    size_t n = why_holders(r, sock);
    if (p && n == 1)
        (void)snprintf(buf, WHY_TEXT_MAX, "%s (pid %d, user %s)", p->name, p->pid, p->user);
    else if (p)
        (void)snprintf(buf, WHY_TEXT_MAX, "%s (pid %d and %zu more, user %s)", p->name, p->pid,
                       n - 1, p->user);
    else if (r->uid != 0)
        (void)snprintf(buf, WHY_TEXT_MAX, "a process of user %s", r->socks[sock].user);
    else
        (void)snprintf(buf, WHY_TEXT_MAX, "no visible process");
    return buf;
}

bool words_is_asked(const struct why_report *r, const struct why_sock *s)
{
    return r->target.kind != WHY_ADDR || addr_overlap(&s->local, s->v6only, &r->target.addr, false);
}

uint32_t words_connections(const struct why_report *r)
{
    uint32_t n = 0;
    for (int i = 0; i < WHY_STATES; i++)
        if (i != TCP_LISTEN && i != WHY_STATE_INACTIVE && i != TCP_TIME_WAIT)
            n += r->states[i];
    return n;
}

void words_note(struct why_answer *a, const char *format, ...)
{
    if (a->notes_count == WHY_NOTES_MAX)
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(a->notes[a->notes_count++], WHY_TEXT_MAX, format, args);
    va_end(args);
}

void words_mend(struct why_answer *a, const char *effect, const char *format, ...)
{
    if (a->mends_count == WHY_MENDS_MAX)
        return;
    struct why_mend *m = &a->mends[a->mends_count];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(m->command, sizeof m->command, format, args);
    va_end(args);
    (void)snprintf(m->effect, sizeof m->effect, "%s", effect);
    for (size_t i = 0; i < a->mends_count; i++)
        if (strcmp(a->mends[i].command, m->command) == 0)
            return;
    a->mends_count++;
}

/* The socket that best explains a refusal: the same address before one that includes it. */
static const struct why_sock *blocker_find(const struct why_report *r, const struct why_probe *p)
{
    const struct why_sock *best = NULL;
    for (size_t i = 0; i < r->socks_count; i++) {
        const struct why_sock *s = &r->socks[i];
        if (addr_equal(&s->local, &p->addr))
            return s;
        if (!best && addr_overlap(&s->local, s->v6only, &p->addr, p->v6only))
            best = s;
    }
    return best;
}

static const char *in_use_reason(const struct why_report *r, const struct why_probe *p,
                                 char buf[WHY_TEXT_MAX])
{
    const struct why_sock *s = blocker_find(r, p);
    if (!s) {
        uint32_t waiting = r->states[TCP_TIME_WAIT], open = words_connections(r);
        if (open > 0)
            (void)snprintf(buf, WHY_TEXT_MAX, "%u open connection%s there", open,
                           open == 1 ? " is" : "s are");
        else if (waiting > 0)
            (void)snprintf(buf, WHY_TEXT_MAX, "%u connection%s in TIME_WAIT", waiting,
                           waiting == 1 ? " is" : "s are");
        else
            (void)snprintf(buf, WHY_TEXT_MAX,
                           "a socket that the kernel does not list holds it, or held it a "
                           "moment ago");
        return buf;
    }
    const struct why_proc *owner = words_owner(r, (size_t)(s - r->socks));
    char hidden[WHY_NAME_MAX + 24];
    (void)snprintf(hidden, sizeof hidden, "a process of user %s", s->user);
    const char *name = owner ? owner->name : hidden;
    const char *verb = s->state == TCP_LISTEN ? "listens on" : "has bound";
    char host[ADDR_TEXT_MAX];
    const char *tail = ", and a wildcard needs every address";
    if (addr_equal(&s->local, &p->addr))
        tail = "";
    else if (addr_is_wildcard(&s->local) && s->local.sa.sa_family != p->addr.sa.sa_family)
        tail = s->local.sa.sa_family == AF_INET6 ? ", which includes IPv4"
                                                 : ", and a dual-stack [::] needs IPv4, too";
    else if (addr_is_wildcard(&s->local))
        tail = ", which includes every address";
    (void)snprintf(buf, WHY_TEXT_MAX, "%s %s %s%s", name, verb, why_host(&s->local, host), tail);
    return buf;
}

const char *why_probe_reason(const struct why_report *r, const struct why_probe *p,
                             char buf[WHY_TEXT_MAX])
{
    int err = p->plain ? p->plain : p->reuse;
    buf[0] = 0;
    if (err == EADDRINUSE)
        return in_use_reason(r, p, buf);
    if (err == EACCES && addr_port(&p->addr) < r->rules.unprivileged_start)
        (void)snprintf(buf, WHY_TEXT_MAX, "ports below %d need CAP_NET_BIND_SERVICE",
                       r->rules.unprivileged_start);
    else if (err == EACCES || err == EPERM)
        (void)snprintf(buf, WHY_TEXT_MAX, "a security policy (cgroup, LSM) refuses it");
    else if (err == EADDRNOTAVAIL)
        (void)snprintf(buf, WHY_TEXT_MAX, "no interface has this address");
    else if (err == EAFNOSUPPORT)
        (void)snprintf(buf, WHY_TEXT_MAX, "IPv6 is switched off");
    else if (err != 0)
        (void)snprintf(buf, WHY_TEXT_MAX, "%s", strerror(err));
    return buf;
}
