/* The machine's outside: what comes in is handed to the part that asked for it, and each part is
 * run when it is due. Messages and the time come in; messages and events go out through the host.
 * The machine owns everything but the identity. */
#include "rendezvous/presence.h"

#include <sodium.h>
#include <stdlib.h>

#include "rendezvous/presence-internal.h"

uint64_t presence_random(void)
{
    uint64_t r;
    randombytes_buf(&r, sizeof r);
    return r;
}

uint64_t presence_jitter(uint64_t us)
{
    return us - presence_random() % (us / 4 + 1);
}

void question_start(struct question *q, uint64_t now_us)
{
    question_start_near(q, now_us, 0);
}

uint64_t question_repeat_us(uint32_t rtt_us)
{
    uint64_t us = (uint64_t)rtt_us + rtt_us / 2 + QUESTION_MARGIN_US;
    if (rtt_us == 0)
        return QUESTION_FIRST_US;
    if (us > QUESTION_MOST_US)
        return QUESTION_MOST_US;
    return us < QUESTION_NEAREST_US ? QUESTION_NEAREST_US : us;
}

void question_start_near(struct question *q, uint64_t now_us, uint32_t rtt_us)
{
    *q = (struct question){.at_us = now_us, .first_us = question_repeat_us(rtt_us)};
}

void question_stop(struct question *q)
{
    q->at_us = PRESENCE_NEVER;
}

bool question_open(const struct question *q)
{
    return q->at_us != PRESENCE_NEVER;
}

enum question_step question_due(struct question *q, uint64_t now_us)
{
    if (now_us < q->at_us)
        return QUESTION_WAIT;
    if (q->sent == QUESTION_TRIES) {
        question_stop(q);
        return QUESTION_LOST;
    }
    uint64_t wait_us = q->first_us << q->sent;
    q->copies[q->sent].transaction = presence_random();
    q->copies[q->sent++].sent_us = now_us;
    q->at_us = now_us + (wait_us < QUESTION_MOST_US ? wait_us : QUESTION_MOST_US);
    return QUESTION_SEND;
}

uint64_t question_transaction(const struct question *q)
{
    return q->copies[q->sent - 1].transaction;
}

/* The copy that has this number; `sent` when none has. */
static unsigned question_copy(const struct question *q, uint64_t transaction)
{
    unsigned i = 0;
    while (i < q->sent && q->copies[i].transaction != transaction)
        i++;
    return i;
}

bool question_is(const struct question *q, const struct rdvmsg *m)
{
    return question_open(q) && question_copy(q, m->transaction) < q->sent;
}

void presence_send(struct presence *p, const struct presence_way *way, struct rdvmsg *m)
{
    uint8_t buf[RDVMSG_MAX];
    int n = rdvmsg_encode(m, buf, sizeof buf);
    if (n > 0)
        p->host.send(p->ctx, way, buf, (size_t)n);
}

void presence_send_to(struct presence *p, uint32_t server, struct rdvmsg *m)
{
    const struct presence_way way = {.server = server};
    memcpy(m->key, m->type == RDVMSG_LOOKUP ? m->key : p->id->key.b, sizeof m->key);
    presence_send(p, &way, m);
}

uint64_t presence_again_us(const struct rdvmsg *m)
{
    uint64_t s = m->number < 1 ? 1 : m->number > 120 ? 120 : m->number;
    return s * S + presence_random() % S;
}

void presence_heard(struct presence *p, uint32_t server)
{
    p->servers[server].heard_us = p->now_us;
    p->servers[server].silent = false;
}

void presence_heard_at_once(struct presence *p, uint32_t server, const struct question *q,
                            const struct rdvmsg *m)
{
    struct server *s = &p->servers[server];
    unsigned copy = question_copy(q, m->transaction);
    presence_heard(p, server);
    if (copy >= q->sent)
        return;
    uint64_t rtt_us = p->now_us - q->copies[copy].sent_us;
    if (rtt_us == 0)
        rtt_us = 1;
    s->rtts_us[s->rtt_count++ % RTTS] = (uint32_t)rtt_us;
    s->rtt_us = (uint32_t)rtt_us;
    for (unsigned i = 0; i < RTTS && i < s->rtt_count; i++)
        if (s->rtts_us[i] < s->rtt_us)
            s->rtt_us = s->rtts_us[i];
}

struct presence *presence_new(const struct presence_host *host, void *ctx,
                              const struct identity *id, uint32_t servers)
{
    struct presence *p = servers <= PRESENCE_SERVERS_MAX ? calloc(1, sizeof *p) : NULL;
    if (!p)
        return NULL;
    p->host = *host;
    p->ctx = ctx;
    p->id = id;
    p->server_count = servers;
    p->record.relay = STR("");
    for (uint32_t i = 0; i < servers; i++) {
        question_stop(&p->servers[i].q);
        question_stop(&p->servers[i].allow);
        p->servers[i].state = PRESENCE_WAITING;
    }
    list_init(&p->lookups);
    list_init(&p->calls);
    list_init(&p->invites);
    list_init(&p->channels);
    return p;
}

