/* berth why: who holds a port, what a bind would answer, and what mends it. Reads the arguments,
 * lets src/why find the answer, prints it as text. No daemon is needed. */
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/why-json.h"
#include "cli/why-peer.h"
#include "cli/why-shared.h"
#include "why/why.h"

struct options {
    bool json, brief, help;
    const char *subject;
    char pid[32]; /* of --pid, as subject */
};

static const char help_text[] =
    "usage: berth why [--json|--brief] PORT|ADDRESS|URL|PID\n"
    "       berth why [--json] PEER[/SERVICE]\n"
    "       berth why [--json]\n"
    "\n"
    "Says who holds a TCP port, what a bind would answer and why, and the command that mends it.\n"
    "\n"
    "  PORT       8080\n"
    "  ADDRESS    127.0.0.1:8080, [::1]:8080\n"
    "  URL        http://blog.localhost:8080/x: its port, and which program gets it through berth\n"
    "  PID        pid:4711, or a number above 65535: what that process listens on\n"
    "\n"
    "  PEER       home/web, home, or a key: how it is reached, and why not better\n"
    "  nothing    this network, as berth-peer knows it: the NAT, and ports that the router maps\n"
    "\n"
    "  --brief    the verdict and the command only\n"
    "  --json     everything, for programs\n"
    "  --pid N    the same as pid:N\n"
    "\n"
    "Root sees more: other users' programs, packet filter rules, other network namespaces.\n"
    "Exit status: 0 nothing is in the way, 1 something is, 2 the question was not understood.\n"
    "\n"
    "examples:\n"
    "  berth why 3000                     Address already in use: by whom?\n"
    "  berth why 127.0.0.1:5432           for this address only\n"
    "  berth why https://shop.example/    port 443\n"
    "  sudo berth why 80                  with the programs of all users\n"
    "  berth why --json 80 | jq .holders\n";

