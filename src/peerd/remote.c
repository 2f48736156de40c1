/* Keeps what is known of each peer, calls it when somebody wants it, takes its calls when it is
 * allowed, and gives each session to the peer that it belongs to. */
#include "peerd/remote.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "peerd/crowd.h"
#include "peerd/dial.h"
#include "peerd/peerd.h"

/* A session without streams is kept for the next one so long, a channel that nobody came over. */
#define SESSION_IDLE_MS 600000
#define CHANNEL_IDLE_MS 60000
/* With streams there is a ping every so often, and a peer from which nothing comes for so long is
 * gone: whoever waits for it must hear of that. */
#define PING_MS  2000
#define STALL_MS 4000
/* The same while the session is being made: it is to be begun anew before it is given up. */
#define MUTE_MS 2000
#define GONE_MS 10000
/* A call for a channel that has failed is made again after so long, doubled each time. */
#define RECALL_MS     2000
#define RECALL_MAX_MS 60000

struct remote *remote_find(struct peerd *p, const struct key *key)
{
    list_for_each(r, &p->remotes, struct remote, link) if (key_equal(&r->key, key)) return r;
    return NULL;
}

const char *remote_label(const struct remote *r, char buf[KEY_TEXT_MAX])
{
    if (*r->name)
        return r->name;
    (void)key_format(&r->key, buf);
    buf[12] = 0;
    return buf;
}

/* What the user calls it: by the list of those who are allowed, else by the known peers. */
static void name_find(struct peerd *p, struct remote *r)
{
    struct known k;
    size_t line;
    for (size_t i = 0; i < p->state.allowed_count && !*r->name; i++)
        if (key_equal(&p->state.allowed[i].key, &r->key))
            memcpy(r->name, p->state.allowed[i].name, sizeof r->name);
    if (known_open(p->known_path, false, &k, &line) < 0)
        return;
    const struct known_peer *known = known_find(&k, "", &r->key);
    r->known = known != NULL;
    if (known && !*r->name)
        memcpy(r->name, known->name, sizeof r->name);
    known_done(&k);
}

static struct remote *remote_new(struct peerd *p, const struct key *key)
{
    struct remote *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->peerd = p;
    r->key = *key;
    name_find(p, r);
    if (p->remote_count >= REMOTES_MAX && !crowd_make_room(p, r)) {
        free(r);
        return NULL;
    }
    r->quiet_ms = clock_now_ms();
    path_init(r);
    nearby_init(r);
    punchings_init(r);
    offerings_init(r);
    callback_init(r);
    list_append(&p->remotes, &r->link);
    p->remote_count++;
    return r;
}

struct remote *remote_get(struct peerd *p, const struct key *key, const char *name)
{
    struct remote *r = remote_find(p, key);
    if (!r)
        r = remote_new(p, key);
    if (r && *name) {
        (void)snprintf(r->name, sizeof r->name, "%s", name);
        r->known = true;
    }
    return r;
}

static void channels_close(struct remote *r)
{
    struct net *n = &r->peerd->net;
    early_drop(r);
    for (size_t i = 0; i < NET_CHANNELS_MAX; i++)
        if (n->channels[i].remote == r)
            net_channel_close(n, &n->channels[i]);
    r->channel = NULL;
}

/* Also one that was answered: presence goes on with it until it has shown a channel. */
static void call_forget(struct remote *r)
{
    if (r->peerd->net.presence)
        presence_call_end(r->peerd->net.presence, r->call);
    r->calling = false;
}

void remote_free(struct remote *r)
{
    struct endpoint *e = r->peerd->net.endpoint;
    call_forget(r);
    for (struct session *s = NULL; e && (s = endpoint_next(e, s));)
        if (session_user(s) == r)
            session_set_user(s, NULL);
    channels_close(r);
    offerings_done(r);
    callback_done(r);
    punchings_done(r);
    attempts_done(&r->attempts);
    path_done(r);
    nearby_done(r);
    list_remove(&r->link);
    r->peerd->remote_count--;
    free(r);
}

