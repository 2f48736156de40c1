/* berth-rendezvous: where peers register their signed records, claim names and look each other up.
 * Options come in; the process serves until it is told to end. One thread for each processor
 * serves, one writes names to disk, and this one waits for signals. */
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "keys/keys.h"
#include "rendezvousd/options.h"
#include "sandbox/rendezvous.h"

#define LOG_EVERY_S 60

struct server {
    struct rdv_shared shared;
    struct redis_shared redis;
    struct sockets sockets[THREADS_MAX];
    struct hub hub;
    struct thread *threads[THREADS_MAX];
    size_t thread_count;
    struct rdv_counters logged;
    bool draining;
};

/* The first address, and the three other sockets of RFC 5780 behind those that are listened on. */
static int stun_choose(struct options *o, struct addr *ret_busy)
{
    struct addr *more = &o->listens[o->listen_count];
    struct addr at[2][2] = {{[0] = o->listens[0]}, {[1] = o->stun_other}};
    int r = sockets_choose_four(at, ret_busy);
    if (r < 0)
        return r;
    o->listens[0] = at[0][0];
    more[0] = at[0][1];
    more[1] = at[1][0];
    more[2] = at[1][1];
    o->stun_count = 3;
    return 0;
}

static void stun_init(struct rdv_stun *s, const struct options *o)
{
    uint32_t n = (uint32_t)o->listen_count;
    const struct rdv_stun four = {
        .on = o->stun_count > 0,
        .at = {{o->listens[0], o->listens[n]}, {o->listens[n + 1], o->listens[n + 2]}},
        .socket = {{0, n}, {n + 1, n + 2}}};
    *s = four;
}

static int addresses_choose(struct options *o, struct addr *ret_busy)
{
    size_t i = o->stun_other.len > 0;
    int r = i > 0 ? stun_choose(o, ret_busy) : 0;
    for (; r == 0 && i < o->listen_count; i++) {
        r = sockets_choose(&o->listens[i], true);
        if (r < 0)
            *ret_busy = o->listens[i];
    }
    return r;
}

/* While we may still bind low ports. */
static int sockets_all(struct options *o, struct sockets sockets[THREADS_MAX])
{
    char text[ADDR_TEXT_MAX];
    struct addr busy;
    int chosen = addresses_choose(o, &busy);
    if (chosen < 0) {
        log_error("cannot listen addr=%s err=%s", addr_format(&busy, text), strerror(-chosen));
        return chosen;
    }
    for (size_t i = 0; i < o->threads; i++) {
        int r =
            sockets_open(&sockets[i], o->listens, o->listen_count, o->listen_count + o->stun_count);
        if (r < 0) {
            log_error("cannot open sockets thread=%zu err=%s", i, strerror(-r));
            return r;
        }
    }
    return 0;
}

static void redis_init(struct redis_shared *s, const struct options *o, struct registry *registry)
{
    s->target = o->redis;
    s->registry = registry;
    s->lease_s = o->lease_s;
    s->names_max = o->names_max;
    s->round = 1;
    randombytes_buf(s->node, sizeof s->node);
}

static int names_init(struct rdv_shared *s, const char *folder)
{
    char trouble[512] = "no memory";
    int r =
        s->names ? names_store_open(folder, s->names, &s->store, trouble, sizeof trouble) : -ENOMEM;
    if (r < 0)
        log_error("cannot keep names: %s", trouble);
    return r;
}

static int shared_init(struct server *server, const struct options *o, const char *folder)
{
    struct rdv_shared *s = &server->shared;
    *s = (struct rdv_shared){.lease_s = (uint16_t)o->lease_s, .signatures = o->rate};
    /* Three may be lost before the lease ends. */
    s->refresh_s = (uint16_t)(o->lease_s * 10 / 36);
    s->refresh_s += s->refresh_s == 0;
    stun_init(&s->stun, o);
    randombytes_buf(s->master, sizeof s->master);
    s->registry = registry_new(o->peers_max, o->lease_s);
    s->names = names_new(o->names_max);
    s->relay = relay_new(&o->relay);
    s->learned = learned_new();
    if (!s->registry || !s->names || !s->relay || !s->learned)
        return -ENOMEM;
    if (o->redis.host[0] == '\0')
        return names_init(s, folder);
    s->relay_addr = o->advertised.len ? o->advertised : o->listens[0];
    redis_init(&server->redis, o, s->registry);
    s->redis = &server->redis;
    return 0;
}

