/* Calls of ours: through one server after the other until one has the callee there. CALL is said
 * again until both its answer and the callee's have come, because the server keeps no timers. Calls
 * come in; called(), calling(), answered() and failed() go out. */
#include <stdlib.h>

#include "rendezvous/presence-internal.h"

/* For all servers together; and where all of them are silent. */
#define CALL_US   (12 * S)
#define SILENT_US (4 * S)
/* So many copies in this time without an answer, and the next server is tried, if there is one. */
#define COPIES_MAX 3
#define DEAF_US    S
/* The callee's answer may overtake the server's by a little. */
#define OVERTAKES_US (5 * MS)

static void call_end(struct presence *p, struct call *c)
{
    c->ended = true;
    p->call_count--;
}

void presence_calls_free(struct presence *p)
{
    list_for_each(c, &p->calls, struct call, link)
    {
        list_remove(&c->link);
        free(c);
    }
}

static uint32_t every_server(const struct presence *p)
{
    return (uint32_t)((1ull << p->server_count) - 1);
}

int presence_call(struct presence *p, const struct key *callee, uint32_t servers,
                  const struct offer *offer, void *user, uint64_t *ret_call)
{
    struct call *c = p->call_count < PRESENCE_CALLS_MAX ? calloc(1, sizeof *c) : NULL;
    if (!c)
        return -EAGAIN;
    c->number = presence_random();
    struct offer o = *offer;
    o.call = c->number;
    o.unix_ms = p->host.unix_ms(p->ctx);
    int n = sealed_offer_make(p->id, callee, &o, c->offer);
    if (n < 0) {
        free(c);
        return n;
    }
    c->offer_n = (size_t)n;
    c->callee = *callee;
    c->user = user;
    c->untried = servers ? servers & every_server(p) : every_server(p);
    c->server = PRESENCE_NO_SERVER;
    question_stop(&c->q);
    list_append(&p->calls, &c->link);
    p->call_count++;
    *ret_call = c->number;
    return 0;
}

void presence_call_end(struct presence *p, uint64_t call)
{
    list_for_each(c, &p->calls, struct call, link) if (!c->ended && c->number == call)
        call_end(p, c);
}

static void call_failed(struct presence *p, struct call *c)
{
    if (c->calling)
        presence_channel_close(p, &c->channel);
    call_end(p, c);
    p->host.failed(p->ctx, c->user, c->number, c->reason);
}

/* The nearest that we are registered at. */
static uint32_t call_choose(const struct presence *p, const struct call *c)
{
    uint32_t best = PRESENCE_NO_SERVER;
    for (uint32_t i = 0; i < p->server_count; i++) {
        const struct server *s = &p->servers[i];
        if (!(c->untried & 1u << i) || !s->token_good || s->silent)
            continue;
        if (best == PRESENCE_NO_SERVER || s->rtt_us < p->servers[best].rtt_us)
            best = i;
    }
    return best;
}

static bool all_silent(const struct presence *p, const struct call *c)
{
    for (uint32_t i = 0; i < p->server_count; i++)
        if (c->untried & 1u << i && !p->servers[i].silent)
            return false;
    return c->server == PRESENCE_NO_SERVER && p->now_us + CALL_US >= c->until_us + SILENT_US;
}

/* Away from this server. What it showed of a channel is worth nothing then. */
static void call_leave(struct presence *p, struct call *c)
{
    if (c->calling)
        presence_channel_close(p, &c->channel);
    c->calling = false;
    c->server = PRESENCE_NO_SERVER;
    question_stop(&c->q);
}

/* The server has it: now the callee's answer may take as long. */
static void call_give_time(const struct presence *p, struct call *c)
{
    uint64_t at_us = p->now_us + question_repeat_us(p->servers[c->server].rtt_us);
    if (question_open(&c->q) && c->q.at_us < at_us)
        c->q.at_us = at_us;
}

static void call_send(struct presence *p, struct call *c)
{
    const struct server *s = &p->servers[c->server];
    struct rdvmsg m = {.type = RDVMSG_CALL,
                       .transaction = question_transaction(&c->q),
                       .call = c->number,
                       .rtt_us = s->rtt_us,
                       .print = p->print,
                       .offer = {(const char *)c->offer, c->offer_n}};
    memcpy(m.token, s->token, sizeof m.token);
    memcpy(m.peer, c->callee.b, sizeof m.peer);
    presence_send_to(p, c->server, &m);
    if (!c->calling)
        p->host.called(p->ctx, c->user, c->number, c->server);
}

static void call_try(struct presence *p, struct call *c)
{
    if (c->server == PRESENCE_NO_SERVER) {
        c->server = call_choose(p, c);
        if (c->server == PRESENCE_NO_SERVER)
            return;
        c->untried &= ~(1u << c->server);
        question_start_near(&c->q, p->now_us, p->servers[c->server].rtt_us);
    }
    /* It logs in anew; the call waits for it. */
    if (!p->servers[c->server].token_good) {
        question_start(&c->q, p->now_us);
        return;
    }
    bool deaf = !c->calling && c->q.sent >= COPIES_MAX && c->untried != 0 &&
                p->now_us - c->q.copies[0].sent_us >= DEAF_US;
    enum question_step step = question_due(&c->q, p->now_us);
    if ((step == QUESTION_LOST && c->untried != 0) || (step == QUESTION_SEND && deaf))
        call_leave(p, c);
    else if (step == QUESTION_LOST)
        question_start(&c->q, p->now_us);
    else if (step == QUESTION_SEND)
        call_send(p, c);
}

