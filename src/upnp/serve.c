/* berth-upnp as berth-peer's helper: it was started before berth-peer gave up starting programs.
 * Lines come in on a socket; each becomes a process that gives up its rights, asks and answers. */
#include "request.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINE_SIZE 64
#define WORDS_MAX 5
/* A process is ended after ten seconds. */
#define WAIT_MS 11000

static size_t split(char *line, char *words[WORDS_MAX])
{
    char *rest = NULL;
    size_t n = 0;
    for (char *w = strtok_r(line, " \n", &rest); w && n < WORDS_MAX;
         w = strtok_r(NULL, " \n", &rest))
        words[n++] = w;
    return n;
}

static void answer(const struct request *q)
{
    char text[ANSWER_MAX], line[ANSWER_MAX + 8];
    (void)request_run(q, text);
    int n = snprintf(line, sizeof line, "%s %s", q->tcp ? "tcp" : "udp", text);
    (void)!send(STDIN_FILENO, line, (size_t)n, MSG_NOSIGNAL);
}

/* What has ended has no descriptor any more. */
static void wait_for(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (fd < 0)
        return;
    (void)poll(&p, 1, WAIT_MS);
    (void)close(fd);
}

/* What was asked before for this protocol comes first: a port that is given back must not be the
 * one that has just been mapped anew. */
static void run(const struct request *q, pid_t before[2])
{
    pid_t *last = &before[q->tcp];
    if (*last > 0)
        wait_for(*last);
    *last = fork();
    if (*last != 0)
        return;
    answer(q);
    _exit(0);
}

/* The kernel clears the children away. What stops berth-peer must not stop
 * what it gives back at its end: this ends with the socket, and the children by their alarm. */
int serve(void)
{
    char line[LINE_SIZE + 1], *words[WORDS_MAX];
    pid_t before[2] = {0, 0};
    struct request q;
    ssize_t n;
    (void)signal(SIGCHLD, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    while ((n = recv(STDIN_FILENO, line, LINE_SIZE, 0)) > 0 || (n < 0 && errno == EINTR)) {
        line[n > 0 ? n : 0] = 0;
        if (!request_read(split(line, words), words, &q))
            continue;
        run(&q, before);
    }
    return 0;
}
