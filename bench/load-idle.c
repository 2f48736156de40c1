/* The modes that leave the machine idle: the time to the first byte of one connection at a time,
 * and silent connections that are only held. Sockets are blocking, and closed before the return. */

#include "load.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWER_TIMEOUT_S 5

static int sample_answer(const struct plan *plan, int fd, uint64_t *ret_ns)
{
    char bytes[4096];
    uint64_t start_ns = now_ns();
    if (connect(fd, (const struct sockaddr *)&plan->to, sizeof plan->to) < 0)
        return -errno;
    if (send(fd, plan->request, plan->request_len, MSG_NOSIGNAL) != (ssize_t)plan->request_len)
        return -EIO;
    ssize_t n = recv(fd, bytes, sizeof bytes, 0);
    uint64_t ns = now_ns() - start_ns;
    if (n < 12 || memcmp(bytes, "HTTP/1.1 200", 12) != 0)
        return -EBADMSG;
    while (n > 0)
        n = recv(fd, bytes, sizeof bytes, 0);
    *ret_ns = ns;
    return 0;
}

static int sample_take(const struct plan *plan, unsigned index, uint64_t *ret_ns)
{
    CLEANUP_FD int fd = load_socket(plan, index, 0);
    if (fd < 0)
        return fd;
    struct timeval limit = {.tv_sec = ANSWER_TIMEOUT_S};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0)
        return -errno;
    return sample_answer(plan, fd, ret_ns);
}

int load_first_byte(const struct plan *plan, struct tally *tally)
{
    uint64_t until_ns = now_ns() + (uint64_t)(plan->seconds * 1e9);
    for (unsigned i = 0; i < plan->count && now_ns() < until_ns; i++) {
        uint64_t ns = 0;
        if (sample_take(plan, i, &ns) < 0) {
            tally->failed++;
            continue;
        }
        tally->done++;
        hist_add(tally->latency, ns);
        struct timespec pause = {.tv_nsec = (long)plan->pause_us * 1000};
        if (plan->pause_us)
            (void)nanosleep(&pause, NULL);
    }
    return 0;
}

static int hold_open(const struct plan *plan, unsigned index)
{
    int fd = load_socket(plan, index, 0);
    if (fd < 0)
        return -EBADF;
    /* A full backlog drops the SYN; the wait for its repetition must end some time. */
    struct timeval limit = {.tv_sec = ANSWER_TIMEOUT_S};
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (const struct sockaddr *)&plan->to, sizeof plan->to) < 0)
        return fd_close(fd);
    if (plan->ask && send(fd, plan->request, plan->request_len, MSG_NOSIGNAL) < 0)
        return fd_close(fd);
    return fd;
}

/* How many of the connections the other side has neither closed nor reset. */
static unsigned hold_alive(const int *fds, unsigned n)
{
    unsigned alive = 0;
    for (unsigned i = 0; i < n; i++) {
        struct pollfd probe = {.fd = fds[i], .events = POLLIN};
        if (fds[i] >= 0 && poll(&probe, 1, 0) == 0)
            alive++;
    }
    return alive;
}

static void hold_report(const char *event, unsigned wanted, unsigned alive)
{
    printf("%s wanted=%u alive=%u\n", event, wanted, alive);
    (void)fflush(stdout);
}

int load_hold(const struct plan *plan)
{
    unsigned n = plan->connections;
    int *fds = calloc(n, sizeof *fds);
    if (!fds)
        return -ENOMEM;
    uint64_t until_ns = now_ns() + (uint64_t)(plan->seconds * 1e9);
    for (unsigned i = 0; i < n; i++)
        fds[i] = now_ns() < until_ns ? hold_open(plan, i) : -EBADF;
    hold_report("held", n, hold_alive(fds, n));
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    hold_report("released", n, hold_alive(fds, n));
    for (unsigned i = 0; i < n; i++)
        fds[i] = fd_close(fds[i]);
    free(fds);
    return 0;
}
