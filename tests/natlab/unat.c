/* A NAT in user space, for the laboratory: packets come in from a TUN device, and go out of the
 * same one, translated and late. What nftables cannot do is here: delay, jitter, loss, ports out of
 * a block, strict allocation, and mappings that end. `mode=wire` translates nothing and only
 * delays: one device for each direction. The process owns its devices; they go when it goes.
 * SIGUSR1 drops all mappings, as a router does that restarts. IPv4 UDP and TCP, and ICMP errors
 * towards the inside; fragments are dropped. */

#include "unat-options.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define PACKET_MAX 2048
#define BUCKETS    4096
#define PEERS_MAX  16384
#define QUEUE_MAX  20000
#define NS         1000000000ull

struct end {
    uint32_t ip;
    uint16_t port;
};

/* peers: the remote ends that the inside has sent to. */
struct mapping {
    struct mapping *next;
    struct end inside, key;
    struct end *peers;
    size_t peer_count, peer_size;
    uint64_t used_ns;
    uint16_t port;
    uint8_t proto;
};

struct packet {
    struct packet *next;
    uint64_t due_ns;
    size_t n;
    uint8_t bytes[];
};

/* First in, first out, also with jitter. */
struct lane {
    struct packet *first, **last;
    uint64_t last_due_ns;
    size_t queued;
    int fd;
};

struct unat {
    struct options o;
    struct mapping *by_inside[BUCKETS];
    struct mapping *by_port[2][65536]; /* TCP, UDP */
    struct lane out, in;
    uint64_t now_ns, random;
    long next_port;
};

/* An IPv4 packet with UDP or TCP in it; the pointers go into the packet. */
struct view {
    uint8_t *ip, *l4;
    size_t n, l4_n;
    uint8_t proto;
    struct end from, to;
};

static uint64_t clock_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

static uint64_t random_next(struct unat *u)
{
    u->random ^= u->random << 13;
    u->random ^= u->random >> 7;
    u->random ^= u->random << 17;
    return u->random;
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, (uint16_t)(v >> 16));
    put16(p + 2, (uint16_t)v);
}

static uint32_t sum16(const uint8_t *p, size_t n, uint32_t sum)
{
    for (size_t i = 0; i + 1 < n; i += 2)
        sum += get16(p + i);
    return n & 1 ? sum + ((uint32_t)p[n - 1] << 8) : sum;
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* RFC 1624 3: HC' = ~(~HC + ~m + m'). */
static void sum_replace(uint8_t *sum, uint32_t was, uint32_t is)
{
    uint32_t s = (uint16_t)~get16(sum);
    s += (uint16_t) ~(was >> 16);
    s += (uint16_t)~was;
    s += (is >> 16) + (is & 0xffff);
    put16(sum, fold(s));
}

static bool view_open(struct view *v, uint8_t *ip, size_t n)
{
    if (n < 20 || ip[0] >> 4 != 4 || get16(ip + 6) & 0x1fff || get16(ip + 6) & 0x2000)
        return false;
    size_t head = (size_t)(ip[0] & 15) * 4;
    *v = (struct view){.ip = ip, .n = n, .proto = ip[9]};
    if (head < 20 || n < head + 8)
        return false;
    v->l4 = ip + head;
    v->l4_n = n - head;
    v->from = (struct end){get32(ip + 12), get16(v->l4)};
    v->to = (struct end){get32(ip + 16), get16(v->l4 + 2)};
    return v->proto == IPPROTO_UDP || (v->proto == IPPROTO_TCP && v->l4_n >= 20);
}

