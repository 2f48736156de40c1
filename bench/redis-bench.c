/* Measures the copies that a registry keeps in Redis, without the signatures that limit real
 * registrations: `redis-bench URL PEERS SECONDS` registers so many peers over and over in this
 * process, each of which is one copy in Redis. One thread, one connection. A line of key=value goes
 * to standard output. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
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

int main(int argc, char **argv)
{
    static struct bench b;
    if (argc != 4 || redis_target_parse(argv[1], &b.shared.target) < 0 ||
        redis_target_resolve(&b.shared.target) < 0)
        return 2;
    b.peers = strtoul(argv[2], NULL, 10);
    b.seconds = strtoul(argv[3], NULL, 10);
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
