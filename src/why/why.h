#pragma once
/* The answer to "Address already in use": what the kernel and /proc know about a TCP port, and what
 * follows from it. Three steps, each usable alone: why_target_parse() reads the question,
 * why_collect() gathers a report (all I/O is there), why_explain() judges the report (pure). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/addr.h"

/* --- the question --- */

enum why_kind {
    WHY_PORT, /* every address of a port */
    WHY_ADDR, /* one address */
    WHY_PID,  /* what one process listens on */
};

struct why_target {
    enum why_kind kind;
    uint16_t port;
    struct addr addr; /* WHY_ADDR */
    pid_t pid;        /* WHY_PID */
};

#define WHY_REASON_MAX 160

/* A port, an address, a URL or route (its port; names are not resolved), `pid:NNN` or a number
 * above 65535. 0, or -EINVAL and a sentence in reason. */
int why_target_parse(const char *text, struct why_target *ret_target,
                     char reason[WHY_REASON_MAX]) WARN_UNUSED;

/* --- the report --- */

#define WHY_NAME_MAX    64
#define WHY_CMDLINE_MAX 256
#define WHY_SAMPLES_MAX 8   /* connections kept as examples; the rest is only counted */
#define WHY_SOCKS_MAX   512 /* listening and bound sockets kept */
#define WHY_PROCS_MAX   512
#define WHY_REDIRS_MAX  64

/* The kernel's numbers (TCP_LISTEN and so on), and its internal one for bound but not listening. */
#define WHY_STATES         16
#define WHY_STATE_INACTIVE 13

struct why_sock {
    int state;
    struct addr local, peer; /* peer: connections only */
    bool v6only, mptcp;
    uint32_t uid; /* who made it; user: the same as a name, of kept sockets only */
    char user[WHY_NAME_MAX];
    uint32_t inode; /* 0: no process can hold it */
    uint32_t queued, backlog;
};

enum why_engine {
    ENGINE_NONE,
    ENGINE_DOCKER,
    ENGINE_PODMAN,
    ENGINE_LXC,
    ENGINE_KUBE,
    ENGINE_NSPAWN
};

/* Where a process lives, from /proc/PID/cgroup. Empty strings for none. */
struct why_cgroup {
    char unit[WHY_NAME_MAX]; /* foo.service, session-1.scope, ... */
    bool user_unit;          /* it belongs to a user's systemd: systemctl --user */
    enum why_engine engine;
    char container[80]; /* id or name */
};

void why_cgroup_parse(const char *text, struct why_cgroup *ret_cgroup);
const char *why_engine_name(enum why_engine engine); /* "docker" and so on; "" for none */

struct why_proc {
    pid_t pid;
    uint32_t uid;
    char name[WHY_NAME_MAX]; /* of the executable; comm when that cannot be read */
    char user[WHY_NAME_MAX];
    char exe[WHY_CMDLINE_MAX];
    char cmdline[WHY_CMDLINE_MAX];
    struct why_cgroup cgroup;
    uint64_t identity;  /* equal for processes with the same executable, arguments and folder */
    bool foreign_netns; /* lives in another network namespace than we do */
};

/* Process number `proc` of the report has socket number `sock` open. */
struct why_hold {
    uint32_t sock, proc;
};

/* Something before the socket layer that takes connections for this port elsewhere. */
struct why_redir {
    char via[16];   /* nftables, iptables */
    char what[160]; /* "sends it to port 8080 of 10.0.0.5" */
};

/* What a bind and listen on a scratch socket answered: 0 or an errno. */
struct why_probe {
    struct addr addr;
    bool v6only;
    int plain, reuse; /* without and with SO_REUSEADDR */
};

#define WHY_PROBES_MAX 5

struct why_rules {
    int unprivileged_start; /* net.ipv4.ip_unprivileged_port_start; -1 unknown */
    int ephemeral_lo, ephemeral_hi;
    bool reserved;     /* in ip_local_reserved_ports */
    bool may_bind_low; /* we have CAP_NET_BIND_SERVICE */
};

/* Held by somebody in another network namespace, which does not conflict. */
struct why_elsewhere {
    uint64_t netns;
    pid_t pid; /* a process that lives there */
    char name[WHY_NAME_MAX];
    struct addr local;
};

#define WHY_ELSEWHERE_MAX 16

struct why_report {
    struct why_target target;
    uint32_t uid; /* whose view this is */
    bool foreign; /* WHY_PID: the process lives in another network namespace */
    char user[WHY_NAME_MAX];
    struct why_sock *socks;
    size_t socks_count;
    struct why_proc *procs;
    size_t procs_count;
    struct why_hold *holds;
    size_t holds_count;
    uint32_t states[WHY_STATES]; /* sockets of the port in each state */
    struct why_sock samples[WHY_SAMPLES_MAX];
    size_t samples_count;
    struct why_rules rules;
    struct why_redir redirs[WHY_REDIRS_MAX];
    size_t redirs_count;
    char lookups[4][WHY_NAME_MAX]; /* names of attached sk_lookup programs */
    size_t lookups_count;
    struct why_probe probes[WHY_PROBES_MAX];
    size_t probes_count;
    struct why_elsewhere elsewhere[WHY_ELSEWHERE_MAX];
    size_t elsewhere_count;
};

enum why_depth {
    WHY_BRIEF, /* sockets, processes and rules: no scratch sockets, no other programs run */
    WHY_FULL,
};

/* Fills a zeroed report; why_report_done() frees it, also after an error. -ENOENT: no such process;
 * -EACCES: it is another user's; -EPERM: its network namespace cannot be entered. */
int why_collect(const struct why_target *target, enum why_depth depth,
                struct why_report *report) WARN_UNUSED;
void why_report_done(struct why_report *report);

/* Processes that have this socket open: calls for the i-th, NULL behind the last. */
const struct why_proc *why_holder(const struct why_report *r, size_t sock, size_t i);
size_t why_holders(const struct why_report *r, size_t sock);

/* --- the judgement --- */

#define WHY_TEXT_MAX  512
#define WHY_NOTES_MAX 24
#define WHY_MENDS_MAX 8

struct why_mend {
    char command[192], effect[160];
};

struct why_answer {
    bool trouble; /* something holds it, or a bind would fail */
    char verdict[WHY_TEXT_MAX];
    char notes[WHY_NOTES_MAX][WHY_TEXT_MAX];
    size_t notes_count;
    struct why_mend mends[WHY_MENDS_MAX];
    size_t mends_count;
};

void why_explain(const struct why_report *r, struct why_answer *ret_answer);
/* Why a probe gave `err`: a clause such as "0.0.0.0 covers it (python3)". Returns buf. */
const char *why_probe_reason(const struct why_report *r, const struct why_probe *p,
                             char buf[WHY_TEXT_MAX]);
/* An address without its port: `0.0.0.0`, `[::1]`. Returns buf. */
const char *why_host(const struct addr *a, char buf[ADDR_TEXT_MAX]);
const char *why_state_name(int state);

/* For a bind that failed with errno `err`: verdict and mending command, one line each, into buf.
 * Returns the length, which is below size; 0 when nothing could be said. */
size_t why_bind_failed(const struct addr *addr, int err, char *buf, size_t size);
