/* Chooses between the relay and direct addresses. What the checks of punching.c have just proven is
 * gone to at once, and left again when QUIC's own path validation does not prove it soon, too.
 * Other addresses, of loopback and where the peer has answered before, count only when QUIC has
 * proven them; while that runs the session stays where it is. */
#include "peerd/path.h"

#include "base/clock.h"
#include "base/log.h"
#include "peerd/peerd.h"
#include "peerd/remote.h"

/* A path over which nothing comes for so long is dead: with streams, which have answers or pings
 * every two seconds, and without, when there is a ping as often as our NAT wants one. What it
 * carried must go on over the relay within 7 seconds in all. */
#define DEAD_MS      3500
#define IDLE_LATE_MS 5000
#define LOOK_MS      500
/* What checks have proven: for so long it is gone to at once; and so long, with some round trips
 * more, it has to show that QUIC gets there. */
#define PROOF_MS 1500
#define SHOW_MS  300
#define SHOW_RTT 4
/* What only receives asks so often whether it is heard. */
#define ASK_MS 1500
/* The same just after a change of the network. */
#define CHANGED_DEAD_MS 1000
#define CHANGED_PING_MS 100
#define AGAIN_MS        50
#define FALL_AGAIN_MS   200
/* After a direct path has died, doubled each time, but not when it had lasted. */
#define SOON_MS     1000
#define REST_MS     60000
#define LASTS_MS    60000
#define DOUBLED_MAX 6

const char *path_result_word(enum path_result result)
{
    static const char *const words[] = {"untried", "asked", "proven", "silent"};
    return words[result];
}

static bool goes_directly(const struct remote *r)
{
    struct session_stats s;
    session_stat(r->session, &s);
    return !net_path_channel(&r->peerd->net, &s.quic.path);
}

bool path_is_over_tcp(const struct remote *r)
{
    struct session_stats s;
    if (!r->session)
        return false;
    session_stat(r->session, &s);
    return tcpway_is_path(s.quic.path.id);
}

/* A session that was made on the local network never was elsewhere. */
bool path_is_direct(const struct remote *r)
{
    return r->path.stage == PATH_DIRECT || r->path.stage == PATH_MOVED ||
           (r->path.stage == PATH_NONE && r->session && goes_directly(r));
}

bool path_is_best(const struct remote *r)
{
    return path_is_direct(r) && !path_is_over_tcp(r);
}

static void timer_set(struct remote *r, uint64_t ms)
{
    loop_timer(&r->peerd->loop, &r->path.timer, ms);
}

static bool may_move(const struct remote *r)
{
    return r->session && session_is_client(r->session) && session_is_up(r->session);
}

/* Checks that have failed meanwhile said for how long. */
static void rest(struct remote *r)
{
    r->path.stage = PATH_RESTING;
    timer_set(r, r->path.rest_ms ? r->path.rest_ms : REST_MS);
    r->path.rest_ms = 0;
}

static void settle(struct remote *r)
{
    struct session_stats s;
    session_stat(r->session, &s);
    r->path.stage = PATH_DIRECT;
    if (!r->path.first_ms)
        r->path.first_ms = clock_now_ms();
    r->path.since_ms = r->path.heard_ms = r->path.asked_ms = clock_now_ms();
    r->path.answered_ms = r->path.pinged_ms = r->path.since_ms;
    r->path.unanswered = 0;
    r->path.rest_ms = 0;
    r->path.packets_in = s.quic.packets_in;
    timer_set(r, LOOK_MS);
    if (s.quic.path.id == NET_PATH_UDP)
        nearby_note(r, &s.quic.path.remote);
}

static void moved(struct remote *r, const struct path_try *t)
{
    r->path.stage = PATH_MOVED;
    r->path.since_ms = clock_now_ms();
    if (!r->path.first_ms)
        r->path.first_ms = r->path.since_ms;
    timer_set(r, SHOW_MS + (uint64_t)SHOW_RTT * t->rtt_us / 1000);
}

/* One address after the other: the next when this one has not answered. */
static void step(struct remote *r)
{
    struct path *p = &r->path;
    if (!may_move(r) || p->count == 0) {
        p->stage = PATH_NONE;
        return;
    }
    if (p->at == p->count) {
        p->at = 0;
        if (path_is_over_tcp(r))
            settle(r);
        else
            rest(r);
        return;
    }
    struct path_try *t = &p->tries[p->at];
    bool at_once = !p->doubted && t->proven_ms > 0 && clock_now_ms() - t->proven_ms < PROOF_MS;
    int result = session_move(r->session, &t->path, at_once);
    p->stage = PATH_TRYING;
    if (result == -EAGAIN) {
        timer_set(r, AGAIN_MS);
    } else if (result == -EALREADY) {
        t->result = PATH_PROVEN;
        settle(r);
    } else if (result == 0 && at_once) {
        t->result = PATH_ASKED;
        moved(r, t);
    } else if (result == 0) {
        t->result = PATH_ASKED;
    } else {
        p->at++;
        timer_set(r, 1);
    }
}

