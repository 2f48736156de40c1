/* Calls from others: an invitation is opened, shown once, and answered as often as it comes.
 * Invitations come in from the server; invited() and start() go out. One that the caller did not
 * seal is passed over, so that nobody, not the server either, can make this peer send anything. */
#include <stdlib.h>

#include "rendezvous/presence-internal.h"

/* Opening a box costs some 0.1 ms: so many a second, and what is more is lost. */
#define OPENED_A_SECOND 200
/* Copies of one START. */
#define START_AGAIN_US (200 * MS)
/* Of an answer: when START does not come both may have been lost, or only that; then the caller has
 * begun already, and is alone. */
#define COPIES_MAX 3

static bool is_invited(const struct invite *i, uint64_t call, uint32_t server)
{
    return i->number == call && i->server == server;
}

static struct invite *invite_find(struct presence *p, uint64_t call, uint32_t server)
{
    list_for_each(i, &p->invites, struct invite, link) if (is_invited(i, call, server)) return i;
    return NULL;
}

static void invite_free(struct presence *p, struct invite *i)
{
    list_remove(&i->link);
    p->invite_count--;
    free(i);
}

void presence_invites_free(struct presence *p)
{
    list_for_each(i, &p->invites, struct invite, link) invite_free(p, i);
}

static bool may_open(struct presence *p)
{
    if (p->now_us - p->invites_us >= S) {
        p->invites_us = p->now_us;
        p->invites_left = OPENED_A_SECOND;
    }
    if (p->invites_left == 0)
        return false;
    p->invites_left--;
    return true;
}

static void answer_send(struct presence *p, struct invite *i)
{
    const struct server *s = &p->servers[i->server];
    struct rdvmsg m = {.type = RDVMSG_ANSWER,
                       .transaction = i->transaction,
                       .call = i->number,
                       .reason = i->reason,
                       .rtt_us = s->rtt_us,
                       .print = p->print,
                       .offer = {(const char *)i->offer, i->offer_n}};
    memcpy(m.token, s->token, sizeof m.token);
    memcpy(m.peer, i->caller.b, sizeof m.peer);
    i->told_us = p->now_us;
    i->again_us = p->now_us + question_repeat_us(s->rtt_us);
    i->copies++;
    presence_send_to(p, i->server, &m);
}

static bool waits_for_start(const struct invite *i)
{
    return i->answered && i->reason == RDV_OK && i->start_us == 0 && i->copies < COPIES_MAX;
}

uint64_t presence_invites_run(struct presence *p)
{
    uint64_t next = PRESENCE_NEVER;
    list_for_each(i, &p->invites, struct invite, link)
    {
        if (waits_for_start(i) && p->now_us >= i->again_us)
            answer_send(p, i);
        if (waits_for_start(i) && i->again_us < next)
            next = i->again_us;
    }
    return next;
}

static struct invite *invite_add(struct presence *p)
{
    struct invite *i = calloc(1, sizeof *i);
    if (!i)
        return NULL;
    if (p->invite_count == PRESENCE_INVITES_MAX)
        invite_free(p, container_of(p->invites.next, struct invite, link));
    list_append(&p->invites, &i->link);
    p->invite_count++;
    return i;
}

static void invite_new(struct presence *p, const struct presence_way *way, const struct rdvmsg *m)
{
    struct presence_invite e = {.call = m->call, .seen = m->addr};
    memcpy(e.caller.b, m->peer, sizeof e.caller.b);
    if (!may_open(p) || sealed_offer_open(p->id, &e.caller, m->offer, &e.offer) < 0 ||
        sealed_offer_fits(&e.offer, m->call, p->host.unix_ms(p->ctx)) < 0)
        return;
    struct invite *i = invite_add(p);
    if (!i)
        return;
    e.channel = presence_channel_from(way, m);
    i->number = m->call;
    i->caller = e.caller;
    i->server = way->server;
    i->channel = e.channel;
    i->transaction = presence_random();
    presence_channel_keep(p, &e.channel);
    p->host.invited(p->ctx, &e);
}

/* A caller that is nearer to the server than we are calls again before it can have heard. */
static bool is_too_early(const struct presence *p, const struct invite *i)
{
    return p->now_us - i->told_us < p->servers[i->server].rtt_us;
}

void presence_invite_input(struct presence *p, const struct presence_way *way,
                           const struct rdvmsg *m)
{
    struct invite *i = invite_find(p, m->call, way->server);
    if (!i)
        invite_new(p, way, m);
    else if (i->answered && memcmp(i->caller.b, m->peer, sizeof m->peer) == 0 &&
             !is_too_early(p, i))
        answer_send(p, i);
}

int presence_answer(struct presence *p, const struct presence_invite *invite,
                    enum rdv_reason reason, const struct offer *offer)
{
    struct invite *i = invite_find(p, invite->call, invite->channel.way.server);
    if (!i)
        return -ENOENT;
    i->reason = reason;
    i->offer_n = 0;
    if (reason == RDV_OK) {
        struct offer o = *offer;
        o.call = i->number;
        o.unix_ms = p->host.unix_ms(p->ctx);
        int n = sealed_offer_make(p->id, &i->caller, &o, i->offer);
        if (n < 0)
            return n;
        i->offer_n = (size_t)n;
    } else {
        presence_channel_close(p, &i->channel);
    }
    i->answered = true;
    answer_send(p, i);
    return 0;
}

bool presence_answer_input(struct presence *p, uint32_t server, const struct rdvmsg *m)
{
    list_for_each(i, &p->invites, struct invite, link)
    {
        if (!i->answered || i->server != server || i->transaction != m->transaction)
            continue;
        /* The invitation will come again; the answer then has another token. */
        if (m->type == RDVMSG_ERROR && m->reason == RDV_BAD_TOKEN)
            presence_token_bad(p, server);
        return true;
    }
    return false;
}

void presence_start_input(struct presence *p, uint32_t server, const struct rdvmsg *m)
{
    struct invite *i = invite_find(p, m->call, server);
    if (!i || !i->answered || i->reason != RDV_OK)
        return;
    /* Nobody but the server has seen the answer. */
    if (m->transaction != i->transaction) {
        p->servers[server].passed_over++;
        return;
    }
    if (i->start_us && p->now_us - i->start_us < START_AGAIN_US)
        return;
    i->start_us = p->now_us;
    const struct presence_start e = {.call = i->number,
                                     .caller = i->caller,
                                     .server = server,
                                     .wait_us = m->wait_us,
                                     .hint = technique_from(m->technique),
                                     .seen = m->addr};
    p->host.start(p->ctx, &e);
}
