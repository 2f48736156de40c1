/* One peer of the laboratory without a session: src/punch on real sockets. A line on standard input
 * tells what the other peer offered; lines on standard output tell what this one offers, and how it
 * went. The script between the two is the introduction.
 *
 *     puncher caller|callee SERVER:PORT
 *     > offer MAPPING FILTERING ALLOCATION DELTA SEEN FINGERPRINT CANDIDATE...     (kind,address)
 *     < go ATTEMPT WAIT-US AGAIN MAPPING FILTERING ALLOCATION DELTA SEEN CANDIDATE...
 *     > proven MS SOCKET KIND ADDRESS RTT-US | done | failed MS SENTENCE | tried ... */

#include "base/siphash.h"
#include "punch/gather.h"
#include "punch/punch.h"

#include <errno.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define SOCKETS_MAX 600
#define LINE_MAX    2048

struct puncher {
    struct pollfd fds[SOCKETS_MAX]; /* by the number of the socket; the last is standard input */
    unsigned count;
    bool caller, over;
    struct gather *gather;
    struct punch *punch;
    struct punch_config config;
    struct addr server;
    uint64_t start_us;
};

static uint64_t clock_us(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t seed(void)
{
    uint64_t s = 0;
    if (getrandom(&s, sizeof s, 0) < 0)
        s = clock_us();
    return s;
}

static void mac(const uint8_t key[PUNCH_KEY], const void *bytes, size_t n,
                uint8_t ret_tag[PROBE_TAG])
{
    siphash128(key, bytes, n, ret_tag);
}

/* A socket for IPv4 and IPv6. */
static int socket_open(struct pollfd *at)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    int no = 0;
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no) < 0 ||
        bind(fd, (struct sockaddr *)&any, sizeof any) < 0) {
        int r = -errno;
        (void)close(fd);
        return r;
    }
    *at = (struct pollfd){fd, POLLIN, 0};
    return 0;
}

static uint16_t socket_port(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
        return 0;
    struct addr a = addr_from((struct sockaddr *)&ss, len);
    return addr_port(&a);
}

static void open_many(struct puncher *p, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count && i < SOCKETS_MAX - 1; i++) {
        if (socket_open(&p->fds[i]) < 0) {
            p->fds[i].fd = -1;
            if (p->punch)
                punch_lost(p->punch, i);
        } else if (p->gather) {
            gather_opened(p->gather, i, socket_port(p->fds[i].fd));
        }
        p->count = i + 1 > p->count ? i + 1 : p->count;
    }
}

static void send_from(struct puncher *p, unsigned socket, const struct addr *to, unsigned ttl,
                      struct str bytes)
{
    struct sockaddr_in6 sin6 = to->v6;
    int fd = p->fds[socket].fd, usual = 64, low = (int)ttl;
    if (to->sa.sa_family == AF_INET) {
        sin6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = to->v4.sin_port};
        sin6.sin6_addr.s6_addr[10] = sin6.sin6_addr.s6_addr[11] = 0xff;
        memcpy(&sin6.sin6_addr.s6_addr[12], &to->v4.sin_addr, 4);
    }
    if (ttl)
        (void)setsockopt(fd, IPPROTO_IP, IP_TTL, &low, sizeof low);
    (void)!sendto(fd, bytes.p, bytes.n, 0, (struct sockaddr *)&sin6, sizeof sin6);
    if (ttl)
        (void)setsockopt(fd, IPPROTO_IP, IP_TTL, &usual, sizeof usual);
}

/* The address that the kernel would use towards the server, with the port of socket 0. */
static struct addr own_address(const struct puncher *p)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof ss;
    int fd = socket(p->server.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct addr own = {.len = 0};
    if (fd >= 0 && connect(fd, &p->server.sa, p->server.len) == 0 &&
        getsockname(fd, (struct sockaddr *)&ss, &len) == 0) {
        own = addr_from((struct sockaddr *)&ss, len);
        addr_set_port(&own, socket_port(p->fds[0].fd));
    }
    if (fd >= 0)
        (void)close(fd);
    return own;
}

