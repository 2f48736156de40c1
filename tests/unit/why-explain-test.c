/* The judgement over made-up reports: each case is a machine in a few lines. */
#include "test.h"

#include <netinet/tcp.h>

#include "why/why.h"

/* A report whose arrays live here, so that a case needs no freeing. */
static struct {
    struct why_report r;
    struct why_sock socks[8];
    struct why_proc procs[8];
    struct why_hold holds[16];
    struct why_answer a;
} m;

static struct addr at(const char *text)
{
    struct addr a = {.len = 0};
    CHECK_INT(addr_parse(text, &a), 0);
    return a;
}

static void machine_new(uint16_t port, uint32_t uid)
{
    memset(&m, 0, sizeof m);
    m.r.target = (struct why_target){.kind = WHY_PORT, .port = port};
    m.r.uid = uid;
    (void)snprintf(m.r.user, sizeof m.r.user, "%s", uid ? "joe" : "root");
    m.r.socks = m.socks;
    m.r.procs = m.procs;
    m.r.holds = m.holds;
    m.r.rules = (struct why_rules){1024, 32768, 60999, false, uid == 0};
}

static struct why_proc *program(const char *name, int pid, uint32_t uid)
{
    struct why_proc *p = &m.procs[m.r.procs_count++];
    *p = (struct why_proc){.pid = pid, .uid = uid, .identity = (uint64_t)name[0]};
    (void)snprintf(p->name, sizeof p->name, "%s", name);
    (void)snprintf(p->exe, sizeof p->exe, "/usr/bin/%s", name);
    (void)snprintf(p->cmdline, sizeof p->cmdline, "%s --serve", name);
    (void)snprintf(p->user, sizeof p->user, "%s", uid ? "joe" : "root");
    return p;
}

/* A socket of program number `proc`, or of nobody visible for -1. */
static struct why_sock *sock(const char *local, int state, int proc)
{
    struct why_sock *s = &m.socks[m.r.socks_count];
    *s = (struct why_sock){.state = state, .local = at(local), .inode = 7, .backlog = 128};
    (void)snprintf(s->user, sizeof s->user, "ann");
    m.r.states[state]++;
    if (proc >= 0)
        m.holds[m.r.holds_count++] = (struct why_hold){(uint32_t)m.r.socks_count, (uint32_t)proc};
    m.r.socks_count++;
    return s;
}

static void probe(const char *local, int plain, int reuse)
{
    m.r.probes[m.r.probes_count++] = (struct why_probe){at(local), false, plain, reuse};
}

static void explain(void)
{
    why_explain(&m.r, &m.a);
}

static void ask_address(const char *text)
{
    m.r.target.kind = WHY_ADDR;
    m.r.target.addr = at(text);
}

static void check_note(const char *part)
{
    for (size_t i = 0; i < m.a.notes_count; i++)
        if (strstr(m.a.notes[i], part))
            return;
    CHECK_TEXT(m.a.notes_count ? m.a.notes[0] : "(no note)", part);
}

static void check_no_note(const char *part)
{
    for (size_t i = 0; i < m.a.notes_count; i++)
        if (strstr(m.a.notes[i], part))
            CHECK_TEXT(m.a.notes[i], "(no such note)");
}

static void check_mend(size_t i, const char *command)
{
    CHECK_TEXT(i < m.a.mends_count ? m.a.mends[i].command : "(none)", command);
}

TEST("a program that listens is named with its process, user and address")
{
    machine_new(8080, 1000);
    (void)program("python3", 123, 1000);
    (void)sock("0.0.0.0:8080", TCP_LISTEN, 0);
    explain();
    CHECK_TEXT(m.a.verdict, "port 8080 is held by python3 (pid 123, user joe) on 0.0.0.0");
    CHECK(m.a.trouble);
    check_mend(0, "berth run -- COMMAND");
    check_mend(1, "kill 123");
}

TEST("the workers of one program are counted and its addresses listed once")
{
    machine_new(80, 0);
    (void)program("nginx", 10, 0);
    (void)program("nginx", 11, 1000);
    (void)program("nginx", 12, 1000);
    for (int i = 0; i < 3; i++) {
        (void)sock(i < 2 ? "0.0.0.0:80" : "[::]:80", TCP_LISTEN, 0);
        m.socks[i].v6only = true;
        m.holds[m.r.holds_count++] = (struct why_hold){(uint32_t)i, 1};
        m.holds[m.r.holds_count++] = (struct why_hold){(uint32_t)i, 2};
    }
    explain();
    CHECK_TEXT(m.a.verdict,
               "port 80 is held by nginx (pid 10 and 2 more, user root) on 0.0.0.0 and [::]");
    check_note("nginx shares 0.0.0.0 among 2 sockets by SO_REUSEPORT");
    check_no_note("different programs");
}

