/* hiredis in our loop. It tells us what it wants to wait for and we tell it what is ready; its
 * context goes away in its own time, which its clean-up hook tells. Whatever ends a connection, the
 * next one is tried after a pause that grows. */
#include "rendezvous/redis-link.h"

#include <hiredis/async.h>
#include <sodium.h>
#include <stdio.h>

#include "base/clock.h"

#define WORDS_MAX      12
#define TICK_MS        250
#define RETRY_FIRST_MS 100
#define RETRY_MAX_MS   2000

static void try_connect(struct redis_link *l);

static void why_set(struct redis_link *l, const char *why)
{
    (void)snprintf(l->why, sizeof l->why, "%s", why);
    /* Texts of Redis end with a line's end at times; the log wants one line. */
    for (char *p = l->why; *p; p++)
        if ((uint8_t)*p < ' ')
            *p = ' ';
}

/* What hiredis asks of an event library ---------------------------------------------------------
 */

static void wait_for(struct redis_link *l, uint32_t add, uint32_t remove)
{
    uint32_t wanted = (l->wanted | add) & ~remove;
    if (wanted == l->wanted || l->watch.fd < 0)
        return;
    struct epoll_event e = {.events = wanted, .data.ptr = &l->watch};
    if (epoll_ctl(l->loop->epoll_fd, EPOLL_CTL_MOD, l->watch.fd, &e) < 0)
        l->failed = true;
    l->wanted = wanted;
}

static void add_read(void *link)
{
    wait_for(link, EPOLLIN, 0);
}

static void del_read(void *link)
{
    wait_for(link, 0, EPOLLIN);
}

static void add_write(void *link)
{
    wait_for(link, EPOLLOUT, 0);
}

static void del_write(void *link)
{
    wait_for(link, 0, EPOLLOUT);
}

/* The context is about to be freed, with its socket; everything that waited has been told. */
static void clean_up(void *link)
{
    struct redis_link *l = link;
    if (l->why[0] == '\0')
        why_set(l, l->context->errstr && l->context->errstr[0] ? l->context->errstr : "closed");
    loop_unwatch(l->loop, &l->watch);
    l->context = NULL;
    l->up = l->failed = false;
    l->pending = 0;
    if (l->changed)
        l->changed(l);
    loop_timer(l->loop, &l->timer, l->retry_ms + randombytes_uniform(l->retry_ms));
    l->retry_ms = l->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : l->retry_ms * 2;
}

static void ready(struct watch *w, uint32_t events)
{
    struct redis_link *l = container_of(w, struct redis_link, watch);
    if (events & ~(uint32_t)EPOLLOUT)
        redisAsyncHandleRead(l->context);
    if (l->context && (events & EPOLLOUT))
        redisAsyncHandleWrite(l->context);
}

/* Setting up -----------------------------------------------------------------------------------
 */

static void replied(redisAsyncContext *context, void *reply, void *call)
{
    struct redis_link *l = context->data;
    struct redis_call *c = call;
    l->pending -= l->pending > 0;
    l->heard_ms = clock_now_ms();
    c->done(c, reply);
}

/* Queues a command of these words. */
static int queue(struct redis_link *l, redisCallbackFn *fn, void *context, const struct str *words,
                 size_t n)
{
    const char *argv[WORDS_MAX];
    size_t lengths[WORDS_MAX];
    if (n > WORDS_MAX)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        argv[i] = words[i].p;
        lengths[i] = words[i].n;
    }
    return redisAsyncCommandArgv(l->context, fn, context, (int)n, argv, lengths) == REDIS_OK
               ? 0
               : -ENOTCONN;
}

static int send_words(struct redis_link *l, struct redis_call *c, const struct str *words, size_t n)
{
    int r = queue(l, replied, c, words, n);
    if (r == 0 && l->pending++ == 0)
        l->heard_ms = clock_now_ms();
    return r;
}

/* AUTH, SELECT and PING; the last one is refused while Redis loads its data. */
static void set_up_done(struct redis_call *c, const struct redisReply *reply)
{
    struct redis_link *l = container_of(c, struct redis_link, set_up);
    if (!reply || l->failed)
        return;
    if (reply->type == REDIS_REPLY_ERROR) {
        redis_link_renew(l, reply->str);
        return;
    }
    if (--l->set_up_left > 0)
        return;
    l->up = true;
    l->retry_ms = RETRY_FIRST_MS;
    l->why[0] = '\0';
    if (l->changed)
        l->changed(l);
}

