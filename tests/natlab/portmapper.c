/* src/punch/portmap on a real socket: `portmapper udp|tcp PORT`. Prints each new state with the
 * external address; gives the mapping back and ends when standard input does. */
#include "punch/portmap.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_us(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int open_towards_gateway(struct portmap_config *c, uint16_t port)
{
    char routes[8192];
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    FILE *f = fopen("/proc/self/net/route", "re");
    size_t n = f ? fread(routes, 1, sizeof routes, f) : 0;
    if (f)
        (void)fclose(f);
    int r = portmap_gateway((struct str){routes, n}, &c->gateway);
    if (r < 0)
        return r;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, &c->gateway.sa, c->gateway.len) < 0 ||
        getsockname(fd, (struct sockaddr *)&own, &len) < 0)
        return -errno;
    c->client = addr_make(AF_INET, &own.sin_addr, port);
    return fd;
}

static void act(struct portmap *m, int fd)
{
    struct portmap_action a;
    char text[ADDR_TEXT_MAX];
    while (portmap_poll(m, clock_us(), &a)) {
        if (!a.changed) {
            (void)!send(fd, a.bytes, a.n, 0);
            continue;
        }
        (void)printf("%s %s %s\n", portmap_state_word(m->state),
                     m->external.len ? addr_format(&m->external, text) : "-",
                     m->version == PCP_PCP ? "pcp" : "natpmp");
        (void)fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    struct portmap_config c = {.protocol = IPPROTO_UDP,
                               .seed = (uint64_t)getpid() * 0x9e3779b97f4a7c15};
    struct portmap m;
    if (argc != 3)
        return 2;
    if (strcmp(argv[1], "tcp") == 0)
        c.protocol = IPPROTO_TCP;
    int fd = open_towards_gateway(&c, (uint16_t)atoi(argv[2]));
    if (fd < 0)
        return 1;
    portmap_init(&m, &c, clock_us());
    for (;;) {
        char bytes[PCP_ANSWER_MAX + 1];
        act(&m, fd);
        uint64_t now_us = clock_us(), next_us = portmap_next(&m);
        int wait_ms = next_us > now_us ? (int)((next_us - now_us) / 1000 + 1) : 0;
        struct pollfd p[] = {{fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        if (poll(p, 2, wait_ms < 60000 ? wait_ms : 60000) <= 0)
            continue;
        ssize_t n = p[0].revents ? recv(fd, bytes, sizeof bytes, 0) : -1;
        if (n > 0)
            (void)!portmap_input(&m, (struct str){bytes, (size_t)n}, clock_us());
        if (p[1].revents)
            break;
    }
    portmap_close(&m, clock_us());
    act(&m, fd);
    return 0;
}