TEST("different programs in one SO_REUSEPORT group are warned about")
{
    machine_new(8080, 1000);
    (void)program("node", 5, 1000);
    (void)program("python3", 6, 1000);
    (void)sock("0.0.0.0:8080", TCP_LISTEN, 0);
    (void)sock("0.0.0.0:8080", TCP_LISTEN, 1);
    explain();
    CHECK_TEXT(m.a.verdict,
               "port 8080 is held by node (pid 5, user joe) on 0.0.0.0, and by python3 "
               "(pid 6, user joe) on 0.0.0.0");
    check_note("spread blindly over these 2 sockets");
}

TEST("a dual-stack listener is said to hold IPv4, too, and an IPv6-only one is not")
{
    machine_new(3000, 1000);
    (void)program("node", 5, 1000);
    struct why_sock *s = sock("[::]:3000", TCP_LISTEN, 0);
    explain();
    check_note("holds 0.0.0.0 as well");
    s->v6only = true;
    explain();
    check_no_note("holds 0.0.0.0 as well");
}

TEST("a question about an address leaves out who holds only others")
{
    machine_new(3000, 1000);
    (void)program("node", 5, 1000);
    (void)sock("127.0.0.1:3000", TCP_LISTEN, 0);
    ask_address("127.0.0.2:3000");
    probe("127.0.0.2:3000", 0, 0);
    explain();
    CHECK_TEXT(m.a.verdict, "nobody listens on 127.0.0.2:3000; a bind would succeed");
    CHECK(!m.a.trouble);
    CHECK_INT(m.a.mends_count, 0);
    ask_address("0.0.0.0:3000");
    explain();
    CHECK_TEXT(m.a.verdict, "0.0.0.0:3000 is held by node (pid 5, user joe) on 127.0.0.1");
    ask_address("[::]:3000");
    explain();
    CHECK_TEXT(m.a.verdict, "[::]:3000 is held by node (pid 5, user joe) on 127.0.0.1");
    check_note("blocks a bind to the wildcard, but no other address");
}

TEST("localhost that is two programs is pointed out")
{
    machine_new(3000, 1000);
    (void)program("node", 5, 1000);
    (void)program("python3", 6, 1000);
    (void)sock("127.0.0.1:3000", TCP_LISTEN, 0);
    (void)sock("[::1]:3000", TCP_LISTEN, 1);
    explain();
    check_note("`localhost` may be either");
}

TEST("a free port would be bound")
{
    machine_new(8080, 1000);
    probe("127.0.0.1:8080", 0, 0);
    probe("[::1]:8080", EADDRNOTAVAIL, EADDRNOTAVAIL);
    explain();
    CHECK_TEXT(m.a.verdict, "nobody listens on port 8080; a bind would succeed");
    CHECK(!m.a.trouble);
}

TEST("a privileged port says who may and what would let the others")
{
    machine_new(80, 1000);
    probe("127.0.0.1:80", EACCES, EACCES);
    explain();
    CHECK_TEXT(m.a.verdict, "nobody listens on port 80; a bind would fail with EACCES because "
                            "ports below 1024 need CAP_NET_BIND_SERVICE");
    check_mend(0, "sudo sysctl net.ipv4.ip_unprivileged_port_start=80");
    check_note("user joe may not bind them");
}

TEST("TIME_WAIT matters only without SO_REUSEADDR, and that is said")
{
    machine_new(8080, 1000);
    m.r.states[TCP_TIME_WAIT] = 3;
    probe("127.0.0.1:8080", EADDRINUSE, 0);
    explain();
    CHECK_TEXT(m.a.verdict, "nobody listens on port 8080; a bind would succeed only with "
                            "SO_REUSEADDR and else fail with EADDRINUSE because 3 connections are "
                            "in TIME_WAIT");
    check_mend(0, "set SO_REUSEADDR before bind()");
    m.r.probes[0].reuse = EADDRINUSE;
    explain();
    check_note("they refuse every bind");
    check_mend(0, "sleep 60");
}

TEST("an outgoing connection from the port is told from a listener")
{
    machine_new(40000, 1000);
    m.r.states[TCP_ESTABLISHED] = 1;
    m.r.samples[m.r.samples_count++] = (struct why_sock){
        .state = TCP_ESTABLISHED, .local = at("10.0.0.2:40000"), .peer = at("10.0.0.9:443")};
    probe("0.0.0.0:40000", EADDRINUSE, EADDRINUSE);
    explain();
    CHECK_TEXT(m.a.verdict, "nobody listens on port 40000; a bind would fail with EADDRINUSE "
                            "because 1 open connection is there");
    check_note("10.0.0.2:40000 to 10.0.0.9:443 (established): probably outgoing");
    check_mend(0, "sudo sysctl net.ipv4.ip_local_reserved_ports=40000");
}

TEST("a socket that is bound and does not listen is named")
{
    machine_new(8080, 1000);
    (void)program("broken", 9, 1000);
    (void)sock("0.0.0.0:8080", WHY_STATE_INACTIVE, 0);
    explain();
    CHECK_TEXT(
        m.a.verdict,
        "nobody listens on port 8080, but it is bound by broken (pid 9, user joe) on 0.0.0.0");
    check_note("does not listen");
    check_mend(0, "kill 9");
}

