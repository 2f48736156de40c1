#pragma once
/* What the files of this folder share: the sources of a report. */

#include <jansson.h>

#include "why/why.h"

/* --- sockdiag.c: the kernel's list of TCP sockets, in the network namespace of the caller --- */

#define SOCKDIAG_LISTENING (1u << 10)
#define SOCKDIAG_UNUSED    (1u << 7 | 1u << WHY_STATE_INACTIVE)
#define SOCKDIAG_ALL       0x3fffu

typedef void sockdiag_fn(void *ctx, const struct why_sock *sock);

/* Calls fn for every IPv4 and IPv6 socket of `port` (0: of any) in the states of the mask. */
int sockdiag_dump(uint16_t port, uint32_t states, sockdiag_fn *fn, void *ctx);
/* The same for MPTCP sockets that listen. -ENOENT or -EINVAL where the kernel has none. */
int sockdiag_dump_mptcp(uint16_t port, sockdiag_fn *fn, void *ctx);

/* --- netns.c: the same list in the network namespace of a process; needs root --- */

struct netns_reader {
    sockdiag_fn *fn;
    void *ctx;
};
int netns_dump(pid_t pid, uint16_t port, uint32_t states, struct netns_reader to);

/* --- procs.c: who has those sockets open --- */

/* Fills procs and holds of the report from its socks. */
int procs_collect(struct why_report *r) WARN_UNUSED;
/* Socket inodes of one process: calls fn for each. -ENOENT, -EACCES. */
int procs_each_inode(pid_t pid, void (*fn)(void *ctx, uint32_t inode), void *ctx);
/* Reads a short file of /proc, always terminated. Its length, or a negative errno. */
ssize_t procs_read(const char *path, char *buf, size_t size) WARN_UNUSED;
void procs_user_name(uint32_t uid, char name[WHY_NAME_MAX]);
/* The inode that names a network namespace; pid 0: ours. 0 when it cannot be read. */
uint64_t procs_netns(pid_t pid);

/* --- elsewhere.c: the same port in other network namespaces; needs root, else nothing --- */
void elsewhere_collect(struct why_report *r);

/* --- rules.c --- */
void rules_collect(struct why_report *r);
/* Is port in a list such as "80,8000-8010"? Pure. */
bool rules_list_has(const char *list, uint16_t port);

/* --- probe.c --- */
void probe_collect(struct why_report *r);

/* --- redirect.c: what steers connections before a listener is looked up --- */
void redirect_collect(struct why_report *r);

/* --- redirect-parse.c: pure --- */
void redirect_parse_nft(struct why_report *r, const json_t *ruleset);
void redirect_parse_iptables(struct why_report *r, const char *rules);

/* --- words.c: the phrases that verdict, notes and reasons share; pure --- */

/* The process to name first: in a question about a process that one, else the oldest. NULL: none is
 * visible. */
const struct why_proc *words_owner(const struct why_report *r, size_t sock);
/* "nginx (pid 12 and 4 more, user root)", or what is known when no process is visible. */
const char *words_who(const struct why_report *r, size_t sock, char buf[WHY_TEXT_MAX]);
/* Does this socket stand in the way of the address that was asked about (a port: always)? */
bool words_is_asked(const struct why_report *r, const struct why_sock *s);
bool words_is_berth(const struct why_proc *p);
bool words_is_docker_proxy(const struct why_proc *p);
/* The word behind an option of a command line, empty when it is not there. */
struct str words_option(const char *cmdline, const char *option);
/* Sockets that are neither listening, bound, nor in TIME_WAIT. */
uint32_t words_connections(const struct why_report *r);
void words_note(struct why_answer *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void words_mend(struct why_answer *a, const char *effect, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* --- notes.c, mend.c: the later parts of an answer; pure --- */
void notes_add(const struct why_report *r, struct why_answer *a);
void mends_add(const struct why_report *r, struct why_answer *a);
