/* Relay channels: each is opened from where we are now, and again and again, so that the relay
 * keeps it and knows where its packets go. Channels come from calls and invitations; what becomes
 * of them goes out as events. */
#include <stdlib.h>

#include "rendezvous/presence-internal.h"

/* A relay forgets a pair after 60 s; a NAT of which nothing is known may forget a mapping after 30.
 */
#define KEEP_US      (20 * S)
#define KEEP_MOST_US (40 * S)
#define ROUNDS_MAX   3

static bool is_same(const struct presence_channel *a, const struct presence_channel *b)
{
    bool relay = a->way.relay.len == b->way.relay.len &&
                 (a->way.relay.len == 0 || addr_equal(&a->way.relay, &b->way.relay));
    return relay && a->way.server == b->way.server && a->number == b->number;
}

static struct channel *channel_find(struct presence *p, const struct presence_channel *is)
{
    list_for_each(c, &p->channels, struct channel,
                  link) if (!c->ended && is_same(&c->is, is)) return c;
    return NULL;
}

static void channel_end(struct presence *p, struct channel *c)
{
    c->ended = true;
    p->channel_count--;
}

struct presence_channel presence_channel_from(const struct presence_way *way,
                                              const struct rdvmsg *m)
{
    struct presence_channel c = {.way = {.server = way->server, .relay = m->relay},
                                 .number = m->channel};
    memcpy(c.ticket, m->ticket, sizeof c.ticket);
    return c;
}

void presence_channel_keep(struct presence *p, const struct presence_channel *is)
{
    struct channel *c = channel_find(p, is);
    if (!c && p->channel_count < PRESENCE_CHANNELS_MAX) {
        c = calloc(1, sizeof *c);
        if (!c)
            return;
        list_append(&p->channels, &c->link);
        p->channel_count++;
    }
    /* Told again: the ticket may be another, and the relay may have begun anew. */
    if (!c || (c->open && memcmp(c->is.ticket, is->ticket, sizeof is->ticket) == 0))
        return;
    c->is = *is;
    question_start(&c->q, p->now_us);
}

void presence_channel_close(struct presence *p, const struct presence_channel *is)
{
    struct channel *c = channel_find(p, is);
    if (c)
        channel_end(p, c);
}

void presence_channels_again(struct presence *p, uint32_t server)
{
    list_for_each(c, &p->channels, struct channel,
                  link) if (!c->ended && c->is.way.server == server)
        question_start(&c->q, p->now_us);
}

void presence_channel_unknown(struct presence *p, uint32_t server, uint32_t number)
{
    list_for_each(c, &p->channels, struct channel,
                  link) if (!c->ended && c->is.way.server == server && c->is.number == number &&
                            !question_open(&c->q)) question_start(&c->q, p->now_us);
}

static void channel_send(struct presence *p, struct channel *c)
{
    const struct server *s = &p->servers[c->is.way.server];
    bool ours = c->is.way.relay.len == 0;
    struct rdvmsg m = {.type = RDVMSG_OPEN,
                       .transaction = question_transaction(&c->q),
                       .channel = c->is.number,
                       .pad_to = RDVMSG_HELLO_MIN};
    memcpy(m.ticket, c->is.ticket, sizeof m.ticket);
    memcpy(m.cookie, ours ? s->cookie : c->cookie, sizeof m.cookie);
    presence_send(p, &c->is.way, &m);
}

static void channel_closed(struct presence *p, struct channel *c)
{
    const struct presence_channel is = c->is;
    channel_end(p, c);
    p->host.channel(p->ctx, &is, false);
}

static uint64_t channel_run(struct presence *p, struct channel *c)
{
    if (!question_open(&c->q) && p->now_us >= c->next_us)
        question_start(&c->q, p->now_us);
    enum question_step step = question_due(&c->q, p->now_us);
    if (step == QUESTION_SEND)
        channel_send(p, c);
    if (step == QUESTION_LOST)
        channel_closed(p, c);
    return question_open(&c->q) ? c->q.at_us : c->next_us;
}

uint64_t presence_channels_run(struct presence *p)
{
    uint64_t next = PRESENCE_NEVER;
    list_for_each(c, &p->channels, struct channel, link)
    {
        uint64_t at = c->ended ? PRESENCE_NEVER : channel_run(p, c);
        next = at < next ? at : next;
    }
    list_for_each(c, &p->channels, struct channel, link)
    {
        if (!c->ended)
            continue;
        list_remove(&c->link);
        free(c);
    }
    return next;
}

static uint64_t keep_us(const struct presence *p)
{
    return presence_keep_us(p, p->keep_us ? KEEP_MOST_US : KEEP_US);
}

static void channel_opened(struct presence *p, struct channel *c)
{
    bool news = !c->open;
    const struct presence_channel is = c->is;
    c->open = true;
    c->rounds = 0;
    c->next_us = p->now_us + presence_jitter(keep_us(p));
    question_stop(&c->q);
    if (news)
        p->host.channel(p->ctx, &is, true);
}

static void channel_refused(struct presence *p, struct channel *c, const struct rdvmsg *m)
{
    if (m->reason == RDV_RATE_LIMITED || m->reason == RDV_BUSY || m->reason == RDV_DRAINING) {
        c->next_us = p->now_us + presence_again_us(m);
        question_stop(&c->q);
    } else {
        channel_closed(p, c);
    }
}

static void channel_cookie(struct presence *p, struct channel *c, const struct rdvmsg *m)
{
    memcpy(c->cookie, m->cookie, sizeof c->cookie);
    if (++c->rounds > ROUNDS_MAX) {
        channel_closed(p, c);
        return;
    }
    question_start(&c->q, p->now_us);
    if (c->is.way.relay.len == 0)
        presence_cookie(p, c->is.way.server, m);
}

bool presence_channel_input(struct presence *p, uint32_t server, const struct rdvmsg *m)
{
    list_for_each(c, &p->channels, struct channel, link)
    {
        if (c->ended || c->is.way.server != server || !question_is(&c->q, m))
            continue;
        if (c->is.way.relay.len == 0)
            presence_heard(p, server);
        if (m->type == RDVMSG_OPENED && m->channel == c->is.number)
            channel_opened(p, c);
        if (m->type == RDVMSG_COOKIE_IS)
            channel_cookie(p, c, m);
        if (m->type == RDVMSG_ERROR)
            channel_refused(p, c, m);
        return true;
    }
    return false;
}

void presence_channels_hurry(struct presence *p)
{
    list_for_each(c, &p->channels, struct channel,
                  link) if (!question_open(&c->q) && c->next_us > p->now_us + keep_us(p))
        c->next_us = p->now_us + presence_jitter(keep_us(p));
}

void presence_channels_free(struct presence *p)
{
    list_for_each(c, &p->channels, struct channel, link)
    {
        list_remove(&c->link);
        free(c);
    }
}