/* The server's own key, made at the first start. */
static int key_load(const char *folder, struct identity *ret_id)
{
    char path[4096], trouble[sizeof path + 128] = "";
    int n = snprintf(path, sizeof path, "%s/key", folder);
    if (n < 0 || (size_t)n >= sizeof path)
        return -ENAMETOOLONG;
    int r = identity_load(path, ret_id, trouble, sizeof trouble);
    if (r == -ENOENT) {
        identity_make(ret_id);
        r = identity_save(path, ret_id);
        (void)snprintf(trouble, sizeof trouble, "%s: %s", path, strerror(-r));
    }
    if (r < 0)
        log_error("no key: %s", trouble);
    return r;
}

/* Mailboxes before threads: each may write to all. */
static int hub_init(struct server *s, const struct options *o, const char *folder)
{
    struct identity id;
    char text[KEY_TEXT_MAX];
    int r = key_load(folder, &id);
    if (r < 0)
        return r;
    s->hub.shared = &s->shared;
    s->hub.tls = tls_server_new(&id);
    log_info("identity key=%s", key_format(&id.key, text));
    identity_wipe(&id);
    (void)pthread_mutex_init(&s->hub.locals.lock, NULL);
    for (size_t i = 0; r == 0 && i < o->threads; i++)
        r = mailbox_init(&s->hub.boxes[i]);
    if (r < 0 || !s->hub.tls)
        log_error("cannot start: no memory, or GnuTLS does not take the key");
    return r < 0 ? r : s->hub.tls ? 0 : -EINVAL;
}

static int threads_start(struct server *s, const struct options *o)
{
    for (size_t i = 0; i < o->threads; i++) {
        s->threads[i] = thread_new(&s->hub, &s->sockets[i], (uint8_t)i);
        if (!s->threads[i])
            return -ENOMEM;
        s->thread_count++;
    }
    for (size_t i = 0; i < o->threads; i++) {
        pthread_t thread;
        int r = pthread_create(&thread, NULL, thread_run, s->threads[i]);
        if (r != 0)
            return -r;
        (void)pthread_detach(thread);
    }
    return 0;
}

/* Those of a kind that are not 0, each behind a space. */
struct counted {
    char text[896];
    size_t used;
};

static void counted_add(struct counted *c, const char *kind, const char *word, uint64_t n)
{
    if (n == 0 || c->used >= sizeof c->text)
        return;
    c->used += (size_t)snprintf(c->text + c->used, sizeof c->text - c->used, " %s.%s=%llu", kind,
                                word, (unsigned long long)n);
}

/* One line: who is there, what was answered, how calls came through, and each reason for which
 * something was refused. */
static void counters_log(struct server *s, bool always)
{
    struct rdv_counters c = {.stun = 0};
    struct counted some = {.used = 0};
    for (size_t i = 0; i < s->thread_count; i++)
        thread_count(s->threads[i], &c);
    if (!always && memcmp(&c, &s->logged, sizeof c) == 0)
        return;
    s->logged = c;
    for (unsigned i = TECHNIQUE_PLAIN; i < TECHNIQUE_END; i++)
        counted_add(&some, "worked", technique_word(i), c.worked[i]);
    for (unsigned i = RDV_OK + 1; i < RDV_REASON_COUNT; i++)
        counted_add(&some, "refused", rdv_reason_word(i), c.refused[i]);
    log_info("counters peers=%zu names=%zu pairs=%zu registered=%llu refreshed=%llu found=%llu "
             "stun=%llu invited=%llu answered=%llu relayed=%llu relayed_bytes=%llu "
             "relay.limited=%llu relay.unfair=%llu relay.lost=%llu withheld=%llu dropped=%llu%s",
             registry_count(s->shared.registry), names_count(s->shared.names),
             relay_count(s->shared.relay), (unsigned long long)c.answered[RDVMSG_REGISTERED],
             (unsigned long long)c.answered[RDVMSG_REFRESHED],
             (unsigned long long)c.answered[RDVMSG_FOUND], (unsigned long long)c.stun,
             (unsigned long long)c.pushed[RDVMSG_INVITE],
             (unsigned long long)c.pushed[RDVMSG_ANSWERED], (unsigned long long)c.relayed,
             (unsigned long long)c.relayed_bytes, (unsigned long long)c.relay_limited,
             (unsigned long long)c.relay_unfair, (unsigned long long)c.relay_lost,
             (unsigned long long)c.withheld, (unsigned long long)c.dropped, some.text);
}