/* Calling -------------------------------------------------------------------------------------- */

static void call(struct remote *r)
{
    call_forget(r);
    r->calling = true;
    offering_call(r);
}

static void call_not_made(struct remote *r, int err)
{
    r->calling = false;
    if (r->session)
        log_warn("not called err=%s", strerror(-err));
    else if (!nearby_holds(r, err, strerror(-err)))
        dials_fail(r, err, strerror(-err));
}

void remote_offered(struct remote *r, const struct offer *o)
{
    struct net *n = &r->peerd->net;
    int result =
        n->presence ? presence_call(n->presence, &r->key, 0, o, r, &r->call) : -EDESTADDRREQ;
    if (result < 0) {
        call_not_made(r, result);
        return;
    }
    r->calls++;
    punching_own(r, PUNCHING_CALLER, r->call, o->secret);
    net_kick(n);
    trail_add(&r->trail, "called through %u server%s", n->server_count,
              n->server_count == 1 ? "" : "s");
}

void remote_recall(struct remote *r)
{
    struct net *n = &r->peerd->net;
    r->recall_due = false;
    if (r->calling || !n->presence)
        return;
    call(r);
}

void remote_want(struct remote *r)
{
    struct net *n = &r->peerd->net;
    if (r->session) {
        dials_flush(r);
        if (r->recall_due && !path_is_direct(r))
            remote_recall(r);
        return;
    }
    if (r->calling || n->rebuild.at_ms)
        return;
    trail_clear(&r->trail);
    r->called_ms = clock_now_ms();
    r->calls = 0;
    r->path.first_ms = 0;
    nearby_begin(r);
    static const char nowhere[] = "no rendezvous server is known: --rendezvous HOST:PORT";
    if (n->presence)
        call(r);
    else if (!nearby_holds(r, -EDESTADDRREQ, nowhere))
        dials_fail(r, -EDESTADDRREQ, nowhere);
}

static void connecting(struct remote *r, const char *words)
{
    trail_add(&r->trail, "connecting %s", words);
    r->heard_ms = clock_now_ms();
    r->packets_in = 0;
    dials_flush(r);
}

static void connect_over(struct remote *r, const struct quic_path *path, const char *words)
{
    struct session *s;
    int result = session_connect(r->peerd->net.endpoint, &r->key, path, &s);
    if (result < 0) {
        dials_fail(r, result, strerror(-result));
        return;
    }
    session_set_user(s, r);
    r->session = s;
    connecting(r, words);
}

/* Not by a server's word: the session begins there, or one that goes over the relay moves there. */
void remote_near(struct remote *r, const struct addr *at, const char *words)
{
    struct quic_path path = {NET_PATH_UDP, *at};
    if (!r->session)
        connect_over(r, &path, words);
    path_found(r, &path, CANDIDATE_HOST);
}

static bool goes_over(const struct session *s, const struct quic_path *path)
{
    struct session_stats stats;
    session_stat(s, &stats);
    return stats.quic.path.id == path->id;
}

static bool channel_in_use(const struct remote *r, const struct channel *c)
{
    struct quic_path path = net_channel_path(&r->peerd->net, c);
    return r->session && goes_over(r->session, &path);
}

/* What is only being made cannot move: when its channel is worth nothing it begins anew. One that
 * the other side has answered has connections already. */
static void give_up_unmade(struct remote *r)
{
    struct session *s = r->session;
    struct session_stats stats;
    if (!s || session_is_keyed(s) || !session_is_client(s))
        return;
    session_stat(s, &stats);
    if (stats.quic.path.id < NET_PATH_CHANNEL ||
        stats.quic.path.id - NET_PATH_CHANNEL >= NET_CHANNELS_MAX)
        return;
    r->session = NULL;
    session_set_user(s, NULL);
    session_close(s, "another relay channel");
}