void presence_free(struct presence *p)
{
    if (!p)
        return;
    presence_lookups_free(p);
    presence_calls_free(p);
    presence_invites_free(p);
    presence_channels_free(p);
    free(p);
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t presence_tick(struct presence *p, uint64_t now_us)
{
    uint64_t next = PRESENCE_NEVER;
    p->now_us = now_us;
    (void)presence_sign(p);
    for (uint32_t i = 0; i < p->server_count; i++)
        next = sooner(next, presence_server_run(p, i));
    next = sooner(next, presence_lookups_run(p));
    next = sooner(next, presence_calls_run(p));
    next = sooner(next, presence_invites_run(p));
    return sooner(next, presence_channels_run(p));
}

/* What nobody asked for in so many words. START is the answer to an answer of ours. */
static bool pushed(struct presence *p, const struct presence_way *way, const struct rdvmsg *m)
{
    switch (m->type) {
    case RDVMSG_INVITE:
        if (presence_word_good(p, way->server, m))
            presence_invite_input(p, way, m);
        return true;
    case RDVMSG_START:
        presence_start_input(p, way->server, m);
        return true;
    case RDVMSG_ANSWERED:
        if (presence_word_good(p, way->server, m))
            (void)presence_call_input(p, way, m);
        return true;
    case RDVMSG_ERROR:
        if (m->transaction != 0 || m->reason != RDV_UNKNOWN_CHANNEL)
            return false;
        presence_channel_unknown(p, way->server, (uint32_t)m->number);
        return true;
    default:
        return false;
    }
}

void presence_input(struct presence *p, const struct presence_way *way, const void *bytes, size_t n,
                    uint64_t now_us)
{
    struct rdvmsg m;
    uint32_t server = way->server;
    if (server >= p->server_count || rdvmsg_decode(&m, bytes, n) < 0)
        return;
    p->now_us = now_us;
    if (pushed(p, way, &m))
        return;
    bool taken = presence_server_input(p, server, &m) || presence_lookup_input(p, server, &m) ||
                 presence_call_input(p, way, &m) || presence_answer_input(p, server, &m) ||
                 presence_channel_input(p, server, &m);
    (void)taken; /* an answer that is late, or to nothing that we asked */
}

void presence_moved(struct presence *p, uint32_t server, uint64_t now_us)
{
    if (server >= p->server_count)
        return;
    p->now_us = now_us;
    presence_server_again(p, server);
    presence_channels_again(p, server);
}

void presence_network_changed(struct presence *p, uint64_t now_us)
{
    for (uint32_t i = 0; i < p->server_count; i++)
        presence_moved(p, i, now_us);
}

uint64_t presence_keep_us(const struct presence *p, uint64_t us)
{
    return p->keep_us && p->keep_us < us ? p->keep_us : us;
}

void presence_keep(struct presence *p, uint32_t ms)
{
    p->keep_us = ms * MS;
    if (ms == 0)
        return;
    presence_servers_hurry(p);
    presence_channels_hurry(p);
}

int presence_allow(struct presence *p, const struct key *keys, size_t n, bool anyone)
{
    if (n > PRESENCE_ALLOW_MAX)
        return -ENOSPC;
    for (size_t i = 0; i < n; i++)
        memcpy(p->allowed + i * RDVMSG_ALLOWED, keys[i].b, RDVMSG_ALLOWED);
    p->allowed_n = n * RDVMSG_ALLOWED;
    p->anyone = anyone;
    p->allow_version++;
    return 0;
}

void presence_nat(struct presence *p, const struct nat_print *print)
{
    p->print = *print;
}

void presence_server(const struct presence *p, uint32_t server, struct presence_server *ret_server)
{
    static const struct server none = {.state = PRESENCE_WAITING};
    const struct server *s = server < p->server_count ? &p->servers[server] : &none;
    *ret_server = (struct presence_server){
        .state = s->state,
        .reason = s->reason,
        .silent = s->silent,
        .seen = s->seen,
        .rtt_us = s->rtt_us,
        .registered_us = s->registered_us,
        .heard_us = s->heard_us,
        .next_us = question_open(&s->q) ? s->q.at_us : s->next_us,
        .lease_s = s->lease_s,
        .refresh_s = s->refresh_s,
        .passed_over = s->passed_over,
        .allow_known = s->allow_version != 0 && s->allow_version == p->allow_version,
    };
}
