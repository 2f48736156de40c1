/* Measures the registry. `memory PEERS...` fills one in this process and says what a peer costs;
 * `load PORT PID PEERS SECONDS` registers peers at a server over real UDP sockets, then refreshes
 * and looks up for so long, and says what a core-second of the server answers. The server is to be
 * started with --rate 0 --threads 1. Lines of key=value go to standard output. */
#include "rdv-util.h"
#include "rendezvous/registry.h"

#define SOCKETS 16
#define BATCH   64
/* Datagrams of one socket that may be on their way. */
#define WINDOW 256

/* A record as a program behind a NAT would have it: three addresses, two ports, two services. */
static size_t record_make(uint8_t buf[RECORD_MAX], uint64_t who, const struct identity *id)
{
    struct record r = {.sequence = 1, .not_after = (uint64_t)time(NULL) + 3600, .relay = STR("")};
    const char *const addrs[] = {"192.168.1.7:41641", "203.0.113.7:41641", "[2001:db8::7]:41641"};
    memcpy(r.key, &who, sizeof who);
    for (size_t i = 0; i < 3; i++) {
        r.candidates[i] = (struct record_candidate){.kind = RECORD_HOST, .transport = RECORD_UDP};
        if (addr_parse(addrs[i], &r.candidates[i].addr) < 0)
            exit(1);
    }
    r.candidate_count = 3;
    r.ports[0] = (struct record_port){RECORD_UDP, 41641};
    r.ports[1] = (struct record_port){RECORD_TCP, 41641};
    r.port_count = 2;
    r.services[0] = (struct record_service){STR("web"), RECORD_TCP, 0};
    r.services[1] = (struct record_service){STR("ssh"), RECORD_TCP, 0};
    r.service_count = 2;
    if (id)
        return (size_t)signed_record_make(id, &r, buf);
    return (size_t)record_encode(&r, buf, RECORD_MAX) + RECORD_SIGNATURE;
}

/* Keys that are spread as real ones are. */
static uint64_t spread(uint64_t i)
{
    return i * 0x9e3779b97f4a7c15u;
}

static void memory(size_t peers)
{
    uint8_t buf[RECORD_MAX] = {0}, out[RECORD_MAX];
    struct addr from;
    const struct rdv_via via = {.socket = 0};
    uint64_t known, put_count = 0;
    uint32_t age;
    size_t before = resident(), size = 0;
    struct registry *r = registry_new(peers, 90);
    if (!r || addr_parse("192.0.2.1:4711", &from) < 0)
        exit(1);
    const struct place at = place_make(&from, &via);
    double start = now_s();
    for (size_t i = 0; i < peers; i++) {
        size = record_make(buf, spread(i), NULL);
        put_count += registry_put(r, (struct str){(char *)buf, size}, &at, 1, &known) == 0;
    }
    double put = now_s() - start;
    size_t used = resident() - before;
    uint8_t key[RECORD_KEY] = {0};
    start = now_s();
    for (size_t i = 0; i < 1000000; i++) {
        uint64_t who = spread(i * 7919 % peers);
        memcpy(key, &who, sizeof who);
        if (registry_get(r, key, 1, out, &age) == 0)
            exit(1);
    }
    (void)printf("memory peers=%zu record_bytes=%zu bytes_per_peer=%.0f put_per_s=%.0f "
                 "get_per_s=%.0f\n",
                 (size_t)put_count, size, (double)used / (double)peers, (double)peers / put,
                 1e6 / (now_s() - start));
    registry_free(r);
}

/* Over UDP ------------------------------------------------------------------ */

struct load {
    int fds[SOCKETS];
    int pid;
    size_t peers;
    uint8_t (*messages)[RDVMSG_HEAD + RDVMSG_COOKIE + RDVMSG_KEY + 1]; /* a REFRESH or a LOOKUP */
    size_t size;
    size_t answered, wrong;
};

static void peer_register(struct load *l, size_t i, const uint8_t cookie[RDVMSG_COOKIE],
                          struct rdvmsg *refresh)
{
    uint8_t buf[RECORD_MAX], in[RDVMSG_MAX];
    struct identity id;
    struct rdvmsg m = {.type = RDVMSG_REGISTER}, answer;
    identity_make(&id);
    m.record = (struct str){(char *)buf, record_make(buf, 0, &id)};
    memcpy(m.cookie, cookie, sizeof m.cookie);
    if (signed_request_make(&id, KEY_LOGIN, cookie, m.record, m.signature) < 0)
        exit(1);
    ask(l->fds[i % SOCKETS], &m, &answer, in);
    if (answer.type != RDVMSG_REGISTERED)
        exit(1);
    memcpy(refresh->key, id.key.b, sizeof refresh->key);
    memcpy(refresh->token, answer.token, sizeof refresh->token);
}