/* A channel: the first packets of a new session go there at once, and a session whose own way died
 * has another one. */
void remote_calling(struct remote *r, const struct presence_calling *c)
{
    struct net *n = &r->peerd->net;
    if (c->call != r->call)
        return;
    trail_add(&r->trail, "relay channel %08x at %s", c->channel.number,
              n->servers[c->channel.way.server]);
    if (early_numbered(r, &c->channel)) {
        connecting(r, "over the relay");
        return;
    }
    early_drop(r);
    struct channel *old = r->channel;
    r->channel = net_channel_add(n, &c->channel, r);
    if (!r->channel)
        return;
    if (old != r->channel)
        give_up_unmade(r);
    struct quic_path path = net_channel_path(n, r->channel);
    if (!r->session)
        connect_over(r, &path, "over the relay");
    else if (session_is_client(r->session) && !path_is_direct(r) && !goes_over(r->session, &path))
        path_relay(r);
    if (old && old != r->channel && old->remote == r && !channel_in_use(r, old))
        net_channel_close(n, old);
}

void remote_answered(struct remote *r, const struct presence_answered *a)
{
    if (a->call != r->call)
        return;
    r->calling = false;
    r->recalls_failed = 0;
    trail_add(&r->trail, "it answered through %s", r->peerd->net.servers[a->server]);
    punching_theirs(r, PUNCHING_CALLER, a->call, &a->offer);
    path_offer(r, &a->offer);
    if (!r->session && !r->early && !r->channel && r->path.count > 0)
        connect_over(r, &r->path.tries[0].path, "directly");
    punching_start(r, PUNCHING_CALLER, &a->seen, a->wait_us, a->hint);
    offering_renew(r);
}

static void words_for(const struct remote *r, enum rdv_reason reason, char *buf, size_t size)
{
    char label[KEY_TEXT_MAX];
    const char *who = remote_label(r, label);
    if (reason == RDV_NOT_REGISTERED)
        (void)snprintf(buf, size, "NotRegistered: %s is not there: no server knows it now", who);
    else if (reason == RDV_NOT_ALLOWED)
        (void)snprintf(buf, size, "NotAllowed: %s does not let this key in", who);
    else if (reason == RDV_OK && !net_server_there(&r->peerd->net))
        (void)snprintf(buf, size, "NoServer: no rendezvous server answers");
    else if (reason == RDV_OK)
        (void)snprintf(buf, size, "NoAnswer: %s did not answer the call", who);
    else
        (void)snprintf(buf, size, "%s: %s", rdv_reason_word(reason), rdv_reason_sentence(reason));
}

static void recall_later(struct remote *r)
{
    uint64_t ms = (uint64_t)RECALL_MS << (r->recalls_failed < 5 ? r->recalls_failed++ : 5);
    r->recall_due = true;
    r->recall_ms = clock_now_ms() + (ms < RECALL_MAX_MS ? ms : RECALL_MAX_MS);
}

void remote_failed(struct remote *r, uint64_t number, enum rdv_reason reason)
{
    char sentence[REMOTE_TROUBLE_MAX];
    if (number != r->call)
        return;
    r->calling = false;
    early_drop(r);
    words_for(r, reason, sentence, sizeof sentence);
    trail_add(&r->trail, "%s", sentence);
    if (r->channel && r->channel->remote == r)
        r->channel->remote = NULL;
    r->channel = NULL;
    if (r->session && session_is_up(r->session)) {
        recall_later(r);
        return;
    }
    int err = reason == RDV_NOT_ALLOWED      ? -EACCES
              : reason == RDV_NOT_REGISTERED ? -EHOSTDOWN
                                             : -EHOSTUNREACH;
    /* One that was made without a server does not depend on it. */
    if (r->session ? path_is_direct(r) : nearby_holds(r, err, sentence))
        return;
    dials_fail(r, err, sentence);
    if (r->session)
        session_close(r->session, "the call failed");
}