static void drain_begin(struct server *s)
{
    s->draining = true;
    relay_drain(s->shared.relay);
    log_info("draining pairs=%zu", relay_count(s->shared.relay));
}

/* Until SIGTERM or SIGINT, or the last pair has ended after SIGUSR2. */
static void signals_wait(struct server *s, const sigset_t *set)
{
    while (!s->draining || relay_count(s->shared.relay) > 0) {
        const struct timespec every = {.tv_sec = s->draining ? 1 : LOG_EVERY_S};
        int got = sigtimedwait(set, NULL, &every);
        if (got == SIGTERM || got == SIGINT)
            return;
        if (got == SIGUSR2)
            drain_begin(s);
        else if (got == SIGUSR1 || !s->draining)
            counters_log(s, got == SIGUSR1);
    }
}

static void signals_block(sigset_t *ret_set)
{
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(ret_set);
    (void)sigaddset(ret_set, SIGTERM);
    (void)sigaddset(ret_set, SIGINT);
    (void)sigaddset(ret_set, SIGUSR1);
    (void)sigaddset(ret_set, SIGUSR2);
    (void)pthread_sigmask(SIG_BLOCK, ret_set, NULL);
}

/* Sockets first, then the user and the folder, then threads, then the filter. */
static int start(struct server *s, struct options *o)
{
    const char *folder = NULL;
    int r = sockets_all(o, s->sockets);
    if (r < 0)
        return r;
    r = redis_target_resolve(&o->redis);
    if (r < 0) {
        log_error("cannot find redis host=%s", o->redis.host);
        return r;
    }
    /* The socket of a Redis is outside. */
    bool is_unix = o->redis.host[0] && o->redis.port == 0;
    r = sandbox_enter(o->state, !is_unix, &folder);
    if (r < 0) {
        log_error("cannot use state=%s err=%s", o->state, strerror(-r));
        return r;
    }
    r = shared_init(s, o, folder);
    if (r == 0)
        r = hub_init(s, o, folder);
    if (r < 0)
        return r;
    r = threads_start(s, o);
    if (r < 0) {
        log_error("cannot start threads err=%s", strerror(-r));
        return r;
    }
    r = sandbox_rendezvous(o->redis.host[0] != '\0');
    if (r < 0 && r != -ENOTSUP)
        log_warn("sandbox incomplete step=seccomp err=%s", strerror(-r));
    for (size_t i = 0; i < o->listen_count; i++) {
        char text[ADDR_TEXT_MAX];
        log_info("listening addr=%s names=%zu threads=%zu", addr_format(&o->listens[i], text),
                 names_count(s->shared.names), o->threads);
    }
    return 0;
}

static int key_show(const char *state)
{
    const char *folder;
    struct identity id;
    char text[KEY_TEXT_MAX];
    if (sandbox_enter(state, true, &folder) < 0 || key_load(folder, &id) < 0)
        return 1;
    (void)puts(key_format(&id.key, text));
    identity_wipe(&id);
    return 0;
}

int main(int argc, char **argv)
{
    static struct server server;
    struct options o = {.peers_max = 2000000,
                        .names_max = 1000000,
                        .lease_s = 90,
                        .rate = 50,
                        .relay = {.pairs = 100000, .pairs_key = 256, .rate_key = 16 << 20}};
    sigset_t set;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    log_init("berth-rendezvous", LOG_INFO);
    o.threads = processors < 1 ? 1 : processors > THREADS_MAX ? THREADS_MAX : (size_t)processors;
    int r = options_read(argc, argv, &o);
    if (r != 0)
        return r > 0 ? 0 : 2;
    if (keys_init() < 0) {
        log_error("cannot start: no source of randomness");
        return 1;
    }
    (void)umask(077);
    if (o.show_key)
        return key_show(o.state);
    signals_block(&set);
    (void)descriptors_raise(); /* each connection and each socket is one */
    if (start(&server, &o) < 0)
        return 1;
    signals_wait(&server, &set);
    counters_log(&server, true);
    if (server.shared.store)
        names_store_stop(server.shared.store);
    log_info("ended");
    return 0;
}
