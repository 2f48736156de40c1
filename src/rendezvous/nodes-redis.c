/* Servers that speak with each other through Redis: each thread has a channel of its own that it
 * listens on. A call for a peer that is registered elsewhere is asked there, and whoever asked
 * waits a while for the reply; nothing is sent twice, for the caller calls again. A thread also
 * sends itself a word each second, so that it knows that its channel is open. */
#include <hiredis/hiredis.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/clock.h"
#include "rendezvous/redis-engine.h"

#define WAITING_MAX 4096
#define WAIT_MS     2000
#define SEARCH_MS   500
#define CHECK_MS    250
/* So many checks from one word to ourselves to the next. */
#define ALIVE_CHECKS 4
#define DEAF_MS      (ALIVE_CHECKS * CHECK_MS + REDIS_SILENT_MS)

struct channel {
    char text[sizeof REDIS_CHANNEL + 2 * NODEMSG_NODE];
};

static struct str channel_of(const uint8_t node[NODEMSG_NODE], struct channel *c)
{
    memcpy(c->text, REDIS_CHANNEL, sizeof REDIS_CHANNEL - 1);
    (void)sodium_bin2hex(c->text + sizeof REDIS_CHANNEL - 1, 2 * NODEMSG_NODE + 1, node,
                         NODEMSG_NODE);
    return str_of(c->text);
}

/* For all servers it is enough that one thread of each hears it. */
static bool listens_for_all(const struct redis *r)
{
    return r->host->thread == 0;
}

static int publish(struct redis *r, struct redis_call *call, const uint8_t node[NODEMSG_NODE],
                   const struct nodemsg *m)
{
    struct channel c;
    uint8_t bytes[NODEMSG_MAX];
    int n = nodemsg_encode(m, bytes, sizeof bytes);
    if (n < 0)
        return n;
    const struct str words[] = {STR("PUBLISH"),
                                m->type == NODEMSG_SEARCH ? STR(REDIS_ALL) : channel_of(node, &c),
                                {(const char *)bytes, (size_t)n}};
    return redis_link_send(&r->link, call, REDIS_PENDING_MAX, words, 3);
}

static void sent(struct redis_call *c, const struct redisReply *reply)
{
    (void)c;
    (void)reply;
}

void redis_send(struct redis *r, const uint8_t node[NODEMSG_NODE], const struct nodemsg *m)
{
    (void)publish(r, &r->sent, node, m);
}

/* Calls ---------------------------------------------------------------------------------------- */

static void wait_end(struct redis_ask *a, enum rdv_reason reason)
{
    a->redis->waiting_count--;
    list_remove(&a->link);
    a->job->reason = reason;
    redis_ask_done(a);
}

/* To the node, or as a SEARCH to all. */
static int question_send(struct redis_ask *a, const uint8_t node[NODEMSG_NODE])
{
    const struct job *job = a->job;
    struct nodemsg m = {.type = a->is_search ? NODEMSG_SEARCH : NODEMSG_ASK,
                        .request = a->request,
                        .seen = job->from,
                        .message = {(const char *)job->message, job->message_n}};
    if (job->via.connection)
        addr_set_port(&m.seen, 0);
    memcpy(m.node, a->redis->node, sizeof m.node);
    a->is_sent = false;
    a->since_ms = clock_now_ms();
    return publish(a->redis, &a->call, node, &m);
}

static void search(struct redis_ask *a)
{
    a->is_search = true;
    int e = question_send(a, a->redis->node);
    if (e < 0)
        wait_end(a, redis_reason(e));
}

/* How many have got it: when nobody listens there any more, that server is gone. The peer may be
 * registered at another one, too, that has not written a copy since. The reply of the other server
 * may have come before this one. */
static void there(struct redis_call *c, const struct redisReply *reply)
{
    struct redis_ask *a = container_of(c, struct redis_ask, call);
    a->is_sent = true;
    if (!reply || reply->type != REDIS_REPLY_INTEGER || a->job->type == RDVMSG_WORKED)
        wait_end(a, RDV_STORAGE); /* WORKED has no answer */
    else if (reply->integer == 0 && !a->is_search)
        search(a);
    else if (a->is_answered)
        wait_end(a, RDV_OK);
}

/* A copy of our own is of a lease that has ended here: the same. */
static int ask_there(struct redis_ask *a, const uint8_t node[NODEMSG_NODE])
{
    struct redis *r = a->redis;
    a->is_search = memcmp(node, r->node, NODEMSG_NODE - 1) == 0;
    /* What worked is not worth a question to everybody. */
    if (a->is_search && a->job->type == RDVMSG_WORKED)
        return -ENOENT;
    if (r->waiting_count >= WAITING_MAX)
        return -EBUSY;
    a->call.done = there;
    a->request = ++r->last_request;
    int e = question_send(a, node);
    if (e < 0)
        return e;
    list_append(&r->waiting, &a->link);
    r->waiting_count++;
    return 0;
}