/* Being called --------------------------------------------------------------------------------- */

bool remote_may_connect(struct peerd *p, const struct key *key)
{
    return state_may(&p->state, key, STR(""));
}

/* The channel may carry packets before the answer is made. */
static void invite_take(struct remote *r, const struct presence_invite *i)
{
    struct net *n = &r->peerd->net;
    trail_add(&r->trail, "it calls through %s", n->servers[i->channel.way.server]);
    punching_theirs(r, PUNCHING_CALLEE, i->call, &i->offer);
    if (!net_channel_add(n, &i->channel, r))
        trail_add(&r->trail, "no place for another relay channel");
    offering_answer(r, i);
}

void remote_answers(struct remote *r, const struct presence_invite *i, const struct offer *o)
{
    struct net *n = &r->peerd->net;
    punching_own(r, PUNCHING_CALLEE, i->call, o->secret);
    if (!n->presence || presence_answer(n->presence, i, RDV_OK, o) < 0)
        trail_add(&r->trail, "the call could not be answered");
    net_kick(n);
}

void remote_invited(struct peerd *p, const struct presence_invite *i)
{
    struct remote *r = remote_may_connect(p, &i->caller) ? remote_get(p, &i->caller, "") : NULL;
    if (r)
        invite_take(r, i);
    else if (presence_answer(p->net.presence, i, RDV_DECLINED, NULL) < 0)
        log_debug("a call could not be declined");
    net_kick(&p->net);
}

static bool may_use(void *ctx, const struct key *key, struct str service)
{
    struct peerd *p = ctx;
    return state_may(&p->state, key, service);
}

/* Over a session that we made both may dial: we still may. */
void remote_denied(struct remote *r)
{
    struct endpoint *e = r->peerd->net.endpoint;
    bool may_connect = remote_may_connect(r->peerd, &r->key);
    for (struct session *s = endpoint_next(e, NULL), *next; s; s = next) {
        next = endpoint_next(e, s);
        if (session_user(s) != r)
            continue;
        if (may_connect || session_is_client(s))
            session_recheck(s, may_use, r->peerd);
        else
            session_close(s, "NotAllowed");
    }
}

/* Sessions ------------------------------------------------------------------------------------- */

void remote_up(struct peerd *p, struct session *s)
{
    char label[KEY_TEXT_MAX];
    struct remote *r = remote_get(p, session_peer(s), "");
    if (!r || !crowd_admits(p, r, s, CROWD_SESSIONS_MAX)) {
        session_close(s, "Busy");
        return;
    }
    session_set_user(s, r);
    r->quiet_ms = clock_now_ms();
    if (!r->session || session_is_up(r->session))
        r->session = s;
    trail_add(&r->trail, "session is up%s", session_is_client(s) ? "" : ", made by the other side");
    log_info("session up peer=%s side=%s", remote_label(r, label),
             session_is_client(s) ? "caller" : "callee");
    if (r->session != s)
        return;
    dials_flush(r);
    path_up(r);
}

static struct session *another(struct remote *r, const struct session *not_this)
{
    struct endpoint *e = r->peerd->net.endpoint;
    for (struct session *s = NULL; (s = endpoint_next(e, s));)
        if (s != not_this && session_user(s) == r && session_is_up(s))
            return s;
    return NULL;
}

void remote_down(struct peerd *p, struct session *s, const char *reason)
{
    char label[KEY_TEXT_MAX], sentence[REMOTE_TROUBLE_MAX];
    struct remote *r = session_user(s);
    if (!r)
        return;
    log_info("session down peer=%s reason=%s", remote_label(r, label), reason);
    trail_add(&r->trail, "session ended: %s", reason);
    session_set_user(s, NULL);
    early_ended(r, s);
    if (r->session != s)
        return;
    r->session = another(r, s);
    path_up(r);
    if (!r->session) {
        (void)snprintf(sentence, sizeof sentence, "no session with %s: %s", remote_label(r, label),
                       reason);
        if (r->near.err)
            dials_fail(r, r->near.err, r->near.sentence);
        else
            dials_fail(r, -ECONNRESET, sentence);
        channels_close(r);
    }
    peerd_idle_check(p);
}