/* Another source (at 12) or destination (at 16), with all three checksums that it is in. */
static void view_rewrite(struct view *v, size_t at, struct end e)
{
    uint8_t *port = v->l4 + (at == 12 ? 0 : 2);
    uint8_t *sum = v->l4 + (v->proto == IPPROTO_UDP ? 6 : 16);
    uint32_t old_ip = get32(v->ip + at);
    sum_replace(v->ip + 10, old_ip, e.ip);
    if (v->proto == IPPROTO_TCP || get16(sum) != 0) {
        sum_replace(sum, old_ip, e.ip);
        sum_replace(sum, get16(port), e.port);
        if (v->proto == IPPROTO_UDP && get16(sum) == 0)
            put16(sum, 0xffff); /* RFC 768: zero would say that there is no checksum. */
    }
    put32(v->ip + at, e.ip);
    put16(port, e.port);
    *(at == 12 ? &v->from : &v->to) = e;
}

/* The kernel counted this program as a hop of its own, when it gave us the packet and once more
 * when it takes it back; to the rest of the path a NAT is one hop. */
static void ttl_give_back(uint8_t *ip, size_t n)
{
    if (n >= 40 && ip[0] >> 4 == 6 && ip[7] < 255)
        ip[7]++;
    if (ip[0] >> 4 != 4 || ip[8] == 255)
        return;
    sum_replace(ip + 10, get16(ip + 8), get16(ip + 8) + 0x100u);
    ip[8]++;
}

static void lane_init(struct lane *l, int fd)
{
    *l = (struct lane){.fd = fd};
    l->last = &l->first;
}

/* A full device loses the packet, as a full link does. */
static void lane_send(struct lane *l, const uint8_t *ip, size_t n)
{
    if (write(l->fd, ip, n) < 0 && errno != EAGAIN && errno != EINVAL && errno != EIO)
        perror("unat: write");
}

static void lane_flush(struct lane *l, uint64_t now_ns)
{
    while (l->first && l->first->due_ns <= now_ns) {
        struct packet *p = l->first;
        l->first = p->next;
        if (!l->first)
            l->last = &l->first;
        l->queued--;
        lane_send(l, p->bytes, p->n);
        free(p);
    }
}

static void lane_push(struct unat *u, struct lane *l, uint8_t *ip, size_t n)
{
    ttl_give_back(ip, n);
    if (u->o.loss_ppm > 0 && random_next(u) % 1000000 < (uint64_t)u->o.loss_ppm)
        return;
    uint64_t due_ns = u->now_ns + (uint64_t)u->o.delay_us * 1000;
    if (u->o.jitter_us > 0)
        due_ns += random_next(u) % ((uint64_t)u->o.jitter_us * 1000);
    if (due_ns <= u->now_ns)
        return lane_send(l, ip, n);
    struct packet *p = l->queued < QUEUE_MAX ? malloc(sizeof *p + n) : NULL;
    if (!p)
        return;
    if (due_ns < l->last_due_ns)
        due_ns = l->last_due_ns;
    l->last_due_ns = due_ns;
    *p = (struct packet){.due_ns = due_ns, .n = n};
    memcpy(p->bytes, ip, n);
    *l->last = p;
    l->last = &p->next;
    l->queued++;
}

static size_t bucket(uint8_t proto, struct end inside, struct end key)
{
    uint64_t h = proto + inside.ip * 0x9e3779b97f4a7c15ull + ((uint64_t)inside.port << 20);
    h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9ull + key.ip * 0x94d049bb133111ebull + key.port;
    h = (h ^ h >> 32) * 0x9e3779b97f4a7c15ull;
    return h >> 52;
}

_Static_assert(BUCKETS == 1 << 12, "bucket() gives twelve bits");

static struct mapping **port_place(struct unat *u, uint8_t proto, uint16_t port)
{
    return &u->by_port[proto == IPPROTO_UDP][port];
}

static void mapping_free(struct unat *u, struct mapping *m)
{
    struct mapping **at = &u->by_inside[bucket(m->proto, m->inside, m->key)];
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
    *port_place(u, m->proto, m->port) = NULL;
    free(m->peers);
    free(m);
}

