/* Measures servers that share a Redis. `copies URL PEERS SECONDS` registers so many peers over and
 * over in this process, each of which writes one copy to Redis, without the signatures that limit
 * real registrations: one thread, one connection. `calls PORT PORT COUNT` calls from a peer of the
 * one server to a peer of the other, one call after the other, and says how long it takes from the
 * call to the callee's answer. Lines of key=value go to standard output. */
#include "base/clock.h"
#include "rdv-util.h"
#include "rendezvous/redis.h"

#define RECORD_BYTES 300
#define LEASE_S      90

struct bench {
    struct loop loop;
    struct timer timer;
    struct redis_host host;
    struct redis_shared shared;
    struct redis *redis;
    size_t peers;
    uint64_t sent, next, begun_ms, seconds;
};

static void changed(struct redis_host *h, const char *event, const char *why)
{
    struct bench *b = container_of(h, struct bench, host);
    if (why[0]) {
        (void)fprintf(stderr, "redis %s: %s\n", event, why);
        exit(1);
    }
    b->begun_ms = clock_now_ms();
    loop_timer(&b->loop, &b->timer, 0);
}

/* As a server that gets registrations: the registry and its copy. False when the queue is full. */
static bool put(struct bench *b)
{
    uint8_t record[RECORD_BYTES] = {1};
    uint64_t who = b->next % b->peers * 0x9e3779b97f4a7c15u, known;
    uint32_t now_s = (uint32_t)(clock_now_ms() / 1000);
    const struct place at = {.family = 4, .port = 4711};
    memcpy(record + 1, &who, sizeof who);
    if (registry_put(b->shared.registry, (struct str){(const char *)record, sizeof record}, &at,
                     now_s, &known) != REGISTRY_OK)
        exit(1);
    return redis_renew(b->redis, record + 1, now_s);
}

static void turn(struct timer *t)
{
    struct bench *b = container_of(t, struct bench, timer);
    uint64_t ms = clock_now_ms() - b->begun_ms;
    bool over = ms >= b->seconds * 1000;
    bool room = !over;
    for (size_t i = 0; room && i < 512; i++) {
        room = put(b);
        b->next += room;
        b->sent += room;
    }
    if (over && redis_copied(b->redis) == b->sent) {
        (void)printf("copies peers=%zu record_bytes=%d written=%llu per_s=%.0f\n", b->peers,
                     RECORD_BYTES, (unsigned long long)b->sent,
                     (double)b->sent / (double)ms * 1000);
        loop_stop(&b->loop);
        return;
    }
    loop_timer(&b->loop, t, room ? 0 : 1);
}

static int copies(const char *url, size_t peers, uint64_t seconds)
{
    static struct bench b;
    if (redis_target_parse(url, &b.shared.target) < 0 || redis_target_resolve(&b.shared.target) < 0)
        return 2;
    b.peers = peers;
    b.seconds = seconds;
    b.shared.registry = registry_new(b.peers, LEASE_S);
    b.shared.lease_s = LEASE_S;
    b.shared.round = 1;
    b.timer.fire = turn;
    b.host = (struct redis_host){&b.loop, 0, changed, NULL};
    if (!b.shared.registry || loop_init(&b.loop) < 0)
        return 1;
    b.redis = redis_new(&b.shared, &b.host);
    if (!b.redis)
        return 1;
    loop_run(&b.loop);
    redis_free(b.redis);
    registry_free(b.shared.registry);
    loop_done(&b.loop);
    return 0;
}

/* Calls ---------------------------------------------------------------------- */

/* The next message of this type that comes unasked. */
static void expect(const struct peer *p, enum rdvmsg_type type, struct rdvmsg *m,
                   uint8_t in[RDVMSG_MAX])
{
    struct pollfd f = {.fd = p->fd, .events = POLLIN};
    do {
        ssize_t n = poll(&f, 1, 5000) == 1 ? recv(p->fd, in, RDVMSG_MAX, 0) : -1;
        if (n < 0 || rdvmsg_decode(m, in, (size_t)n) < 0)
            die("no message");
    } while (m->type != type);
}

static void tell(const struct peer *p, const struct rdvmsg *m)
{
    uint8_t out[RDVMSG_MAX];
    if (send(p->fd, out, (size_t)encode(m, out, sizeof out), 0) < 0)
        die("send");
}

/* From CALL to ANSWERED, by way of CALLING, INVITE and ANSWER. */
static double call_once(const struct peer *a, const struct peer *b, uint64_t number)
{
    uint8_t in[RDVMSG_MAX];
    struct rdvmsg m, call = request(a, RDVMSG_CALL), taken = request(b, RDVMSG_ANSWER);
    memcpy(call.peer, b->id.key.b, sizeof call.peer);
    call.call = number;
    call.offer =
        STR("an offer of about as many bytes as a real one has, sealed for the callee ....");
    double start = now_s();
    tell(a, &call);
    expect(b, RDVMSG_INVITE, &m, in);
    memcpy(taken.peer, m.peer, sizeof taken.peer);
    taken.call = m.call;
    taken.offer = call.offer;
    tell(b, &taken);
    expect(a, RDVMSG_ANSWERED, &m, in);
    return now_s() - start;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Its copy may not be in Redis yet. */
static void wait_for_copy(const struct peer *a, const struct peer *b)
{
    uint8_t in[RDVMSG_MAX];
    struct rdvmsg m, call = request(a, RDVMSG_CALL);
    memcpy(call.peer, b->id.key.b, sizeof call.peer);
    do
        ask(a->fd, &call, &m, in);
    while (m.type == RDVMSG_ERROR && m.reason == RDV_NOT_REGISTERED);
    if (m.type != RDVMSG_CALLING)
        die("call refused");
    expect(b, RDVMSG_INVITE, &m, in);
}

static int calls(int port_a, int port_b, size_t count)
{
    uint8_t in[RDVMSG_MAX];
    struct peer a, b;
    struct rdvmsg m;
    double *took = calloc(count, sizeof *took), sum = 0;
    if (!took || count == 0)
        return 1;
    sign_in(&a, port_a);
    sign_in(&b, port_b);
    struct rdvmsg allow = request(&b, RDVMSG_ALLOW);
    allow.flags = RDVMSG_ANYONE;
    ask(b.fd, &allow, &m, in);
    wait_for_copy(&a, &b);
    for (size_t i = 0; i < count; i++)
        sum += took[i] = call_once(&a, &b, i + 1);
    qsort(took, count, sizeof *took, compare);
    (void)printf("calls count=%zu mean_us=%.0f p50_us=%.0f p99_us=%.0f max_us=%.0f\n", count,
                 sum / (double)count * 1e6, took[count / 2] * 1e6, took[count * 99 / 100] * 1e6,
                 took[count - 1] * 1e6);
    free(took);
    return 0;
}

int main(int argc, char **argv)
{
    if (keys_init() < 0)
        return 1;
    if (argc == 5 && strcmp(argv[1], "copies") == 0)
        return copies(argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
    if (argc == 5 && strcmp(argv[1], "calls") == 0)
        return calls(atoi(argv[2]), atoi(argv[3]), strtoul(argv[4], NULL, 10));
    return 2;
}