static void add_hosts(struct puncher *p)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) < 0)
        return;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!i->ifa_addr || !(i->ifa_flags & IFF_UP))
            continue;
        bool v6 = i->ifa_addr->sa_family == AF_INET6;
        if (!v6 && i->ifa_addr->sa_family != AF_INET)
            continue;
        struct addr a =
            addr_from(i->ifa_addr, v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
        addr_set_port(&a, socket_port(p->fds[0].fd));
        (void)candidates_add(&p->config.local, CANDIDATE_HOST, CANDIDATE_UDP, &a);
    }
    freeifaddrs(all);
}

static void offer(struct puncher *p, const struct nat *nat, const struct addr *seen,
                  const struct addr *reflexive)
{
    char text[ADDR_TEXT_MAX], print[NAT_TEXT_MAX];
    add_hosts(p);
    (void)candidates_add(&p->config.local, CANDIDATE_REFLEXIVE, CANDIDATE_UDP, reflexive);
    p->config.own = *nat;
    (void)printf("offer %d %d %d %d %s %s", nat->mapping, nat->filtering, nat->allocation,
                 nat->delta, seen->len ? addr_format(seen, text) : "-", nat_format(nat, print));
    for (size_t i = 0; i < p->config.local.count; i++) {
        const struct candidate *c = &p->config.local.at[i];
        (void)printf(" %d,%s", c->kind, addr_format(&c->addr, text));
    }
    (void)putchar('\n');
}

static void offer_udp(struct puncher *p)
{
    struct gather_result r = gather_result(p->gather);
    offer(p, &r.nat, &r.seen, r.nat.allocation == NAT_ALLOCATION_SEQUENCE ? &r.newest : &r.seen);
}

static void do_gather(struct puncher *p, const struct gather_action *a)
{
    if (a->type == GATHER_SEND)
        send_from(p, a->socket, &a->to, 0, (struct str){(const char *)a->bytes, a->n});
    else if (a->type == GATHER_OPEN)
        open_many(p, 1, a->count);
    else
        offer_udp(p);
    if (a->type != GATHER_DONE)
        return;
    gather_free(p->gather);
    p->gather = NULL;
    for (; p->count > 1; p->count--)
        (void)close(p->fds[p->count - 1].fd);
}

static void report(struct puncher *p)
{
    struct punch_tried tried[32];
    char text[ADDR_TEXT_MAX];
    size_t n = punch_tried(p->punch, tried, 32);
    for (size_t i = 0; i < n; i++)
        (void)printf("tried %s %s sent %u heard %u\n", candidate_kind_word(tried[i].candidate.kind),
                     addr_format(&tried[i].candidate.addr, text), tried[i].sent, tried[i].heard);
    (void)printf("guesses %u %s\n", punch_guesses_sent(p->punch),
                 guess_plan_word(punch_plan(p->punch)));
}

static void do_punch(struct puncher *p, const struct punch_action *a)
{
    char text[ADDR_TEXT_MAX];
    double ms = (double)(clock_us() - p->start_us) / 1000;
    switch (a->type) {
    case PUNCH_SEND:
        send_from(p, a->socket, &a->to, a->ttl, (struct str){(const char *)a->bytes, PROBE_SIZE});
        return;
    case PUNCH_OPEN:
        open_many(p, a->socket, a->count);
        return;
    case PUNCH_PROVEN:
        (void)printf("proven %.1f %u %s %s %u\n", ms, a->path.socket,
                     candidate_kind_word(a->path.kind), addr_format(&a->path.remote, text),
                     a->path.rtt_us);
        return;
    case PUNCH_DONE:
        report(p);
        (void)puts("done");
        return;
    case PUNCH_FAILED:
        report(p);
        (void)printf("failed %.1f %s\n", ms, punch_reason_sentence(a->reason));
        return;
    }
}

/* "kind,address" */
static void remote_add(struct puncher *p, char *word)
{
    char *comma = strchr(word, ',');
    struct addr a;
    if (comma && addr_parse(comma + 1, &a) == 0)
        (void)candidates_add(&p->config.remote, (enum candidate_kind)atoi(word), CANDIDATE_UDP, &a);
}