/* The mapping of an outside port; one that has been silent for too long is gone. */
static struct mapping *mapping_at(struct unat *u, uint8_t proto, uint16_t port)
{
    struct mapping *m = *port_place(u, proto, port);
    if (!m || u->now_ns - m->used_ns <= (uint64_t)u->o.timeout_s * NS)
        return m;
    mapping_free(u, m);
    return NULL;
}

static bool port_is_free(struct unat *u, uint8_t proto, long port)
{
    return port > 0 && port <= UINT16_MAX && !mapping_at(u, proto, (uint16_t)port);
}

/* From `at` upwards, in steps; -1: none is left. */
static long port_scan(struct unat *u, uint8_t proto, long at, long step)
{
    for (long i = 0; i < u->o.count; i++, at += step)
        if (port_is_free(u, proto, u->o.first + at % u->o.count))
            return u->o.first + at % u->o.count;
    return -1;
}

static long port_pick(struct unat *u, uint8_t proto, uint16_t wanted)
{
    if (u->o.ports == PORTS_KEEP && port_is_free(u, proto, wanted))
        return wanted;
    if (u->o.ports == PORTS_SEQUENCE) {
        long port = port_scan(u, proto, u->next_port, u->o.step);
        u->next_port = port - u->o.first + u->o.step;
        return port;
    }
    long at = 0;
    for (int i = 0; i < 256; i++) {
        at = (long)(random_next(u) % (uint64_t)u->o.count);
        if (port_is_free(u, proto, u->o.first + at))
            return u->o.first + at;
    }
    return port_scan(u, proto, at, 1);
}

static struct end masked(struct end e, long by)
{
    return (struct end){by >= BY_ADDRESS ? e.ip : 0, by >= BY_BOTH ? e.port : 0};
}

static bool end_equal(struct end a, struct end b)
{
    return a.ip == b.ip && a.port == b.port;
}

static struct mapping *mapping_find(struct unat *u, const struct view *v, struct end key)
{
    struct mapping *m = u->by_inside[bucket(v->proto, v->from, key)];
    while (m && !(m->proto == v->proto && end_equal(m->inside, v->from) && end_equal(m->key, key)))
        m = m->next;
    return m ? mapping_at(u, m->proto, m->port) : NULL;
}

static struct mapping *mapping_get(struct unat *u, const struct view *v)
{
    struct end key = masked(v->to, u->o.map);
    struct mapping *m = mapping_find(u, v, key);
    if (m)
        return m;
    long port = port_pick(u, v->proto, v->from.port);
    m = port < 0 ? NULL : calloc(1, sizeof *m);
    if (!m)
        return NULL;
    *m = (struct mapping){.inside = v->from, .key = key, .port = (uint16_t)port, .proto = v->proto};
    struct mapping **at = &u->by_inside[bucket(v->proto, v->from, key)];
    m->next = *at;
    *at = m;
    *port_place(u, v->proto, m->port) = m;
    return m;
}

static bool mapping_allows(const struct unat *u, const struct mapping *m, struct end from)
{
    struct end want = masked(from, u->o.filter);
    if (u->o.filter == BY_NOTHING)
        return true;
    for (size_t i = m->peer_count; i > 0; i--)
        if (end_equal(m->peers[i - 1], want))
            return true;
    return false;
}

static void mapping_permit(const struct unat *u, struct mapping *m, struct end to)
{
    if (mapping_allows(u, m, to) || m->peer_count >= PEERS_MAX)
        return;
    if (m->peer_count == m->peer_size) {
        size_t size = m->peer_size ? 2 * m->peer_size : 4;
        struct end *peers = realloc(m->peers, size * sizeof *peers);
        if (!peers)
            return;
        m->peers = peers;
        m->peer_size = size;
    }
    m->peers[m->peer_count++] = masked(to, u->o.filter);
}

