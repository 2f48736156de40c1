#pragma once
/* What the load generators for berth-rendezvous share. They end with a word when something is not
 * as it should be: a measurement that goes on would be wrong. */

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "rendezvous/signed.h"

static inline double now_s(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Of this process. */
static inline size_t resident(void)
{
    size_t total, pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f || fscanf(f, "%zu %zu", &total, &pages) != 2)
        die("statm");
    (void)fclose(f);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static inline double server_cpu_s(int pid)
{
    char path[64], text[1024] = "";
    unsigned long user, system;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    if (!f || fread(text, 1, sizeof text - 1, f) == 0)
        die(path);
    (void)fclose(f);
    const char *p = strrchr(text, ')');
    if (!p ||
        sscanf(p, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        exit(1);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static inline int encode(const struct rdvmsg *m, void *buf, size_t size)
{
    int n = rdvmsg_encode(m, buf, size);
    if (n < 0)
        exit(1);
    return n;
}

/* A datagram and the next one that comes back; its length. */
static inline size_t exchange(int fd, const void *out, size_t n, uint8_t in[RDVMSG_MAX])
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (send(fd, out, n, 0) < 0 || poll(&p, 1, 5000) != 1)
        die("no answer");
    ssize_t got = recv(fd, in, RDVMSG_MAX, 0);
    if (got < 0)
        die("answer");
    return (size_t)got;
}

static inline void ask(int fd, const struct rdvmsg *m, struct rdvmsg *answer,
                       uint8_t in[RDVMSG_MAX])
{
    uint8_t out[RDVMSG_MAX];
    size_t n = exchange(fd, out, (size_t)encode(m, out, sizeof out), in);
    if (rdvmsg_decode(answer, in, n) < 0)
        die("answer");
}

static inline int udp_connect(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        die("socket");
    return fd;
}

/* Somebody who is registered, over a socket of its own. */
struct peer {
    int fd;
    struct identity id;
    uint8_t token[RDVMSG_COOKIE];
};

static inline void sign_in(struct peer *p, int port)
{
    uint8_t record[RECORD_MAX], in[RDVMSG_MAX];
    struct record r = {.sequence = 1, .not_after = (uint64_t)time(NULL) + 3600, .relay = STR("")};
    struct rdvmsg a, m = {.type = RDVMSG_HELLO, .pad_to = RDVMSG_HELLO_MIN};
    p->fd = udp_connect(port);
    identity_make(&p->id);
    ask(p->fd, &m, &a, in);
    m = (struct rdvmsg){.type = RDVMSG_REGISTER};
    memcpy(m.cookie, a.cookie, sizeof m.cookie);
    m.record = (struct str){(char *)record, (size_t)signed_record_make(&p->id, &r, record)};
    if (signed_request_make(&p->id, KEY_LOGIN, m.cookie, m.record, m.signature) < 0)
        exit(1);
    ask(p->fd, &m, &a, in);
    if (a.type != RDVMSG_REGISTERED)
        exit(1);
    memcpy(p->token, a.token, sizeof p->token);
}

static inline struct rdvmsg request(const struct peer *p, enum rdvmsg_type type)
{
    struct rdvmsg m = {.type = type};
    memcpy(m.key, p->id.key.b, sizeof m.key);
    memcpy(m.token, p->token, sizeof m.token);
    return m;
}
