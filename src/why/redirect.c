/* What steers connections before the kernel looks for a listener: packet filter rules, read with
 * the system's own tools, and sk_lookup programs attached to our network namespace. All of it needs
 * root; without it nothing is found. */
#include <fcntl.h>
#include <linux/bpf.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "why/parts.h"

#define OUTPUT_MAX    (8u << 20)
#define TOOL_LIMIT_MS 5000

/* Reads until end of file, the size limit or the time limit. The caller frees the text. */
static char *read_all(int fd)
{
    uint64_t deadline = clock_now_ms() + TOOL_LIMIT_MS;
    char *text = NULL;
    size_t used = 0, size = 0;
    for (;;) {
        if (size - used < 2) {
            size = size == 0 ? 65536 : size * 2;
            char *more = size > OUTPUT_MAX ? NULL : realloc(text, size);
            if (!more)
                break;
            text = more;
        }
        uint64_t now = clock_now_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (now >= deadline || poll(&p, 1, (int)(deadline - now)) <= 0)
            break;
        ssize_t n = read(fd, text + used, size - used - 1);
        if (n <= 0) {
            text[used] = 0;
            return text;
        }
        used += (size_t)n;
    }
    free(text);
    return NULL;
}

static pid_t tool_start(const char *const argv[], int out)
{
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;
    const char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
    if (posix_spawn_file_actions_init(&actions) != 0)
        return -1;
    bool ready = posix_spawn_file_actions_adddup2(&actions, out, 1) == 0 &&
                 posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) == 0 &&
                 posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0) == 0;
    if (!ready || posix_spawn(&pid, argv[0], &actions, NULL, (char *const *)argv,
                              (char *const *)environment) != 0)
        pid = -1;
    (void)posix_spawn_file_actions_destroy(&actions);
    return pid;
}

/* The output of a tool, or NULL when it is missing, fails or takes too long. */
static char *tool_run(const char *const argv[])
{
    int ends[2], status = -1;
    if (access(argv[0], X_OK) != 0 || pipe2(ends, O_CLOEXEC) < 0)
        return NULL;
    pid_t pid = tool_start(argv, ends[1]);
    (void)close(ends[1]);
    char *text = pid > 0 ? read_all(ends[0]) : NULL;
    (void)close(ends[0]);
    if (pid > 0 && !text)
        (void)kill(pid, SIGKILL);
    if (pid > 0)
        (void)waitpid(pid, &status, 0);
    if (status == 0)
        return text;
    free(text);
    return NULL;
}

static void read_nft(struct why_report *r)
{
    static const char *const paths[] = {"/usr/sbin/nft", "/usr/bin/nft", "/sbin/nft"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char *text = tool_run((const char *const[]){paths[i], "-j", "list", "ruleset", NULL});
        json_t *json = text ? json_loads(text, 0, NULL) : NULL;
        if (json)
            redirect_parse_nft(r, json);
        json_decref(json);
        free(text);
        if (text)
            return;
    }
}

/* No table is named: that would load a module for a table nobody uses. */
static void read_iptables(struct why_report *r)
{
    static const char *const paths[] = {"/usr/sbin/iptables-save", "/usr/sbin/ip6tables-save",
                                        "/usr/sbin/iptables-legacy-save"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        char *text = tool_run((const char *const[]){paths[i], NULL});
        if (text)
            redirect_parse_iptables(r, text);
        free(text);
    }
}

static long bpf_call(int command, union bpf_attr *attr)
{
    return syscall(SYS_bpf, command, attr, sizeof *attr);
}

static void program_name(uint32_t id, char name[WHY_NAME_MAX])
{
    union bpf_attr get = {.prog_id = id};
    struct bpf_prog_info info = {.type = 0};
    (void)snprintf(name, WHY_NAME_MAX, "program %u", id);
    CLEANUP_FD int fd = (int)bpf_call(BPF_PROG_GET_FD_BY_ID, &get);
    if (fd < 0)
        return;
    union bpf_attr ask = {.info = {.bpf_fd = (uint32_t)fd,
                                   .info_len = sizeof info,
                                   .info = (uint64_t)(uintptr_t)&info}};
    if (bpf_call(BPF_OBJ_GET_INFO_BY_FD, &ask) == 0 && info.name[0])
        (void)snprintf(name, WHY_NAME_MAX, "%.16s", info.name);
}

static void read_lookups(struct why_report *r)
{
    uint32_t ids[4] = {0};
    const size_t max = sizeof r->lookups / sizeof *r->lookups;
    CLEANUP_FD int ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (ns < 0)
        return;
    union bpf_attr attr = {.query = {.target_fd = (uint32_t)ns,
                                     .attach_type = BPF_SK_LOOKUP,
                                     .prog_ids = (uint64_t)(uintptr_t)ids,
                                     .prog_cnt = (uint32_t)max}};
    /* ENOSPC means that there are more than fit; those that fit are there. */
    if (bpf_call(BPF_PROG_QUERY, &attr) < 0 && errno != ENOSPC)
        return;
    for (size_t i = 0; i < max && ids[i] != 0; i++)
        program_name(ids[i], r->lookups[r->lookups_count++]);
}

void redirect_collect(struct why_report *r)
{
    if (geteuid() != 0)
        return;
    read_nft(r);
    read_iptables(r);
    read_lookups(r);
}
