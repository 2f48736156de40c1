/* The judgement: a report comes in, the answer goes out, first of all its verdict in one sentence.
 * Pure, so that every case can be tested with a made-up report. */
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>

#include "why/parts.h"

#define GROUPS_MAX 3

__attribute__((format(printf, 2, 3))) static void append(char text[WHY_TEXT_MAX],
                                                         const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text + used, WHY_TEXT_MAX - used, format, args);
    va_end(args);
}

static const char *subject(const struct why_report *r, char buf[ADDR_TEXT_MAX + 8])
{
    char text[ADDR_TEXT_MAX];
    if (r->target.kind == WHY_ADDR)
        (void)snprintf(buf, ADDR_TEXT_MAX + 8, "%s", addr_format(&r->target.addr, text));
    else
        (void)snprintf(buf, ADDR_TEXT_MAX + 8, "port %u", r->target.port);
    return buf;
}

static bool counts(const struct why_report *r, size_t sock, int state)
{
    return r->socks[sock].state == state && words_is_asked(r, &r->socks[sock]);
}

static size_t first_of(const struct why_report *r, int state)
{
    size_t i = 0;
    while (i < r->socks_count && !counts(r, i, state))
        i++;
    return i;
}

/* Sockets of one process are named once, with all its addresses. */
static bool same_owner(const struct why_report *r, size_t a, size_t b)
{
    const struct why_proc *pa = words_owner(r, a), *pb = words_owner(r, b);
    return pa == pb && (pa || r->socks[a].uid == r->socks[b].uid);
}

static bool is_repeated(const struct why_report *r, size_t sock)
{
    for (size_t i = 0; i < sock; i++)
        if (counts(r, i, r->socks[sock].state) && same_owner(r, i, sock))
            return true;
    return false;
}

/* "0.0.0.0 and [::]": the addresses of the owner of socks[from], each once. */
static void append_addresses(const struct why_report *r, size_t from, char text[WHY_TEXT_MAX])
{
    char host[ADDR_TEXT_MAX];
    const struct why_sock *said = NULL;
    for (size_t i = from; i < r->socks_count; i++) {
        const struct why_sock *s = &r->socks[i];
        if (!counts(r, i, r->socks[from].state) || !same_owner(r, from, i) ||
            (said && addr_equal(&s->local, &said->local)))
            continue;
        append(text, "%s%s", said ? " and " : " on ", why_host(&s->local, host));
        said = s;
    }
}

static void append_holders(const struct why_report *r, int state, char text[WHY_TEXT_MAX])
{
    char who[WHY_TEXT_MAX];
    size_t groups = 0;
    for (size_t i = 0; i < r->socks_count; i++) {
        if (!counts(r, i, state) || is_repeated(r, i) || ++groups > GROUPS_MAX)
            continue;
        append(text, "%s%s", groups > 1 ? ", and by " : "", words_who(r, i, who));
        append_addresses(r, i, text);
    }
    if (groups > GROUPS_MAX)
        append(text, ", and by %zu more", groups - GROUPS_MAX);
}

/* The bind to judge: that of the address in question, else the first that fails; a machine without
 * IPv6 is no trouble when nobody asked for it. */
static const struct why_probe *probe_choose(const struct why_report *r)
{
    const struct why_probe *half = NULL;
    for (size_t i = 0; i < r->probes_count; i++) {
        const struct why_probe *p = &r->probes[i];
        bool absent = p->plain == EAFNOSUPPORT || p->plain == EADDRNOTAVAIL;
        if (r->target.kind == WHY_ADDR)
            return p;
        if (p->reuse != 0 && !absent)
            return p;
        if (p->plain != 0 && !absent && !half)
            half = p;
    }
    return half;
}

static void verdict_of_probe(const struct why_report *r, struct why_answer *a)
{
    char name[ADDR_TEXT_MAX + 8], reason[WHY_TEXT_MAX];
    const struct why_probe *p = probe_choose(r);
    append(a->verdict, "nobody listens on %s; a bind would ", subject(r, name));
    if (!p || (p->plain == 0 && p->reuse == 0)) {
        append(a->verdict, "succeed");
        a->trouble = false;
        return;
    }
    int err = p->reuse ? p->reuse : p->plain;
    (void)why_probe_reason(r, p, reason);
    if (p->reuse == 0)
        append(a->verdict, "succeed only with SO_REUSEADDR and else ");
    append(a->verdict, "fail with %s", strerrorname_np(err) ? strerrorname_np(err) : "an error");
    append(a->verdict, reason[0] ? " because %s" : "%s", reason);
}

static void verdict_of_redirect(const struct why_report *r, struct why_answer *a)
{
    if (r->redirs_count == 0)
        return;
    append(a->verdict, "%s %s sends its connections %s", a->trouble ? ";" : ", but",
           r->redirs[0].via, r->redirs[0].what);
    a->trouble = true;
}

static void verdict_of_port(const struct why_report *r, struct why_answer *a)
{
    char name[ADDR_TEXT_MAX + 8];
    a->trouble = true;
    if (first_of(r, TCP_LISTEN) < r->socks_count) {
        append(a->verdict, "%s is held by ", subject(r, name));
        append_holders(r, TCP_LISTEN, a->verdict);
    } else if (first_of(r, WHY_STATE_INACTIVE) < r->socks_count) {
        append(a->verdict, "nobody listens on %s, but it is bound by ", subject(r, name));
        append_holders(r, WHY_STATE_INACTIVE, a->verdict);
    } else {
        verdict_of_probe(r, a);
        verdict_of_redirect(r, a);
    }
}

static const struct why_proc *asked_process(const struct why_report *r)
{
    for (size_t i = 0; i < r->procs_count; i++)
        if (r->procs[i].pid == r->target.pid)
            return &r->procs[i];
    return NULL;
}

static void verdict_of_process(const struct why_report *r, struct why_answer *a)
{
    char text[ADDR_TEXT_MAX];
    const struct why_proc *p = asked_process(r);
    if (!p) {
        append(a->verdict, "process %d listens on no TCP port", r->target.pid);
        return;
    }
    append(a->verdict, "%s (pid %d, user %s)", p->name, p->pid, p->user);
    for (size_t i = 0; i < r->socks_count && i < 8; i++)
        append(a->verdict, "%s%s %s", i ? ", " : " ",
               r->socks[i].state == TCP_LISTEN ? "listens on" : "has bound",
               addr_format(&r->socks[i].local, text));
    if (r->socks_count > 8)
        append(a->verdict, " and %zu more", r->socks_count - 8);
}

void why_explain(const struct why_report *r, struct why_answer *ret_answer)
{
    *ret_answer = (struct why_answer){.trouble = false};
    if (r->target.kind == WHY_PID)
        verdict_of_process(r, ret_answer);
    else
        verdict_of_port(r, ret_answer);
    notes_add(r, ret_answer);
    mends_add(r, ret_answer);
}