static bool copy_found(struct redis_ask *a, const struct redisReply *reply)
{
    struct redis_copy copy;
    a->job->reason = RDV_NOT_REGISTERED;
    if (reply->type != REDIS_REPLY_STRING ||
        !redis_copy_decode((struct str){reply->str, (size_t)reply->len}, &copy))
        return true;
    int e = ask_there(a, copy.node);
    if (e < 0)
        a->job->reason = redis_reason(e);
    return e < 0;
}

int redis_call_ask(struct redis_ask *a)
{
    struct redis_key key = redis_key_make(REDIS_KEY_PEER, a->job->key);
    const struct str words[] = {STR("GET"), redis_key_str(&key)};
    a->answered = copy_found;
    return redis_link_send(&a->redis->link, &a->call, REDIS_PENDING_MAX, words, 2);
}

static void replied(struct redis *r, const struct nodemsg *m)
{
    list_for_each(a, &r->waiting, struct redis_ask, link)
    {
        if (a->request != m->request || a->is_answered)
            continue;
        memcpy(a->job->message, m->message.p, m->message.n);
        a->job->message_n = (uint16_t)m->message.n;
        a->is_answered = true;
        if (a->is_sent)
            wait_end(a, RDV_OK);
        return;
    }
}

/* Listening ------------------------------------------------------------------------------------ */

/* As RFC 6298 2.3 has it. */
static void alive_heard(struct redis *r)
{
    if (!r->alive_us)
        return;
    uint64_t hop_us = clock_now_us() - r->alive_us;
    r->alive_us = 0;
    r->hop_us = (uint32_t)(r->hop_us ? (7 * (uint64_t)r->hop_us + hop_us) / 8 : hop_us);
}

/* When the last one was not heard there is no knowing which one comes next. */
static void alive_say(struct redis *r)
{
    const struct nodemsg alive = {.type = NODEMSG_ALIVE};
    r->alive_us = r->alive_us ? 0 : clock_now_us();
    redis_send(r, r->node, &alive);
}

uint32_t redis_hop_us(const struct redis *r)
{
    return r->hop_us;
}

static void pushed(struct redis_link *l, struct str bytes)
{
    struct redis *r = container_of(l, struct redis, pushes);
    struct nodemsg m;
    if (nodemsg_decode(&m, bytes.p, bytes.n) < 0)
        return;
    r->heard_ms = clock_now_ms();
    if (m.type == NODEMSG_REPLY)
        replied(r, &m);
    else if (m.type == NODEMSG_ALIVE)
        alive_heard(r);
    else if (r->host->message)
        r->host->message(r->host, &m);
}

static void pushes_changed(struct redis_link *l)
{
    struct redis *r = container_of(l, struct redis, pushes);
    struct channel c;
    r->heard_ms = clock_now_ms();
    const struct str channels[] = {channel_of(r->node, &c), STR(REDIS_ALL)};
    if (l->up && redis_link_subscribe(l, channels, listens_for_all(r) ? 2 : 1) < 0)
        redis_link_renew(l, "cannot subscribe");
}

/* What has not even been sent is the link's to end. */
static void waiting_check(struct redis *r, uint64_t now)
{
    list_for_each(a, &r->waiting, struct redis_ask, link)
    {
        if (a->is_sent && now - a->since_ms > (a->is_search ? SEARCH_MS : WAIT_MS))
            wait_end(a, a->is_search ? RDV_NOT_REGISTERED : RDV_BUSY);
    }
}

static void check(struct timer *t)
{
    struct redis *r = container_of(t, struct redis, check);
    uint64_t now = clock_now_ms();
    waiting_check(r, now);
    if (!r->link.up)
        r->heard_ms = now; /* we have said nothing */
    else if (r->pushes.up && now - r->heard_ms > DEAF_MS)
        redis_link_renew(&r->pushes, "hears nothing");
    if (++r->checks % ALIVE_CHECKS == 0)
        alive_say(r);
    loop_timer(r->host->loop, &r->check, CHECK_MS);
}

void redis_nodes_start(struct redis *r)
{
    list_init(&r->waiting);
    r->sent.done = sent;
    r->check.fire = check;
    r->pushes.loop = r->host->loop;
    r->pushes.target = &r->shared->target;
    r->pushes.changed = pushes_changed;
    r->pushes.pushed = pushed;
    r->last_request = randombytes_random();
    redis_link_start(&r->pushes);
    loop_timer(r->host->loop, &r->check, CHECK_MS);
}

/* After the link for commands, which ends what has not been sent. */
void redis_nodes_stop(struct redis *r)
{
    redis_link_stop(&r->pushes);
    loop_untimer(&r->check);
    list_for_each(a, &r->waiting, struct redis_ask, link)
    {
        wait_end(a, RDV_STORAGE);
    }
}