/* A new introduction soon: what has died was a mapping or an address more often than the way. */
static uint64_t soon_ms(const struct path *p)
{
    unsigned doubled = p->deaths > 0 ? p->deaths - 1 : 0;
    uint64_t ms = (uint64_t)SOON_MS << (doubled < DOUBLED_MAX ? doubled : DOUBLED_MAX);
    return ms < REST_MS ? ms : REST_MS;
}

static void rest_shortly(struct remote *r)
{
    r->path.stage = PATH_RESTING;
    timer_set(r, soon_ms(&r->path));
}

/* Back to the relay, at once; without one a new channel is asked for. */
static void fall(struct remote *r)
{
    struct quic_path path;
    if (!may_move(r)) {
        r->path.stage = PATH_NONE;
        return;
    }
    if (!r->channel) {
        rest(r);
        remote_recall(r);
        return;
    }
    path = net_channel_path(&r->peerd->net, r->channel);
    r->path.stage = PATH_FALLING;
    if (session_move(r->session, &path, true) == -EAGAIN)
        timer_set(r, FALL_AGAIN_MS);
    else
        rest_shortly(r);
}

/* Whatever was under way is void: another relay channel than before. */
void path_relay(struct remote *r)
{
    fall(r);
}

static void direct_died(struct remote *r)
{
    char label[KEY_TEXT_MAX];
    log_info("direct path dead peer=%s", remote_label(r, label));
    trail_add(&r->trail, "the direct path died: back to the relay");
    r->path.falls++;
    r->path.deaths = clock_now_ms() - r->path.since_ms > LASTS_MS ? 1 : r->path.deaths + 1;
    r->path.failures = 0;
    fall(r);
}

static uint64_t patience_ms(const struct remote *r)
{
    return r->path.busy ? DEAD_MS : keeping_interval_ms(&r->peerd->net.keeping) + IDLE_LATE_MS;
}

/* Packets may come while none of ours arrives: one direction alone is dead. Timeouts that no
 * acknowledgement ends tell of that, if there is something to be acknowledged. */
static bool is_unheard(struct remote *r, const struct quic_stats *q, uint64_t now)
{
    struct path *p = &r->path;
    if (q->unanswered == 0 || q->unanswered < p->unanswered)
        p->answered_ms = now;
    p->unanswered = q->unanswered;
    if (p->busy && q->in_flight == 0 && now - p->pinged_ms >= ASK_MS) {
        p->pinged_ms = now;
        session_ping(r->session);
    }
    return now - p->answered_ms > DEAD_MS;
}

/* Where nothing was asked silence means nothing, until there has been a ping. */
static void look(struct remote *r)
{
    struct path *p = &r->path;
    struct session_stats s;
    uint64_t now = clock_now_ms();
    if (!may_move(r)) {
        p->stage = PATH_NONE;
        return;
    }
    session_stat(r->session, &s);
    p->busy = s.streams > 0;
    uint64_t patience = patience_ms(r);
    if (s.quic.packets_in != p->packets_in || patience < p->patience_ms) {
        p->packets_in = s.quic.packets_in;
        p->heard_ms = now;
    }
    p->patience_ms = patience;
    if (now - p->heard_ms > patience || is_unheard(r, &s.quic, now)) {
        direct_died(r);
        return;
    }
    timer_set(r, LOOK_MS);
    /* UDP is better: it is asked for again now and then. */
    if (path_is_over_tcp(r) && now - p->asked_ms > REST_MS) {
        p->asked_ms = now;
        remote_recall(r);
    }
}

void path_lost(struct remote *r, uint32_t path_id)
{
    struct session_stats s;
    if (!may_move(r))
        return;
    session_stat(r->session, &s);
    if (s.quic.path.id == path_id)
        direct_died(r);
}

/* Checks got there and QUIC does not: nothing was lost but the time. A few packets may have been
 * all that was lost, so it is asked once more, from the relay, before there is another
 * introduction. */