static int options_read(int argc, char **argv, struct options *ret_options)
{
    static const struct option names[] = {{"json", no_argument, NULL, 'j'},
                                          {"brief", no_argument, NULL, 'b'},
                                          {"pid", required_argument, NULL, 'p'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    struct options *o = ret_options;
    *o = (struct options){.subject = NULL};
    opterr = 0;
    optind = 1;
    for (int c = getopt_long(argc, argv, "h", names, NULL); c != -1;
         c = getopt_long(argc, argv, "h", names, NULL)) {
        o->json |= c == 'j';
        o->brief |= c == 'b';
        o->help |= c == 'h';
        if (c == 'p') {
            (void)snprintf(o->pid, sizeof o->pid, "pid:%s", optarg);
            o->subject = o->pid;
        }
        if (c == '?')
            return cli_usage("why", "`%s` is no option, or lacks its value", argv[optind - 1]);
    }
    if (!o->subject && optind < argc)
        o->subject = argv[optind++];
    if (!o->help && o->subject && optind < argc)
        return cli_usage("why", "one question at a time");
    return CLI_OK;
}

static void print_process(const struct why_proc *p)
{
    const char *dim = cli_style(stdout, STYLE_DIM), *end = cli_style(stdout, STYLE_NONE);
    (void)printf("    pid %-8d %s\n", p->pid, p->cmdline[0] ? p->cmdline : p->name);
    (void)printf("      %suser%s %s", dim, end, p->user);
    if (p->exe[0])
        (void)printf("  %sprogram%s %s", dim, end, p->exe);
    if (p->cgroup.unit[0])
        (void)printf("  %s%sunit%s %s", dim, p->cgroup.user_unit ? "user " : "", end,
                     p->cgroup.unit);
    if (p->cgroup.engine != ENGINE_NONE)
        (void)printf("  %scontainer%s %s %s", dim, end, why_engine_name(p->cgroup.engine),
                     p->cgroup.container);
    (void)printf("\n");
}

static bool same_holders(const struct why_report *r, size_t a, size_t b)
{
    size_t n = why_holders(r, a), k = 0;
    while (k < n && why_holder(r, a, k) == why_holder(r, b, k))
        k++;
    return k == n && why_holders(r, b) == n;
}

/* Sockets of one SO_REUSEPORT group with the same processes are one line. */
static bool same_line(const struct why_report *r, size_t a, size_t b)
{
    return r->socks[a].state == r->socks[b].state && r->socks[a].queued == r->socks[b].queued &&
           addr_equal(&r->socks[a].local, &r->socks[b].local) && same_holders(r, a, b);
}

static void print_socket(const struct why_report *r, size_t i)
{
    size_t alike = 0;
    for (size_t k = 0; k < r->socks_count; k++) {
        if (k < i && same_line(r, k, i))
            return;
        alike += same_line(r, k, i);
    }
    const struct why_sock *s = &r->socks[i];
    const struct why_proc *p = why_holder(r, i, 0);
    char text[ADDR_TEXT_MAX];
    (void)printf("  %s%s%s  %s", cli_style(stdout, STYLE_BOLD), addr_format(&s->local, text),
                 cli_style(stdout, STYLE_NONE), why_state_name(s->state));
    if (s->state == TCP_LISTEN)
        (void)printf(", %u of %u waiting", s->queued, s->backlog);
    (void)printf("%s%s", s->v6only ? ", IPv6 only" : "", s->mptcp ? ", Multipath TCP" : "");
    if (!p || strcmp(p->user, s->user) != 0)
        (void)printf(", made by user %s", s->user);
    if (alike > 1)
        (void)printf("  × %zu", alike);
    (void)printf("\n");
}

static void print_holders(const struct why_report *r, size_t i)
{
    enum { SHOWN = 5 };
    size_t holders = why_holders(r, i);
    for (size_t k = 0; k < holders && k < SHOWN; k++)
        print_process(why_holder(r, i, k));
    if (holders > SHOWN)
        (void)printf("    and %zu more processes\n", holders - SHOWN);
    if (holders == 0)
        (void)printf("    no process that user %s can see\n", r->user);
}

static bool is_printed(const struct why_report *r, size_t sock)
{
    for (size_t i = 0; i < sock; i++)
        if (same_holders(r, i, sock))
            return true;
    return false;
}

/* Sockets with the same processes stand together above them. */
static void print_sockets(const struct why_report *r)
{
    enum { SHOWN = 16 };
    size_t count = r->socks_count < SHOWN ? r->socks_count : SHOWN;
    if (count > 0)
        (void)printf("\n");
    for (size_t i = 0; i < count; i++) {
        if (is_printed(r, i))
            continue;
        for (size_t k = i; k < count; k++)
            if (same_holders(r, i, k))
                print_socket(r, k);
        print_holders(r, i);
    }
    if (r->socks_count > count)
        (void)printf("  and %zu more sockets\n", r->socks_count - count);
}

static const char *answer_word(int err)
{
    const char *name = err ? strerrorname_np(err) : "works";
    return name ? name : "fails";
}

static void print_probes(const struct why_report *r)
{
    char text[ADDR_TEXT_MAX], reason[WHY_TEXT_MAX];
    if (r->probes_count == 0)
        return;
    (void)printf("\nwhat a bind would answer to user %s\n", r->user);
    (void)printf("  %s%-22s %-14s %-14s%s\n", cli_style(stdout, STYLE_DIM), "address", "plain",
                 "SO_REUSEADDR", cli_style(stdout, STYLE_NONE));
    for (size_t i = 0; i < r->probes_count; i++) {
        const struct why_probe *p = &r->probes[i];
        (void)why_probe_reason(r, p, reason);
        (void)printf("  %-22s %-14s %s%s%s\n", addr_format(&p->addr, text), answer_word(p->plain),
                     answer_word(p->reuse), reason[0] ? "  " : "", reason);
    }
}

static void print_full(const struct why_report *r, const struct why_answer *a)
{
    print_sockets(r);
    if (a->notes_count > 0)
        (void)printf("\n");
    for (size_t i = 0; i < a->notes_count; i++)
        (void)printf("- %s\n", a->notes[i]);
    print_probes(r);
    if (a->mends_count > 0)
        (void)printf("\nwhat mends it\n");
    for (size_t i = 0; i < a->mends_count; i++)
        (void)printf("  %s%s%s\n      %s\n", cli_style(stdout, STYLE_BOLD), a->mends[i].command,
                     cli_style(stdout, STYLE_NONE), a->mends[i].effect);
}

static void print_text(const struct options *o, const struct why_target *target,
                       const struct why_report *r, const struct why_answer *a)
{
    (void)printf("%s%s%s\n", cli_style(stdout, a->trouble ? STYLE_BAD : STYLE_GOOD), a->verdict,
                 cli_style(stdout, STYLE_NONE));
    if (o->brief && a->mends_count > 0)
        (void)printf("%s: %s\n", a->mends[0].command, a->mends[0].effect);
    if (o->brief)
        return;
    if (target->kind != WHY_PID)
        why_shared_print(o->subject, target->port);
    print_full(r, a);
}

static int answer(const struct options *o, const struct why_target *target, struct why_report *r,
                  struct why_answer *a)
{
    int rc = why_collect(target, WHY_FULL, r);
    if (rc == -ENOENT && target->kind == WHY_PID)
        return cli_fail("why", "there is no process %d", target->pid);
    if (rc == -EACCES && target->kind == WHY_PID)
        return cli_fail("why", "process %d belongs to another user: run as root", target->pid);
    if (rc == -EPERM && target->kind == WHY_PID)
        return cli_fail("why", "process %d lives in another network namespace: run as root",
                        target->pid);
    if (rc < 0)
        return cli_fail("why", "the sockets cannot be listed: %s", strerror(-rc));
    why_explain(r, a);
    if (o->json)
        rc = why_json_print(r, a, stdout);
    else
        print_text(o, target, r, a);
    if (rc < 0 || fflush(stdout) != 0)
        return cli_fail("why", "the answer cannot be written");
    return a->trouble ? CLI_TROUBLE : CLI_OK;
}

int cmd_why(int argc, char **argv)
{
    struct options o;
    struct why_target target;
    char reason[WHY_REASON_MAX];
    int rc = options_read(argc, argv, &o);
    if (rc != CLI_OK)
        return rc;
    if (o.help) {
        (void)fputs(help_text, stdout);
        return CLI_OK;
    }
    if (!o.subject)
        return why_network(o.json);
    if (why_is_peer(o.subject))
        return why_peer(o.subject, o.json);
    if (why_target_parse(o.subject, &target, reason) < 0)
        return cli_usage("why", "%s", reason);
    /* A parent that ignores SIGCHLD must not keep us from hearing how our children ended. */
    (void)signal(SIGCHLD, SIG_DFL);
    struct why_report *r = calloc(1, sizeof *r);
    struct why_answer *a = calloc(1, sizeof *a);
    rc = r && a ? answer(&o, &target, r, a) : cli_fail("why", "memory is short");
    if (r)
        why_report_done(r);
    free(r);
    free(a);
    return rc;
}