void remote_channel_lost(struct remote *r, const struct channel *c)
{
    struct quic_path path = net_channel_path(&r->peerd->net, c);
    trail_add(&r->trail, "relay channel %08x is gone", c->at.number);
    if (r->channel == c)
        r->channel = NULL;
    if (!r->session || !session_is_client(r->session))
        return;
    if (goes_over(r->session, &path))
        remote_recall(r);
    else
        r->recall_due = true;
}

/* Sweeping ------------------------------------------------------------------------------------- */

static struct channel *channel_newest(const struct remote *r)
{
    struct net *n = &r->peerd->net;
    struct channel *newest = NULL;
    for (size_t i = 0; i < NET_CHANNELS_MAX; i++)
        if (n->channels[i].remote == r && (!newest || n->channels[i].since_ms >= newest->since_ms))
            newest = &n->channels[i];
    return newest;
}

/* The newest is the way back from a direct path; older ones stay while packets go there. */
static bool has_channel(const struct remote *r, uint64_t now)
{
    struct net *n = &r->peerd->net;
    const struct channel *newest = channel_newest(r);
    for (size_t i = 0; i < NET_CHANNELS_MAX; i++) {
        struct channel *c = &n->channels[i];
        bool wanted = r->session && (c == newest || channel_in_use(r, c));
        if (c->remote == r && !wanted && now - c->since_ms > CHANNEL_IDLE_MS)
            net_channel_close(n, c);
    }
    return channel_newest(r) != NULL;
}

/* Whether the session has just ended because its peer is gone. */
static bool is_gone(struct remote *r, const struct session_stats *s, uint64_t now)
{
    bool idle = s->streams == 0 && session_is_up(r->session);
    if (s->quic.packets_in != r->packets_in || idle) {
        r->packets_in = s->quic.packets_in;
        r->heard_ms = now;
    }
    session_keep_alive(r->session,
                       s->streams > 0 ? PING_MS : keeping_interval_ms(&r->peerd->net.keeping));
    /* Its relay may be what is gone: another one, perhaps of another server. */
    uint64_t stall_ms = session_is_up(r->session) ? STALL_MS : MUTE_MS;
    if (now - r->heard_ms > stall_ms && session_is_client(r->session) && !path_is_direct(r))
        remote_recall(r);
    if (now - r->heard_ms <= GONE_MS)
        return false;
    session_close(r->session, "the peer is silent");
    return true;
}

static void sweep(struct remote *r, uint64_t now)
{
    struct session_stats s = {.streams = 0};
    if (r->session)
        session_stat(r->session, &s);
    if (s.streams > 0 || dials_waiting(r))
        r->quiet_ms = now;
    if (r->session && is_gone(r, &s, now))
        return;
    if (r->recall_due && r->session && now >= r->recall_ms)
        remote_recall(r);
    bool quiet = now - r->quiet_ms > SESSION_IDLE_MS, relayed = has_channel(r, now);
    if (r->session && quiet && session_is_client(r->session))
        session_close(r->session, "idle");
    else if (!r->session && !r->calling && quiet && !relayed)
        remote_free(r);
}

void remotes_sweep(struct peerd *p)
{
    uint64_t now = clock_now_ms();
    list_for_each(r, &p->remotes, struct remote, link) sweep(r, now);
}

void remotes_forget_calls(struct peerd *p)
{
    list_for_each(r, &p->remotes, struct remote, link)
    {
        offerings_done(r);
        early_drop(r);
        r->calling = false;
        r->channel = NULL;
        r->recall_due = r->session != NULL;
    }
}