static bool go(struct puncher *p, char *line)
{
    char seen[ADDR_TEXT_MAX] = "";
    uint64_t wait_us = 0;
    int again = 0, mapping = 0, filtering = 0, allocation = 0, delta = 0, used = 0;
    struct punch_config *c = &p->config;
    if (sscanf(line, "go %" SCNu64 " %" SCNu64 " %d %d %d %d %d %127s%n", &c->attempt, &wait_us,
               &again, &mapping, &filtering, &allocation, &delta, seen, &used) != 8)
        return false;
    for (char *word = strtok(line + used, " \n"); word; word = strtok(NULL, " \n"))
        remote_add(p, word);
    if (addr_parse(seen, &c->peer_seen) < 0)
        c->peer_seen = (struct addr){.len = 0};
    c->peer = nat_from_wire((uint8_t)mapping, (uint8_t)allocation, (int16_t)delta, &c->peer_seen);
    if (filtering > NAT_FILTERING_UNKNOWN && filtering <= NAT_FILTERING_APDF)
        c->peer.filtering = (enum nat_filtering)filtering;
    c->caller = p->caller;
    c->again = again;
    c->may_guess = true;
    c->mac = mac;
    c->seed = seed();
    memset(c->own_key, p->caller ? 'a' : 'b', PUNCH_KEY);
    memset(c->peer_key, p->caller ? 'b' : 'a', PUNCH_KEY);
    c->start_us = p->start_us = clock_us() + wait_us;
    p->punch = punch_new(c);
    return p->punch;
}

static void read_command(struct puncher *p)
{
    char line[LINE_MAX];
    if (!fgets(line, sizeof line, stdin) || strncmp(line, "go ", 3) != 0 || p->punch ||
        !go(p, line))
        p->over = true;
}

static void read_socket(struct puncher *p, unsigned socket)
{
    uint8_t bytes[1500];
    struct sockaddr_storage ss;
    for (int i = 0; i < 32; i++) {
        socklen_t len = sizeof ss;
        ssize_t n =
            recvfrom(p->fds[socket].fd, bytes, sizeof bytes, 0, (struct sockaddr *)&ss, &len);
        if (n < 0)
            return;
        struct addr raw = addr_from((struct sockaddr *)&ss, len), from = addr_unmap(&raw);
        struct str s = {(const char *)bytes, (size_t)n};
        if (p->gather)
            (void)!gather_input(p->gather, s, clock_us());
        else if (p->punch && probe_looks(bytes, s.n))
            (void)!punch_input(p->punch, socket, &from, s, clock_us());
    }
}

static uint64_t act(struct puncher *p)
{
    struct gather_action g;
    struct punch_action a;
    while (p->gather && gather_poll(p->gather, clock_us(), &g))
        do_gather(p, &g);
    while (p->punch && punch_poll(p->punch, clock_us(), &a))
        do_punch(p, &a);
    (void)fflush(stdout);
    if (p->gather)
        return gather_next(p->gather);
    return p->punch ? punch_next(p->punch) : UINT64_MAX;
}

static void run(struct puncher *p)
{
    while (!p->over) {
        uint64_t next_us = act(p), now_us = clock_us();
        uint64_t wait_us = next_us == UINT64_MAX ? 60000000
                           : next_us > now_us    ? next_us - now_us
                                                 : 0;
        struct timespec wait = {(time_t)(wait_us / 1000000), (long)(wait_us % 1000000) * 1000};
        struct pollfd fds[SOCKETS_MAX];
        memcpy(fds, p->fds, p->count * sizeof *fds);
        fds[p->count] = (struct pollfd){STDIN_FILENO, p->gather ? 0 : POLLIN, 0};
        if (ppoll(fds, p->count + 1, &wait, NULL) <= 0)
            continue;
        unsigned count = p->count;
        for (unsigned i = 0; i < count; i++)
            if (fds[i].revents)
                read_socket(p, i);
        if (fds[count].revents)
            read_command(p);
    }
}

static int gather(struct puncher *p)
{
    struct gather_config c = {.servers = {p->server}, .server_count = 1, .fresh = GATHER_FRESH_MAX};
    int r = socket_open(&p->fds[0]);
    if (r < 0)
        return r;
    p->count = 1;
    c.filtering = true;
    c.local = own_address(p);
    c.seed = seed();
    p->gather = gather_new(&c);
    return p->gather ? 0 : -ENOMEM;
}

int main(int argc, char **argv)
{
    struct puncher *p = calloc(1, sizeof *p);
    if (!p || argc < 3 || addr_parse(argv[2], &p->server) < 0)
        return 2;
    (void)setvbuf(stdin, NULL, _IONBF, 0);
    p->caller = strcmp(argv[1], "caller") == 0;
    if (gather(p) < 0)
        return 1;
    run(p);
    punch_free(p->punch);
    free(p);
    return 0;
}