/* The head of an answer from the outside address to whoever sent v. */
static void answer_head(const struct view *v, uint8_t *ip, size_t n, uint8_t proto)
{
    memset(ip, 0, n);
    ip[0] = 0x45;
    put16(ip + 2, (uint16_t)n);
    ip[8] = 64;
    ip[9] = proto;
    put32(ip + 12, v->to.ip);
    put32(ip + 16, v->from.ip);
    put16(ip + 10, fold(sum16(ip, 20, 0)));
}

static void reject_udp(struct unat *u, const struct view *v)
{
    uint8_t ip[20 + 8 + 68];
    size_t quoted = (size_t)(v->l4 - v->ip) + 8, n = 28 + quoted;
    answer_head(v, ip, n, IPPROTO_ICMP);
    ip[20] = 3; /* RFC 792: destination unreachable, port unreachable */
    ip[21] = 3;
    memcpy(ip + 28, v->ip, quoted);
    put16(ip + 22, fold(sum16(ip + 20, n - 20, 0)));
    lane_push(u, &u->out, ip, n);
}

static void reject_tcp(struct unat *u, const struct view *v)
{
    uint8_t ip[40], *tcp = ip + 20, flags = v->l4[13];
    size_t head = (size_t)(v->l4[12] >> 4) * 4;
    if (flags & 4 || head > v->l4_n)
        return; /* RFC 9293 3.5.2: a reset is never answered. */
    answer_head(v, ip, sizeof ip, IPPROTO_TCP);
    put16(tcp, v->to.port);
    put16(tcp + 2, v->from.port);
    if (flags & 16)
        memcpy(tcp + 4, v->l4 + 8, 4);
    put32(tcp + 8, get32(v->l4 + 4) + (uint32_t)(v->l4_n - head) + (flags & 2 ? 1 : 0));
    tcp[12] = 0x50;
    tcp[13] = 0x14;
    put16(tcp + 16, fold(sum16(ip + 12, 28, IPPROTO_TCP + 20)));
    lane_push(u, &u->out, ip, sizeof ip);
}

static void inbound(struct unat *u, struct view *v)
{
    struct mapping *m = mapping_at(u, v->proto, v->to.port);
    if (m && mapping_allows(u, m, v->from)) {
        m->used_ns = u->now_ns;
        view_rewrite(v, 16, m->inside);
        lane_push(u, &u->in, v->ip, v->n);
        return;
    }
    if (u->o.reject && v->proto == IPPROTO_UDP)
        reject_udp(u, v);
    else if (u->o.reject)
        reject_tcp(u, v);
}

/* An ICMP error about a packet of ours: the quoted packet is translated back, too. */
static void inbound_error(struct unat *u, uint8_t *ip, size_t n)
{
    size_t head = (size_t)(ip[0] & 15) * 4;
    uint8_t *quoted = ip + head + 8;
    if (head < 20 || n < head + 8 + 28 || ip[head] == 0 || ip[head] == 8 || quoted[0] != 0x45)
        return;
    if (quoted[9] != IPPROTO_UDP && quoted[9] != IPPROTO_TCP)
        return;
    struct mapping *m = mapping_at(u, quoted[9], get16(quoted + 20));
    if (!m)
        return;
    put32(quoted + 12, m->inside.ip);
    put16(quoted + 20, m->inside.port);
    put16(ip + head + 2, 0);
    put16(ip + head + 2, fold(sum16(ip + head, n - head, 0)));
    sum_replace(ip + 10, get32(ip + 16), m->inside.ip);
    put32(ip + 16, m->inside.ip);
    lane_push(u, &u->in, ip, n);
}

static void outbound(struct unat *u, struct view *v)
{
    bool hairpin = v->to.ip == u->o.outside;
    if (hairpin && !u->o.hairpin)
        return;
    struct mapping *m = mapping_get(u, v);
    if (!m)
        return;
    m->used_ns = u->now_ns;
    mapping_permit(u, m, v->to);
    /* RFC 4787 REQ-9: a hairpinned packet has the outside address as its source, too. */
    view_rewrite(v, 12, (struct end){u->o.outside, m->port});
    if (hairpin)
        inbound(u, v);
    else
        lane_push(u, &u->out, v->ip, v->n);
}