static void turn(struct load *l, size_t s, size_t *next, size_t *flying)
{
    struct mmsghdr out[BATCH], in[BATCH];
    struct iovec out_iov[BATCH], in_iov[BATCH];
    static uint8_t bytes[BATCH][RDVMSG_MAX];
    unsigned n = 0;
    for (; n < BATCH && *flying + n < WINDOW; n++) {
        out_iov[n] = (struct iovec){l->messages[*next], l->size};
        out[n].msg_hdr = (struct msghdr){.msg_iov = &out_iov[n], .msg_iovlen = 1};
        *next = *next + SOCKETS < l->peers ? *next + SOCKETS : s;
    }
    int sent = n ? sendmmsg(l->fds[s], out, n, MSG_DONTWAIT) : 0;
    *flying += sent > 0 ? (size_t)sent : 0;
    for (size_t i = 0; i < BATCH; i++) {
        in_iov[i] = (struct iovec){bytes[i], RDVMSG_MAX};
        in[i].msg_hdr = (struct msghdr){.msg_iov = &in_iov[i], .msg_iovlen = 1};
    }
    int got = recvmmsg(l->fds[s], in, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < got; i++)
        l->wrong += bytes[i][2] != RDVMSG_REFRESHED && bytes[i][2] != RDVMSG_FOUND;
    l->answered += got > 0 ? (size_t)got : 0;
    *flying -= got > 0 ? (size_t)got : 0;
}

static void phase(struct load *l, const char *name, double seconds)
{
    size_t next[SOCKETS], flying[SOCKETS] = {0};
    for (size_t s = 0; s < SOCKETS; s++)
        next[s] = s;
    l->answered = l->wrong = 0;
    double cpu = server_cpu_s(l->pid), start = now_s(), mark = start;
    size_t before = 0;
    while (now_s() - start < seconds) {
        for (size_t s = 0; s < SOCKETS; s++)
            turn(l, s, &next[s], &flying[s]);
        if (l->answered != before) {
            before = l->answered;
            mark = now_s();
        } else if (now_s() - mark > 0.2) {
            memset(flying, 0, sizeof flying); /* lost */
        }
    }
    double took = now_s() - start;
    cpu = server_cpu_s(l->pid) - cpu;
    (void)printf("%s peers=%zu per_s=%.0f per_core_s=%.0f wrong=%zu\n", name, l->peers,
                 (double)l->answered / took, (double)l->answered / cpu, l->wrong);
}

static void load(int port, int pid, size_t peers, double seconds)
{
    struct load l = {.pid = pid, .peers = peers};
    uint8_t in[RDVMSG_MAX], cookies[SOCKETS][RDVMSG_COOKIE];
    struct rdvmsg hello = {.type = RDVMSG_HELLO, .pad_to = RDVMSG_HELLO_MIN}, answer;
    for (size_t s = 0; s < SOCKETS; s++) {
        l.fds[s] = udp_connect(port);
        ask(l.fds[s], &hello, &answer, in);
        memcpy(cookies[s], answer.cookie, sizeof cookies[s]);
    }
    struct rdvmsg *refreshes = calloc(peers, sizeof *refreshes);
    l.messages = calloc(peers, sizeof *l.messages);
    if (!refreshes || !l.messages)
        die("memory");
    double start = now_s(), cpu = server_cpu_s(pid);
    for (size_t i = 0; i < peers; i++) {
        refreshes[i].type = RDVMSG_REFRESH;
        peer_register(&l, i, cookies[i % SOCKETS], &refreshes[i]);
        l.size = (size_t)encode(&refreshes[i], l.messages[i], sizeof l.messages[i]);
    }
    (void)printf("register peers=%zu per_s=%.0f per_core_s=%.0f\n", peers,
                 (double)peers / (now_s() - start), (double)peers / (server_cpu_s(pid) - cpu));
    phase(&l, "refresh", seconds);
    for (size_t i = 0; i < peers; i++) {
        struct rdvmsg m = {.type = RDVMSG_LOOKUP, .name = STR("")};
        memcpy(m.key, refreshes[i].key, sizeof m.key);
        memcpy(m.cookie, cookies[i % SOCKETS], sizeof m.cookie);
        l.size = (size_t)encode(&m, l.messages[i], sizeof l.messages[i]);
    }
    phase(&l, "lookup", seconds);
}

int main(int argc, char **argv)
{
    if (keys_init() < 0)
        return 1;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 2 && strcmp(argv[1], "memory") == 0)
        for (int i = 2; i < argc; i++)
            memory(strtoul(argv[i], NULL, 10));
    else if (argc == 6 && strcmp(argv[1], "load") == 0)
        load(atoi(argv[2]), atoi(argv[3]), strtoul(argv[4], NULL, 10), atof(argv[5]));
    else
        return 2;
    return 0;
}
