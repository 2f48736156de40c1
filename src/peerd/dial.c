/* From a target to a stream: the key by the pin or a server's answer, a session by remote.c, and
 * the peer's word. Whoever asked hears of the end once. */
#include "peerd/dial.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "peerd/peerd.h"

static void dial_free(struct dial *d)
{
    loop_untimer(&d->deadline);
    (void)fd_close(d->fd);
    list_remove(&d->link);
    free(d);
}

/* Who has connected to a forwarded port sees that nobody was there. */
static void reset_on_close(int fd)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (fd >= 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* Presence still has the pointer while it looks up. */
static void dial_end(struct dial *d)
{
    struct peerd *p = d->peerd;
    loop_untimer(&d->deadline);
    reset_on_close(d->fd);
    d->fd = fd_close(d->fd);
    d->dead = true;
    d->remote = NULL;
    if (!d->asked_server)
        dial_free(d);
    peerd_idle_check(p);
}

static void tell(struct dial *d, int err, const char *sentence)
{
    if (d->host.done)
        d->host.done(d->host.ctx, d, err, sentence);
    d->host.done = NULL;
}

void dial_fail(struct dial *d, int err, const char *format, ...)
{
    char sentence[FOUND_TROUBLE_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    log_info("dial failed peer=%s service=%s reason=%s", d->target.name, d->target.service,
             sentence);
    trail_add(&d->trail, "%s", sentence);
    tell(d, err, sentence);
    dial_end(d);
}

/* The session has the socket once the peer was asked: it ends with whoever holds the other end. */
void dial_forget(struct dial *d)
{
    d->host.done = NULL;
    if (d->stage != DIAL_ASKED)
        dial_end(d);
}

static void deadline_fired(struct timer *t)
{
    static const char *const stages[] = {"no server has answered", "no session came about",
                                         "the peer has not answered", "the peer is not there"};
    struct dial *d = container_of(t, struct dial, deadline);
    if (d->stage != DIAL_ASKED) {
        dial_fail(d, -ETIMEDOUT, "Timeout: %s in time", stages[d->stage]);
        return;
    }
    tell(d, -ETIMEDOUT, "Timeout: the peer has not answered in time");
}

static int lookup(struct dial *d)
{
    struct net *n = &d->peerd->net;
    if (n->rebuild.at_ms)
        return 0; /* dials_retry() comes. */
    if (!n->presence)
        return -EDESTADDRREQ;
    int r = presence_lookup(n->presence, str_of(d->target.name), &d->target.key, d);
    d->asked_server = r == 0;
    net_kick(n);
    return r;
}

static void attach(struct dial *d, const struct key *key)
{
    struct remote *r = remote_get(d->peerd, key, d->target.name);
    d->stage = DIAL_WAITING;
    d->target.key = *key;
    d->remote = r;
    if (r)
        remote_want(r);
    else
        dial_fail(d, -ENOBUFS, "too many peers at once");
}

static bool pinned(struct dial *d, struct key *ret_key)
{
    char text[KEY_TEXT_MAX], when[FOUND_TIME_MAX];
    struct known k;
    size_t line;
    if (known_open(d->peerd->known_path, false, &k, &line) < 0)
        return false;
    const struct known_peer *p = known_by_name(&k, d->target.name);
    if (p) {
        *ret_key = p->key;
        trail_add(&d->trail, "pinned since %s: %s", found_time(p->since, when),
                  key_format(&p->key, text));
    }
    known_done(&k);
    return p != NULL;
}

static void resolve(struct dial *d)
{
    struct key key = d->target.key;
    if (!*d->target.name || pinned(d, &key)) {
        attach(d, &key);
        return;
    }
    d->stage = DIAL_LOOKUP;
    trail_add(&d->trail, "not pinned: the servers are asked for %s", d->target.name);
    int r = lookup(d);
    if (r == -EDESTADDRREQ)
        dial_fail(d, r, "no rendezvous server is known: --rendezvous HOST:PORT");
    else if (r < 0)
        dial_fail(d, r, "the servers cannot be asked now: %s", strerror(-r));
}

struct dial *dial_new_consume(struct peerd *p, const struct target *t, int fd, uint64_t timeout_ms,
                              const struct dial_host *host)
{
    struct dial *d = calloc(1, sizeof *d);
    if (!d) {
        (void)fd_close(fd);
        return NULL;
    }
    d->peerd = p;
    d->host = *host;
    d->target = *t;
    d->fd = fd;
    d->begun_ms = clock_now_ms();
    d->deadline.fire = deadline_fired;
    list_append(&p->dials, &d->link);
    loop_timer(&p->loop, &d->deadline, timeout_ms);
    return d;
}

void dial_go(struct dial *d)
{
    resolve(d);
}

/* A peer that is not there may have got another key: its name says. */
static bool check_begin(struct dial *d, int err, const char *sentence)
{
    if (err != -EHOSTDOWN || !*d->target.name || d->asked_server)
        return false;
    d->stage = DIAL_CHECKING;
    d->remote = NULL;
    d->failed_with = err;
    (void)snprintf(d->sentence, sizeof d->sentence, "%s", sentence);
    return lookup(d) == 0 && d->asked_server;
}

static int remember(struct dial *d, const struct presence_found *f, char *trouble, size_t size)
{
    struct found found = {.key = f->key,
                          .server = "the server",
                          .claimed = f->claimed,
                          .age_s = f->age_s,
                          .registered = f->record.n > 0,
                          .record = f->fields};
    return found_remember(d->peerd->known_path, &d->target, &found, trouble, size);
}

static void checked(struct dial *d, const struct presence_found *f)
{
    char trouble[FOUND_TROUBLE_MAX];
    int r = f->reason == RDV_OK ? remember(d, f, trouble, sizeof trouble) : 0;
    if (r == -EKEYREJECTED)
        dial_fail(d, r, "%s", trouble);
    else
        dial_fail(d, d->failed_with, "%s", d->sentence);
}

void dial_found(struct dial *d, const struct presence_found *f)
{
    char trouble[FOUND_TROUBLE_MAX], text[KEY_TEXT_MAX];
    d->asked_server = false;
    if (d->dead) {
        dial_free(d);
        return;
    }
    if (d->stage == DIAL_CHECKING) {
        checked(d, f);
        return;
    }
    if (f->reason != RDV_OK) {
        dial_fail(d, f->reason == RDV_BUSY ? -EHOSTUNREACH : -ENOENT, "%s: %s",
                  f->reason == RDV_BUSY ? "NoServer" : rdv_reason_word(f->reason),
                  f->reason == RDV_BUSY ? "no rendezvous server answers"
                                        : rdv_reason_sentence(f->reason));
        return;
    }
    int r = remember(d, f, trouble, sizeof trouble);
    if (r < 0) {
        dial_fail(d, r, "%s", trouble);
        return;
    }
    trail_add(&d->trail, "found and pinned: %s", key_format(&f->key, text));
    attach(d, &f->key);
}

static void finish(struct dial *d, int err, const char *sentence)
{
    trail_add(&d->trail, "%s", sentence);
    tell(d, err, sentence);
    dial_end(d);
}

/* Answers may come before the others of a list were asked: one by one. */
static void ask_peer(struct dial *d, struct session *s)
{
    if (d->fd < 0) {
        if (session_is_up(s))
            finish(d, 0, "there is a session");
        return;
    }
    d->stage = DIAL_ASKED;
    int r = session_dial(s, str_of(d->target.service), fd_take(&d->fd), d);
    if (r < 0) {
        d->stage = DIAL_WAITING;
        dial_fail(d, r, "no stream: %s", strerror(-r));
    }
}

/* The next whom the session serves: one with a socket when the other side has answered, for until
 * then it may be given up for another one; the others when it is up. */
static struct dial *next_waiting(const struct remote *r)
{
    list_for_each(
        d, &r->peerd->dials, struct dial,
        link) if (d->remote == r && d->stage == DIAL_WAITING && !d->dead && r->session &&
                  (d->fd >= 0 ? session_is_keyed(r->session) : session_is_up(r->session))) return d;
    return NULL;
}

/* From the beginning each time: whoever asks may end others. */
void dials_flush(struct remote *r)
{
    for (struct dial *d; (d = next_waiting(r));)
        ask_peer(d, r->session);
}

bool dials_waiting(const struct remote *r)
{
    list_for_each(d, &r->peerd->dials, struct dial,
                  link) if (d->remote == r && !d->dead) return true;
    return false;
}

void dials_fail(struct remote *r, int err, const char *sentence)
{
    list_for_each(d, &r->peerd->dials, struct dial,
                  link) if (d->remote == r && d->stage == DIAL_WAITING && !d->dead &&
                            !check_begin(d, err, sentence)) dial_fail(d, err, "%s", sentence);
    else if (d->remote == r && d->stage == DIAL_ASKED && !*d->sentence)(void)
        snprintf(d->sentence, sizeof d->sentence, "%s", sentence);
}

struct meaning {
    unsigned reason;
    int err;
    const char *sentence;
};

static const struct meaning meanings[] = {
    {STREAM_TAKEN, 0, "taken"},
    {STREAM_NOT_ALLOWED, -EACCES, "NotAllowed: this key may not use this service"},
    {STREAM_NO_SERVICE, -ENOENT, "NoSuchService: the peer has no such service"},
    {STREAM_UNREACHABLE, -ECONNREFUSED,
     "NotServed: the service is known, but nothing serves it now"},
    {STREAM_BUSY, -EBUSY, "Busy: the peer has too many connections"},
    {STREAM_LOST, -ECONNRESET, "Lost: the session ended before the peer had answered"},
    {STREAM_RESET, -ECONNRESET, "Reset: the peer took the connection back"},
    {STREAM_GONE, -ECONNABORTED, "Gone: our own side was closed"},
};

void dial_answered(struct dial *d, unsigned reason)
{
    const struct meaning *m = NULL;
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (meanings[i].reason == reason)
            m = &meanings[i];
    if (reason == STREAM_LOST && *d->sentence)
        finish(d, -ECONNRESET, d->sentence);
    else if (m)
        finish(d, m->err, m->sentence);
    else
        finish(d, -EPROTO, stream_reason_word(reason));
}

void dials_forget_lookups(struct peerd *p)
{
    list_for_each(d, &p->dials, struct dial, link)
    {
        d->asked_server = false;
        if (d->dead)
            dial_free(d);
    }
}

void dials_retry(struct peerd *p)
{
    list_for_each(r, &p->remotes, struct remote, link) if (dials_waiting(r)) remote_want(r);
    list_for_each(d, &p->dials, struct dial,
                  link) if (!d->dead && d->stage == DIAL_LOOKUP && lookup(d) < 0)
        dial_fail(d, -EHOSTUNREACH, "the servers cannot be asked");
}