static void translate(struct unat *u, uint8_t *ip, size_t n)
{
    struct view v;
    if (n >= 20 && ip[0] >> 4 == 4 && ip[9] == IPPROTO_ICMP && get32(ip + 16) == u->o.outside)
        inbound_error(u, ip, n);
    else if (!view_open(&v, ip, n))
        return;
    else if (v.from.ip >> 16 == u->o.inside >> 16)
        outbound(u, &v);
    else if (v.to.ip == u->o.outside)
        inbound(u, &v);
}

static void forget_all(struct unat *u)
{
    for (size_t i = 0; i < BUCKETS; i++)
        while (u->by_inside[i])
            mapping_free(u, u->by_inside[i]);
}

static void device_read(struct unat *u, struct lane *l)
{
    uint8_t ip[PACKET_MAX];
    for (int i = 0; i < 64; i++) {
        ssize_t n = read(l->fd, ip, sizeof ip);
        if (n <= 0)
            return;
        u->now_ns = clock_ns();
        if (u->o.mode == MODE_WIRE)
            lane_push(u, l, ip, (size_t)n);
        else
            translate(u, ip, (size_t)n);
    }
}

static struct timespec until_due(const struct unat *u)
{
    uint64_t next_ns = u->now_ns + NS;
    if (u->out.first && u->out.first->due_ns < next_ns)
        next_ns = u->out.first->due_ns;
    if (u->in.first && u->in.first->due_ns < next_ns)
        next_ns = u->in.first->due_ns;
    uint64_t wait_ns = next_ns > u->now_ns ? next_ns - u->now_ns : 0;
    return (struct timespec){(time_t)(wait_ns / NS), (long)(wait_ns % NS)};
}

static void run(struct unat *u, int signals)
{
    struct pollfd p[] = {{u->out.fd, POLLIN, 0}, {signals, POLLIN, 0}, {u->in.fd, POLLIN, 0}};
    size_t count = u->o.mode == MODE_WIRE ? 3 : 2;
    for (;;) {
        u->now_ns = clock_ns();
        lane_flush(&u->out, u->now_ns);
        lane_flush(&u->in, u->now_ns);
        struct timespec wait = until_due(u);
        if (ppoll(p, count, &wait, NULL) <= 0)
            continue;
        struct signalfd_siginfo si;
        if (p[1].revents && read(signals, &si, sizeof si) > 0)
            forget_all(u);
        if (p[0].revents)
            device_read(u, &u->out);
        if (count > 2 && p[2].revents)
            device_read(u, &u->in);
    }
}

static int device_open(const char *name)
{
    struct ifreq r = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    (void)snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &r) < 0) {
        (void)fprintf(stderr, "unat: TUN device %s: %s\n", name, strerror(errno));
        return -1;
    }
    return fd;
}

int main(int argc, char **argv)
{
    struct unat *u = calloc(1, sizeof *u);
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGUSR1);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (!u || signals < 0 || !options_parse(&u->o, argc, argv))
        return 2;
    if (u->o.seed > 0)
        u->random = (uint64_t)u->o.seed * 0x9e3779b97f4a7c15ull;
    else if (getrandom(&u->random, sizeof u->random, 0) < 0 || u->random == 0)
        u->random = 1;
    int out = device_open(u->o.dev);
    int in = u->o.mode == MODE_WIRE && out >= 0 ? device_open(u->o.back) : out;
    if (in < 0)
        return 1;
    lane_init(&u->out, out);
    lane_init(&u->in, in);
    (void)puts("ready");
    (void)fflush(stdout);
    run(u, signals);
}
