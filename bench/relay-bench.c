/* Measures relays. `memory PAIRS...` makes so many pairs in this process and says what one costs.
 * `berth PORT PID PAIRS SEGMENTS SECONDS` calls across a berth-rendezvous and sends packets of
 * 1,200 bytes through it, `turn ...` does the same through a TURN server that asks for no password,
 * by ChannelData to a socket of ours; both say how many packets a core-second of the server
 * carries. SEGMENTS packets go into one system call (UDP_SEGMENT) as berth sends them; 1: each into
 * its own. Lines of key=value go to standard output. */
#include <netinet/udp.h>

#include "rdv-util.h"
#include "rendezvous/relay.h"
#include "wire/relay.h"

#define PACKET    1200
#define BATCH     32
#define PAIRS_MAX 256
/* Packets of one pair that may be on their way. */
#define WINDOW 192
#define SPACE  65536

struct path {
    int in, out; /* into the relay, and out of it */
    uint8_t head[RELAY_HEAD];
    size_t head_n, flying;
};

struct load {
    int port, pid;
    size_t pairs, segments;
    double seconds;
    struct path paths[PAIRS_MAX];
    size_t sent, received;
    uint8_t bytes[SPACE];
};

static void memory(size_t pairs)
{
    const struct relay_limits limits = {.pairs = pairs, .pairs_key = 4};
    size_t before = resident();
    struct relay *r = relay_new(&limits);
    struct relay_ends ends;
    uint8_t caller[RDVMSG_KEY] = {0}, callee[RDVMSG_KEY] = {1};
    double start = now_s();
    for (size_t i = 0; i < pairs; i++) {
        memcpy(caller, &i, sizeof i);
        const struct relay_call c = {.caller = caller,
                                     .callee = callee,
                                     .call = i,
                                     .from = {.family = 4, .port = 1},
                                     .to = {.family = 4, .port = 2}};
        if (relay_call(r, &c, 1, &ends) != RDV_OK)
            exit(1);
    }
    (void)printf("memory pairs=%zu bytes_per_pair=%.0f calls_per_s=%.0f\n", pairs,
                 (double)(resident() - before) / (double)pairs, (double)pairs / (now_s() - start));
    relay_free(r);
}

/* Through berth-rendezvous --------------------------------------------------- */

static void path_berth(struct load *l, struct path *path)
{
    uint8_t in[RDVMSG_MAX];
    struct peer a, b;
    struct rdvmsg answer;
    sign_in(&a, l->port);
    sign_in(&b, l->port);
    struct rdvmsg allow = request(&b, RDVMSG_ALLOW), call = request(&a, RDVMSG_CALL);
    allow.flags = RDVMSG_ANYONE;
    ask(b.fd, &allow, &answer, in);
    memcpy(call.peer, b.id.key.b, sizeof call.peer);
    ask(a.fd, &call, &answer, in);
    if (answer.type != RDVMSG_CALLING || recv(b.fd, in, sizeof in, 0) < 0)
        die("call");
    relay_head(path->head, answer.channel);
    path->head_n = RELAY_HEAD;
    path->in = a.fd;
    path->out = b.fd;
}

/* Through a TURN server ------------------------------------------------------ */

/* RFC 8656 7.2: Allocate, for UDP; and 12: bind a channel to our other socket. */
static void path_turn(struct load *l, struct path *path)
{
    uint8_t in[RDVMSG_MAX];
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof own;
    static const uint8_t allocate[] = "\x00\x03\x00\x08\x21\x12\xa4\x42"
                                      "123456789012"
                                      "\x00\x19\x00\x04\x11\x00\x00\x00";
    uint8_t bind_channel[] = "\x00\x09\x00\x14\x21\x12\xa4\x42"
                             "123456789013"
                             "\x00\x0c\x00\x04\x40\x00\x00\x00"
                             "\x00\x12\x00\x08\x00\x01PP\x5e\x12\xa4\x43";
    path->in = udp_connect(l->port);
    path->out = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(path->out, (struct sockaddr *)&own, sizeof own) < 0 ||
        getsockname(path->out, (struct sockaddr *)&own, &len) < 0)
        die("socket");
    if (exchange(path->in, allocate, sizeof allocate - 1, in) < 2 || in[0] != 1 || in[1] != 3)
        die("allocation refused");
    uint16_t port = ntohs(own.sin_port) ^ 0x2112;
    bind_channel[34] = (uint8_t)(port >> 8);
    bind_channel[35] = (uint8_t)port;
    if (exchange(path->in, bind_channel, sizeof bind_channel - 1, in) < 2 || in[0] != 1)
        die("channel refused");
    const uint8_t head[] = {0x40, 0, (PACKET - 4) >> 8, (PACKET - 4) & 0xff};
    memcpy(path->head, head, sizeof head);
    path->head_n = sizeof head;
}

