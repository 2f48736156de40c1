/* Looks at the program before it is started, and hands it a queue when it knows what to do with
 * one. */
#include "cli/program.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "ipc/fdmsg.h"
#include "launch/elf.h"

#define LISTEN_FDS_START 3

/* The file that execvp() would take; the command itself when there is none. */
static const char *path_find(const char *command, char *buf, size_t size)
{
    const char *path = getenv("PATH");
    if (strchr(command, '/') || !path)
        return command;
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, ":");
        int len = snprintf(buf, size, "%.*s/%s", (int)n, p, command);
        if (len > 0 && (size_t)len < size && access(buf, X_OK) == 0)
            return buf;
        p += n + (p[n] == ':');
    }
    return command;
}

static const char *obstacle(const struct elf_facts *f)
{
    if (f->is_static)
        return "is statically linked: nothing can be preloaded into it";
    if (f->is_go)
        return "is a Go program, which calls the kernel without libc";
    if (f->is_privileged)
        return "runs with other privileges than yours (setuid, setgid or file capabilities), where "
               "the "
               "loader refuses to preload";
    if (f->is_foreign)
        return "is made for another kind of machine";
    if (f->is_other_libc)
        return "uses another C library than berth";
    return NULL;
}

int program_check(const char *command)
{
    char buf[4096];
    struct elf_facts facts;
    const char *path = path_find(command, buf, sizeof buf);
    if (elf_inspect(path, &facts) < 0)
        return CLI_OK; /* execvp() says it better. */
    if (facts.is_script && facts.interpreter[0]) {
        char interpreter[ELF_INTERPRETER_MAX];
        (void)snprintf(interpreter, sizeof interpreter, "%s", facts.interpreter);
        if (elf_inspect(interpreter, &facts) < 0)
            return CLI_OK;
    }
    const char *why = obstacle(&facts);
    if (!why)
        return CLI_OK;
    (void)fprintf(stderr,
                  "berth run: %s %s, so its ports cannot be shared this way.\n"
                  "It was not started. Without berth it runs as before.\n",
                  path, why);
    return CLI_USAGE;
}

/* One question and its answer, which may bring a descriptor. */
static int ask(int control, const struct appmsg *m, struct appmsg *reply, uint8_t buf[APPMSG_MAX],
               int *ret_fd)
{
    int fd = -EBADF;
    size_t count = 0;
    int n = appmsg_encode(m, buf, APPMSG_MAX);
    int r = n < 0 ? n : fdmsg_send(control, buf, (size_t)n, NULL, 0, 0);
    if (r < 0)
        return r;
    ssize_t got = fdmsg_recv(control, buf, APPMSG_MAX, &fd, 1, &count, 0);
    if (got <= 0 || appmsg_decode(reply, buf, (size_t)got) < 0)
        return -EPROTO;
    *ret_fd = count ? fd : -EBADF;
    return reply->type == APPMSG_ERROR ? -reply->err : 0;
}

int program_queue_consume(int control, const char *route)
{
    CLEANUP_FD int owned = control;
    CLEANUP_FD int queue = -EBADF;
    int none;
    uint8_t buf[APPMSG_MAX];
    char pid[16];
    struct appmsg reply = {0};
    struct appmsg bind = {.type = APPMSG_BIND, .flags = APPMSG_NATIVE | APPMSG_RICH};
    int r = ask(owned, &bind, &reply, buf, &queue);
    if (r == 0)
        r = ask(owned, &(struct appmsg){.type = APPMSG_LISTEN, .queue = reply.queue}, &reply, buf,
                &none);
    if (r < 0 && reply.type == APPMSG_ERROR)
        return cli_fail("run", "%s: " STR_FMT, route, STR_ARG(reply.text));
    if (r < 0)
        return cli_fail("run", "%s: berthd went away: try again", route);
    if (queue == LISTEN_FDS_START)
        (void)fcntl(fd_take(&queue), F_SETFD, 0);
    else if (dup2(queue, LISTEN_FDS_START) < 0)
        return cli_fail("run", "descriptor 3: %s", strerror(errno));
    if (owned == LISTEN_FDS_START)
        (void)fd_take(&owned);
    (void)snprintf(pid, sizeof pid, "%d", getpid());
    (void)unsetenv("LD_PRELOAD");
    if (setenv("LISTEN_FDS", "1", 1) | setenv("LISTEN_FDNAMES", "berth", 1) |
        setenv("LISTEN_PID", pid, 1))
        return cli_fail("run", "no memory");
    return CLI_OK;
}
