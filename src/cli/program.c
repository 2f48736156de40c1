/* Hands the program that `berth run` is about to become a queue in the way of LISTEN_FDS. */
#include "cli/program.h"

#include <fcntl.h>
#include <stdio.h>

#include "cli/cli.h"
#include "ipc/fdmsg.h"

#define LISTEN_FDS_START 3

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

int program_queue_consume(int control, const char *route, struct environment *env)
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
    environment_set(env, "LISTEN_FDS", "1");
    environment_set(env, "LISTEN_FDNAMES", "berth");
    environment_set(env, "LISTEN_PID", pid);
    return CLI_OK;
}