static void not_shown(struct remote *r)
{
    char text[ADDR_TEXT_MAX];
    struct path_try *t = &r->path.tries[r->path.at];
    bool first = !r->path.doubted;
    t->result = PATH_SILENT;
    if (r->path.first_ms == r->path.since_ms)
        r->path.first_ms = 0;
    r->path.doubted = true;
    trail_add(&r->trail, "%s did not answer: back to the relay",
              addr_format(&t->path.remote, text));
    r->path.falls++;
    r->path.deaths++;
    fall(r);
    if (!first || r->path.stage != PATH_RESTING)
        return;
    r->path.stage = PATH_TRYING;
    r->path.rest_ms = soon_ms(&r->path);
    timer_set(r, FALL_AGAIN_MS);
}

static void timer_fired(struct timer *t)
{
    struct path *p = container_of(t, struct path, timer);
    struct remote *r = container_of(p, struct remote, path);
    if (p->stage == PATH_DIRECT)
        look(r);
    else if (p->stage == PATH_MOVED)
        not_shown(r);
    else if (p->stage == PATH_FALLING)
        fall(r);
    else if (p->stage == PATH_TRYING)
        step(r);
    else if (p->stage == PATH_RESTING)
        path_retry(r);
}

void path_init(struct remote *r)
{
    r->path = (struct path){.timer.fire = timer_fired};
}

void path_done(struct remote *r)
{
    loop_untimer(&r->path.timer);
}

/* Where it is in the list; -ENOSPC. */
static int try_add(struct path *p, const struct quic_path *path, enum record_kind kind)
{
    if (path->remote.len == 0 || addr_port(&path->remote) == 0)
        return -EINVAL;
    for (size_t i = 0; i < p->count; i++)
        if (p->tries[i].path.id == path->id && addr_equal(&p->tries[i].path.remote, &path->remote))
            return (int)i;
    if (p->count == PATH_TRIES_MAX)
        return -ENOSPC;
    p->tries[p->count] = (struct path_try){.path = *path, .kind = kind};
    return (int)p->count++;
}

/* Connections of an earlier call that still stand: they are greeted, and none can be made anew
 * between the same ports. */
static void tries_standing(struct remote *r)
{
    struct quic_path ways[PATH_TRIES_MAX];
    size_t n = tcpways_standing(r, ways, PATH_TRIES_MAX);
    for (size_t i = 0; i < n; i++)
        (void)try_add(&r->path, &ways[i], RECORD_HOST);
}

/* The machine of punching.c passes over loopback: it means another host to everybody. Here both may
 * be on one. */
void path_offer(struct remote *r, const struct offer *o)
{
    struct path *p = &r->path;
    if (p->stage == PATH_DIRECT || p->stage == PATH_MOVED)
        return;
    p->count = p->at = 0;
    p->rest_ms = 0;
    tries_standing(r);
    for (size_t i = 0; i < o->candidate_count; i++) {
        const struct record_candidate *c = &o->candidates[i];
        const struct quic_path path = {NET_PATH_UDP, c->addr};
        if (c->transport == RECORD_UDP && addr_is_loopback(&c->addr))
            (void)try_add(p, &path, c->kind);
    }
    path_up(r);
}

static bool path_is_at(const struct path *p, const struct quic_path *path)
{
    return p->at < p->count && p->tries[p->at].path.id == path->id &&
           addr_equal(&p->tries[p->at].path.remote, &path->remote);
}

static void found(struct remote *r, const struct quic_path *path, enum candidate_kind kind,
                  uint32_t proven_rtt_us)
{
    struct path *p = &r->path;
    bool tcp = tcpway_is_path(path->id);
    bool busy = tcp && (p->stage == PATH_TRYING || p->stage == PATH_MOVED);
    /* The checks of the other call have proven it, too: it is still QUIC that has to. */
    if (p->stage == PATH_MOVED && path_is_at(p, path))
        return;
    if (p->stage == PATH_DIRECT && (tcp || !path_is_over_tcp(r)))
        return;
    if (p->count == PATH_TRIES_MAX)
        p->count = 0;
    p->failures = 0;
    int i = try_add(p, path,
                    kind < CANDIDATE_PEER_REFLEXIVE ? (enum record_kind)kind : RECORD_REFLEXIVE);
    if (i < 0)
        return;
    if (proven_rtt_us > 0) {
        p->tries[i].proven_ms = clock_now_ms();
        p->tries[i].rtt_us = proven_rtt_us;
    }
    if (busy || !may_move(r))
        return;
    p->at = (size_t)i;
    step(r);
}