/* Load ----------------------------------------------------------------------- */

static size_t send_apart(struct load *l, const struct path *p)
{
    struct mmsghdr out[BATCH];
    struct iovec iov[BATCH];
    for (size_t i = 0; i < BATCH; i++) {
        iov[i] = (struct iovec){l->bytes, PACKET};
        out[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
    }
    int n = sendmmsg(p->in, out, BATCH, MSG_DONTWAIT);
    return n > 0 ? (size_t)n : 0;
}

static size_t send_together(struct load *l, const struct path *p)
{
    uint16_t size = PACKET;
    uint8_t control[CMSG_SPACE(sizeof size)] __attribute__((aligned(8))) = {0};
    struct iovec iov = {l->bytes, l->segments * PACKET};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(c), &size, sizeof size);
    return sendmsg(p->in, &m, MSG_DONTWAIT) < 0 ? 0 : l->segments;
}

/* Packets that have come; those that the kernel has put together count as many as they are. */
static size_t drain(struct load *l, const struct path *p)
{
    static uint8_t bytes[SPACE];
    size_t packets = 0;
    for (ssize_t n; (n = recv(p->out, bytes, sizeof bytes, MSG_DONTWAIT)) > 0;)
        packets += ((size_t)n + PACKET - 1) / PACKET;
    l->received += packets;
    return packets;
}

static void turn(struct load *l, struct path *p)
{
    if (p->flying + BATCH <= WINDOW) {
        for (size_t i = 0; i < (l->segments > 1 ? l->segments : 1); i++)
            memcpy(l->bytes + i * PACKET, p->head, p->head_n);
        size_t n = l->segments > 1 ? send_together(l, p) : send_apart(l, p);
        p->flying += n;
        l->sent += n;
    }
    size_t got = drain(l, p);
    p->flying -= got < p->flying ? got : p->flying;
}

static void run(struct load *l, const char *name)
{
    double start = now_s(), mark = start, cpu = server_cpu_s(l->pid);
    size_t before = 0;
    while (now_s() - start < l->seconds) {
        for (size_t i = 0; i < l->pairs; i++)
            turn(l, &l->paths[i]);
        if (l->received != before) {
            before = l->received;
            mark = now_s();
        } else if (now_s() - mark > 0.2) {
            for (size_t i = 0; i < l->pairs; i++)
                l->paths[i].flying = 0; /* lost */
            mark = now_s();
        }
    }
    double took = now_s() - start;
    cpu = server_cpu_s(l->pid) - cpu;
    (void)printf("relay through=%s pairs=%zu segments=%zu bytes=%d per_s=%.0f per_core_s=%.0f "
                 "lost=%.4f\n",
                 name, l->pairs, l->segments, PACKET, (double)l->received / took,
                 (double)l->received / cpu, 1 - (double)l->received / (double)l->sent);
}

static void load(int argc, char **argv)
{
    static struct load l;
    if (argc != 7)
        exit(2);
    l.port = atoi(argv[2]);
    l.pid = atoi(argv[3]);
    l.pairs = strtoul(argv[4], NULL, 10);
    l.segments = strtoul(argv[5], NULL, 10);
    l.seconds = atof(argv[6]);
    if (l.pairs < 1 || l.pairs > PAIRS_MAX || l.segments < 1 || l.segments > BATCH)
        exit(2);
    bool berth = strcmp(argv[1], "berth") == 0;
    for (size_t i = 0; i < l.pairs; i++) {
        int on = 1, room = 4 << 20;
        struct path *p = &l.paths[i];
        (berth ? path_berth : path_turn)(&l, p);
        (void)setsockopt(p->out, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
        (void)setsockopt(p->out, SOL_UDP, UDP_GRO, &on, sizeof on);
    }
    run(&l, argv[1]);
}

int main(int argc, char **argv)
{
    if (keys_init() < 0 || argc < 2)
        return 2;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(argv[1], "memory") == 0)
        for (int i = 2; i < argc; i++)
            memory(strtoul(argv[i], NULL, 10));
    else
        load(argc, argv);
    return 0;
}