static int set_up(struct redis_link *l)
{
    const struct redis_target *t = l->target;
    char db[16];
    struct str login[] = {STR("AUTH"), str_of(t->user), str_of(t->password)};
    struct str choice[] = {STR("SELECT"), {db, (size_t)snprintf(db, sizeof db, "%u", t->db)}};
    const struct str ping = STR("PING");
    int r = 0;
    l->set_up.done = set_up_done;
    l->set_up_left = 1 + (t->password[0] != '\0') + (t->db != 0);
    if (t->password[0] && t->user[0])
        r = send_words(l, &l->set_up, login, 3);
    else if (t->password[0])
        r = send_words(l, &l->set_up, (struct str[]){login[0], login[2]}, 2);
    if (r == 0 && t->db != 0)
        r = send_words(l, &l->set_up, choice, 2);
    return r < 0 ? r : send_words(l, &l->set_up, &ping, 1);
}

/* Every failure ends in clean_up(), which tries again. */
static void attach(struct redis_link *l)
{
    redisAsyncContext *c = l->context;
    c->data = l;
    c->ev.data = l;
    c->ev.addRead = add_read;
    c->ev.delRead = del_read;
    c->ev.addWrite = add_write;
    c->ev.delWrite = del_write;
    c->ev.cleanup = clean_up;
    l->wanted = EPOLLOUT;
    l->heard_ms = clock_now_ms();
    l->why[0] = '\0';
    if (c->err || loop_watch(l->loop, &l->watch, c->c.fd, EPOLLOUT) < 0 || set_up(l) < 0)
        redisAsyncFree(c);
}

static void try_connect(struct redis_link *l)
{
    const struct redis_target *t = l->target;
    l->context = t->port ? redisAsyncConnect(t->host, t->port) : redisAsyncConnectUnix(t->host);
    if (l->context)
        attach(l);
    if (l->context)
        loop_timer(l->loop, &l->timer, TICK_MS);
    else if (l->timer.at_ms == 0)
        loop_timer(l->loop, &l->timer, RETRY_MAX_MS);
}

static void tick(struct timer *t)
{
    struct redis_link *l = container_of(t, struct redis_link, timer);
    if (!l->context) {
        try_connect(l);
        return;
    }
    bool silent = (l->pending > 0 || !l->up) && clock_now_ms() - l->heard_ms > REDIS_SILENT_MS;
    if (silent && !l->failed)
        why_set(l, "no answer");
    if (silent || l->failed)
        redisAsyncFree(l->context);
    else
        loop_timer(l->loop, &l->timer, TICK_MS);
}

/* For its owner --------------------------------------------------------------------------------
 */

void redis_link_start(struct redis_link *l)
{
    l->watch = (struct watch){.fd = -EBADF, .ready = ready};
    l->timer.fire = tick;
    l->retry_ms = RETRY_FIRST_MS;
    l->up = l->failed = false;
    l->pending = 0;
    try_connect(l);
}

void redis_link_stop(struct redis_link *l)
{
    l->changed = NULL;
    if (l->context)
        redisAsyncFree(l->context);
    loop_untimer(&l->timer);
}

void redis_link_renew(struct redis_link *l, const char *why)
{
    if (!l->context || l->failed)
        return;
    why_set(l, why);
    l->failed = true;
    l->up = false;
    loop_timer(l->loop, &l->timer, 0);
}

int redis_link_send(struct redis_link *l, struct redis_call *c, size_t most,
                    const struct str *words, size_t n)
{
    if (!l->up)
        return -ENOTCONN;
    if (l->pending >= most)
        return -EBUSY;
    return send_words(l, c, words, n);
}

/* The answer to SUBSCRIBE and then each message: ["message", channel, bytes]. */
static void message(redisAsyncContext *context, void *reply, void *link)
{
    struct redis_link *l = link;
    const redisReply *r = reply;
    (void)context;
    l->heard_ms = clock_now_ms();
    if (!r || r->type != REDIS_REPLY_ARRAY || r->elements != 3)
        return;
    const redisReply *kind = r->element[0], *bytes = r->element[2];
    if (kind->type == REDIS_REPLY_STRING && bytes->type == REDIS_REPLY_STRING &&
        str_eq((struct str){kind->str, (size_t)kind->len}, STR("message")))
        l->pushed(l, (struct str){bytes->str, (size_t)bytes->len});
}

int redis_link_subscribe(struct redis_link *l, const struct str *channels, size_t n)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++)
        r = queue(l, message, l, (struct str[]){STR("SUBSCRIBE"), channels[i]}, 2);
    return r;
}