void path_found(struct remote *r, const struct quic_path *path, enum candidate_kind kind)
{
    found(r, path, kind, 0);
}

void path_checked(struct remote *r, const struct quic_path *path, enum candidate_kind kind,
                  uint32_t rtt_us)
{
    found(r, path, kind, rtt_us + 1);
}

static size_t latest_proven(const struct path *p)
{
    size_t latest = 0;
    for (size_t i = 1; i < p->count; i++)
        if (p->tries[i].proven_ms > p->tries[latest].proven_ms)
            latest = i;
    return latest;
}

void path_up(struct remote *r)
{
    struct path *p = &r->path;
    loop_untimer(&p->timer);
    p->stage = PATH_NONE;
    p->at = latest_proven(p);
    if (!may_move(r))
        return;
    if (goes_directly(r)) {
        settle(r);
    } else if (p->count > 0) {
        p->stage = PATH_TRYING;
        timer_set(r, 0);
    } else {
        rest(r);
    }
}

/* Soon again, by other sockets and with what is known of the NATs by then; later more rarely. */
void path_not_found(struct remote *r, enum path_hope hope)
{
    struct path *p = &r->path;
    if (p->stage == PATH_DIRECT || p->stage == PATH_MOVED || p->stage == PATH_FALLING ||
        !may_move(r))
        return;
    uint64_t ms = pause_ms(hope, p->failures++);
    /* Another way is just being asked, over TCP: the pause begins if that one does not answer. */
    if (p->stage == PATH_TRYING) {
        p->rest_ms = ms;
        return;
    }
    p->stage = PATH_RESTING;
    timer_set(r, ms);
}

/* A new introduction, with whatever the networks are now. */
void path_retry(struct remote *r)
{
    bool direct = r->path.stage == PATH_DIRECT && !path_is_over_tcp(r);
    if (direct || r->path.stage == PATH_TRYING || r->path.stage == PATH_MOVED ||
        r->path.stage == PATH_FALLING)
        return;
    if (may_move(r))
        remote_recall(r);
    if (r->path.stage == PATH_RESTING)
        timer_set(r, REST_MS);
}

void path_asked(struct remote *r)
{
    if (!r->punchings[PUNCHING_CALLER].machine)
        path_retry(r);
}

void path_peer_changed(struct remote *r)
{
    r->path.failures = 0;
    punchings_forget(r);
    path_retry(r);
}

void path_network_changed(struct remote *r)
{
    struct path *p = &r->path;
    callback_want(r);
    p->failures = 0;
    p->doubted = false;
    punchings_forget(r);
    path_retry(r);
    if (p->stage != PATH_DIRECT)
        return;
    uint64_t until = clock_now_ms() + CHANGED_DEAD_MS;
    p->patience_ms = patience_ms(r);
    if (!p->busy || until < p->heard_ms + p->patience_ms)
        p->heard_ms = until > p->patience_ms ? until - p->patience_ms : 0;
    /* One that is idle is asked. */
    if (r->session)
        session_keep_alive(r->session, CHANGED_PING_MS);
}

void path_answered(struct remote *r, const struct quic_path *path, bool ok)
{
    struct path *p = &r->path;
    char label[KEY_TEXT_MAX], text[ADDR_TEXT_MAX];
    if (net_path_channel(&r->peerd->net, path) || !may_move(r))
        return;
    for (size_t i = 0; i < p->count; i++)
        if (p->tries[i].path.id == path->id && addr_equal(&p->tries[i].path.remote, &path->remote))
            p->tries[i].result = ok ? PATH_PROVEN : PATH_SILENT;
    /* Not from here: no session may move while it tells. */
    if (!ok && p->stage == PATH_MOVED && path_is_at(p, path)) {
        timer_set(r, 0);
        return;
    }
    trail_add(&r->trail, "%s %s", addr_format(&path->remote, text),
              ok ? "answered: packets go there now" : "did not answer");
    if (ok) {
        p->moves++;
        log_info("path direct peer=%s addr=%s", remote_label(r, label), text);
        settle(r);
    } else if (p->stage == PATH_TRYING) {
        p->at++;
        timer_set(r, 1);
    }
}

void path_input(struct peerd *p, const struct addr *from, const void *bytes, size_t n)
{
    if (!probe_looks(bytes, n))
        return;
    list_for_each(
        r, &p->remotes, struct remote,
        link) for (unsigned role = 0; role < PUNCHING_ROLES;
                   role++) if (punching_input(r, role, PUNCHING_USUAL, from, bytes, n)) return;
}