static uint64_t call_run(struct presence *p, struct call *c)
{
    if (c->until_us == 0)
        c->until_us = p->now_us + CALL_US;
    bool was_at = c->server != PRESENCE_NO_SERVER;
    call_try(p, c);
    if (was_at && c->server == PRESENCE_NO_SERVER && c->untried != 0)
        call_try(p, c);
    bool nowhere = c->server == PRESENCE_NO_SERVER && c->untried == 0;
    if (nowhere || all_silent(p, c) || p->now_us >= c->until_us) {
        call_failed(p, c);
        return PRESENCE_NEVER;
    }
    uint64_t look_us = c->until_us - CALL_US + SILENT_US;
    if (c->server == PRESENCE_NO_SERVER && look_us > p->now_us)
        return look_us;
    bool waits = c->server == PRESENCE_NO_SERVER || !p->servers[c->server].token_good;
    return waits || c->until_us < c->q.at_us ? c->until_us : c->q.at_us;
}

uint64_t presence_calls_run(struct presence *p)
{
    uint64_t next = PRESENCE_NEVER;
    list_for_each(c, &p->calls, struct call, link)
    {
        uint64_t at = c->ended ? PRESENCE_NEVER : call_run(p, c);
        next = at < next ? at : next;
    }
    list_for_each(c, &p->calls, struct call, link)
    {
        if (!c->ended)
            continue;
        list_remove(&c->link);
        free(c);
    }
    return next;
}

/* CALL comes back once for each copy; only the first says something new. */
static void call_calling(struct presence *p, struct call *c, const struct presence_way *way,
                         const struct rdvmsg *m)
{
    struct presence_channel channel = presence_channel_from(way, m);
    bool again = c->calling && c->channel.number == channel.number &&
                 memcmp(c->channel.ticket, channel.ticket, sizeof channel.ticket) == 0;
    if (m->call != c->number || again)
        return;
    struct presence_calling e = {.call = c->number, .callee = c->callee, .channel = channel};
    void *user = c->user;
    if (c->calling)
        presence_channel_close(p, &c->channel);
    c->calling = true;
    c->channel = channel;
    presence_channel_keep(p, &channel);
    if (c->answered)
        call_end(p, c);
    else
        call_give_time(p, c);
    p->host.calling(p->ctx, user, &e);
}

/* Remembered for longer than the call, which ends when its answer has come. */
static void call_made(struct presence *p, const struct call *c, uint32_t server)
{
    size_t i = p->made_next++ % PRESENCE_CALLS_MAX;
    p->made[i].number = c->number;
    p->made[i].callee = c->callee;
    p->made[i].server = server;
    p->made[i].told = 0;
}

void presence_worked(struct presence *p, uint64_t call, enum technique technique)
{
    for (size_t i = 0; i < PRESENCE_CALLS_MAX && i < p->made_next; i++) {
        if (p->made[i].number != call || p->made[i].told & 1u << technique)
            continue;
        p->made[i].told |= (uint8_t)(1u << technique);
        struct rdvmsg m = {.type = RDVMSG_WORKED,
                           .transaction = presence_random(),
                           .call = call,
                           .technique = (uint8_t)technique};
        memcpy(m.token, p->servers[p->made[i].server].token, sizeof m.token);
        memcpy(m.peer, p->made[i].callee.b, sizeof m.peer);
        presence_send_to(p, p->made[i].server, &m);
        return;
    }
}

static void call_answered(struct presence *p, struct call *c, const struct presence_way *way,
                          const struct rdvmsg *m)
{
    struct presence_answered e = {.call = c->number,
                                  .callee = c->callee,
                                  .server = way->server,
                                  .wait_us = m->wait_us,
                                  .hint = technique_from(m->technique),
                                  .seen = m->addr};
    if (m->reason != RDV_OK) {
        c->reason = m->reason;
        call_failed(p, c);
        return;
    }
    if (c->answered || sealed_offer_open(p->id, &c->callee, m->offer, &e.offer) < 0 ||
        sealed_offer_fits(&e.offer, c->number, p->host.unix_ms(p->ctx)) < 0)
        return;
    void *user = c->user;
    c->answered = true;
    call_made(p, c, way->server);
    if (c->calling)
        call_end(p, c);
    else if (question_open(&c->q) && c->q.at_us > p->now_us + OVERTAKES_US)
        c->q.at_us = p->now_us + OVERTAKES_US; /* the server's own is lost */
    p->host.answered(p->ctx, user, &e);
}

static void call_refused(struct presence *p, struct call *c, const struct rdvmsg *m)
{
    if (m->reason == RDV_BAD_TOKEN) {
        presence_token_bad(p, c->server);
        question_start(&c->q, p->now_us);
        return;
    }
    bool later = m->reason == RDV_RATE_LIMITED || m->reason == RDV_BUSY;
    c->reason = m->reason;
    if (later && c->untried == 0)
        question_start(&c->q, p->now_us + presence_again_us(m));
    else if (!c->answered)
        call_leave(p, c);
}

bool presence_call_input(struct presence *p, const struct presence_way *way, const struct rdvmsg *m)
{
    bool push = m->type == RDVMSG_ANSWERED;
    list_for_each(c, &p->calls, struct call, link)
    {
        bool for_it =
            push ? c->number == m->call && memcmp(c->callee.b, m->peer, sizeof m->peer) == 0
                 : question_is(&c->q, m);
        if (c->ended || c->server != way->server || !for_it)
            continue;
        if (push) {
            call_answered(p, c, way, m);
            return true;
        }
        presence_heard(p, way->server);
        if (m->type == RDVMSG_CALLING)
            call_calling(p, c, way, m);
        if (m->type == RDVMSG_ERROR)
            call_refused(p, c, m);
        return true;
    }
    return false;
}