TEST("what another user holds cannot be named without root")
{
    machine_new(8080, 1000);
    (void)sock("0.0.0.0:8080", TCP_LISTEN, -1);
    explain();
    CHECK_TEXT(m.a.verdict, "port 8080 is held by a process of user ann on 0.0.0.0");
    check_mend(0, "sudo berth why 8080");
    m.r.uid = 0;
    explain();
    CHECK_TEXT(m.a.verdict, "port 8080 is held by no visible process on 0.0.0.0");
    check_note("no process has this socket open");
}

TEST("the command that ends the holder fits what holds it")
{
    static const struct {
        uint32_t uid, owner;
        struct why_cgroup cgroup;
        const char *name, *cmdline, *command;
    } cases[] = {
        {1000, 0, {.unit = "nginx.service"}, "nginx", "", "sudo systemctl stop nginx.service"},
        {0, 0, {.unit = "nginx.service"}, "nginx", "", "systemctl stop nginx.service"},
        {1000,
         1000,
         {.unit = "a.service", .user_unit = true},
         "a",
         "",
         "systemctl --user stop a.service"},
        {1000, 1000, {.unit = "session-2.scope"}, "a", "", "kill 5"},
        {1000, 1000, {.unit = "user@1000.service"}, "a", "", "kill 5"},
        {1000, 0, {.unit = ""}, "a", "", "sudo kill 5"},
        {0, 0, {.engine = ENGINE_DOCKER, .container = "4f9d"}, "a", "", "docker stop 4f9d"},
        {0, 0, {.unit = "docker.service"}, "docker-proxy", "", "docker ps --filter publish=8080"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        machine_new(8080, cases[i].uid);
        struct why_proc *p = program(cases[i].name, 5, cases[i].owner);
        p->cgroup = cases[i].cgroup;
        (void)sock("0.0.0.0:8080", TCP_LISTEN, 0);
        explain();
        check_mend(1, cases[i].command);
    }
}

TEST("docker-proxy is said to stand for a port of a container")
{
    machine_new(8080, 0);
    struct why_proc *p = program("docker-proxy", 5, 0);
    (void)snprintf(p->cmdline, sizeof p->cmdline,
                   "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 "
                   "-container-ip 172.17.0.2 -container-port 80");
    (void)sock("0.0.0.0:8080", TCP_LISTEN, 0);
    explain();
    check_note("port 80 of the container 172.17.0.2");
}

TEST("a port of berth's own points to berth ls and is not to be killed")
{
    machine_new(8080, 1000);
    (void)program("berthd", 5, 1000);
    (void)program("berth-dispatch", 6, 1000);
    (void)sock("0.0.0.0:8080", TCP_LISTEN, 0);
    m.holds[m.r.holds_count++] = (struct why_hold){0, 1};
    explain();
    check_note("berth shares this port: `berth ls` shows with whom");
    check_mend(0, "berth run -- COMMAND");
    CHECK_INT(m.a.mends_count, 1);
}

TEST("a redirect makes trouble of a free port")
{
    machine_new(80, 0);
    m.r.redirs[m.r.redirs_count++] =
        (struct why_redir){"nftables", "to port 8080 (chain ip nat pre)"};
    probe("0.0.0.0:80", 0, 0);
    explain();
    CHECK_TEXT(m.a.verdict, "nobody listens on port 80; a bind would succeed, but nftables sends "
                            "its connections to port 8080 (chain ip nat pre)");
    CHECK(m.a.trouble);
    check_mend(0, "nft -a list ruleset");
}

TEST("a full queue is noticed")
{
    machine_new(8080, 1000);
    (void)program("stuck", 5, 1000);
    sock("0.0.0.0:8080", TCP_LISTEN, 0)->queued = 129;
    explain();
    check_note("its queue on 0.0.0.0 is full (129 waiting, limit 128)");
}

TEST("a process is answered with what it listens on")
{
    machine_new(0, 1000);
    m.r.target = (struct why_target){.kind = WHY_PID, .pid = 5};
    explain();
    CHECK_TEXT(m.a.verdict, "process 5 listens on no TCP port");
    (void)program("node", 5, 1000);
    (void)sock("[::]:3000", TCP_LISTEN, 0);
    (void)sock("127.0.0.1:9229", TCP_LISTEN, 0);
    explain();
    CHECK_TEXT(m.a.verdict,
               "node (pid 5, user joe) listens on [::]:3000, listens on 127.0.0.1:9229");
    CHECK(!m.a.trouble);
    CHECK_INT(m.a.mends_count, 0);
}

TEST("every table is bounded however much there is to say")
{
    machine_new(8080, 1000);
    for (int i = 0; i < 8; i++) {
        struct why_proc *p = program("x", 100 + i, 1000);
        memset(p->name, 'n', sizeof p->name - 1);
        sock("0.0.0.0:8080", TCP_LISTEN, i)->queued = 1000;
    }
    explain();
    CHECK_INT(m.a.mends_count, WHY_MENDS_MAX);
    CHECK(strlen(m.a.verdict) < WHY_TEXT_MAX);
}
