/* One server: a cookie, a login with the signed record, refreshes while the lease lasts, and the
 * list of who may call. What is due and the server's answers come in; what it knows of the server
 * stays in its struct. */
#include "rendezvous/presence-internal.h"

/* Between attempts at a server that does not answer: doubled up to a minute. */
#define BACK_OFF_US      (1 * S)
#define BACK_OFF_MOST_US (60 * S)
/* A server that wants another cookie again and again. */
#define ROUNDS_MAX 3
/* After so many copies of a question nobody waits for this server who has another. */
#define SILENT_COPIES 4
#define REFRESH_MIN_S 5
#define REFRESH_MAX_S 3600
/* A token that is refused so soon after it was given is not asked for again at once. */
#define TOKEN_MIN_US (1 * S)

static void changed(struct presence *p, uint32_t server)
{
    p->host.state(p->ctx, server);
}

static void enter(struct presence *p, struct server *s, enum presence_state state)
{
    s->state = state;
    if (state == PRESENCE_WAITING)
        question_stop(&s->q);
    else
        question_start(&s->q, p->now_us);
}

/* Not now; later. */
static void put_off(struct presence *p, uint32_t server, uint64_t after_us, enum rdv_reason reason)
{
    struct server *s = &p->servers[server];
    s->reason = reason;
    s->rounds = 0;
    s->next_us = p->now_us + after_us;
    enter(p, s, PRESENCE_WAITING);
    changed(p, server);
}

static uint64_t back_off_us(struct server *s)
{
    unsigned shift = s->failures < 6 ? s->failures : 6;
    uint64_t us = BACK_OFF_US << shift;
    s->failures++;
    return presence_jitter(us < BACK_OFF_MOST_US ? us : BACK_OFF_MOST_US);
}

static void lease_lost(struct server *s)
{
    s->token_good = false;
    s->registered_us = 0;
    s->allow_version = 0;
    question_stop(&s->allow);
}

/* A server that still has our lease may have lost only a few packets: it is greeted at once, and
 * left alone for a while only when that is lost, too. */
static void lost(struct presence *p, uint32_t server)
{
    struct server *s = &p->servers[server];
    bool was_registered = s->state == PRESENCE_REGISTERED;
    s->silent = true;
    lease_lost(s);
    if (was_registered) {
        enter(p, s, PRESENCE_HELLO);
        changed(p, server);
    } else {
        put_off(p, server, back_off_us(s), RDV_OK);
    }
}

static void login_send(struct presence *p, uint32_t server)
{
    struct server *s = &p->servers[server];
    struct rdvmsg m = {.type = RDVMSG_REGISTER,
                       .transaction = question_transaction(&s->q),
                       .record = presence_own_record(p)};
    memcpy(m.cookie, s->cookie, sizeof m.cookie);
    s->login_sequence = p->record.sequence;
    if (signed_request_make(p->id, KEY_LOGIN, s->cookie, m.record, m.signature) == 0)
        presence_send_to(p, server, &m);
}

static void question_send(struct presence *p, uint32_t server)
{
    struct server *s = &p->servers[server];
    struct rdvmsg m = {.transaction = question_transaction(&s->q)};
    switch (s->state) {
    case PRESENCE_HELLO:
        m.type = RDVMSG_HELLO;
        m.pad_to = RDVMSG_HELLO_MIN;
        presence_send_to(p, server, &m);
        return;
    case PRESENCE_LOGIN:
        login_send(p, server);
        return;
    default:
        m.type = RDVMSG_REFRESH;
        memcpy(m.token, s->token, sizeof m.token);
        presence_send_to(p, server, &m);
    }
}

static void allow_send(struct presence *p, uint32_t server)
{
    struct server *s = &p->servers[server];
    s->allow_sent = p->allow_version;
    struct rdvmsg m = {.type = RDVMSG_ALLOW,
                       .transaction = question_transaction(&s->allow),
                       .flags = p->anyone ? RDVMSG_ANYONE : 0,
                       .allowed = {(const char *)p->allowed, p->allowed_n}};
    memcpy(m.token, s->token, sizeof m.token);
    presence_send_to(p, server, &m);
}

/* A list that changes while it is being told is told anew, so that no answer is for another. */
static void allow_due(struct presence *p, struct server *s)
{
    bool told = s->allow_version == p->allow_version;
    bool telling =
        question_open(&s->allow) && (s->allow.sent == 0 || s->allow_sent == p->allow_version);
    if (s->state == PRESENCE_REGISTERED && p->allow_version != 0 && !told && !telling)
        question_start(&s->allow, p->now_us);
}

/* Into the next state, when it is time or the record is another. */
static void server_due(struct presence *p, struct server *s)
{
    bool other = s->login_sequence != p->record.sequence;
    if (s->state == PRESENCE_WAITING && p->now_us >= s->next_us)
        enter(p, s, PRESENCE_HELLO);
    if (s->state == PRESENCE_REGISTERED && other)
        enter(p, s, PRESENCE_LOGIN);
    if (s->state == PRESENCE_LOGIN && s->q.sent > 0 && other)
        question_start(&s->q, p->now_us);
    if (s->state == PRESENCE_REGISTERED && !question_open(&s->q) && p->now_us >= s->next_us)
        question_start(&s->q, p->now_us);
    allow_due(p, s);
}

uint64_t presence_server_run(struct presence *p, uint32_t server)
{
    struct server *s = &p->servers[server];
    server_due(p, s);
    enum question_step step = question_due(&s->q, p->now_us);
    if (step == QUESTION_SEND)
        question_send(p, server);
    if (step == QUESTION_SEND && s->q.sent == SILENT_COPIES) {
        s->silent = true;
        changed(p, server);
    }
    if (step == QUESTION_LOST)
        lost(p, server);
    step = question_due(&s->allow, p->now_us);
    if (step == QUESTION_SEND)
        allow_send(p, server);
    /* The refresh will find out what is wrong. */
    uint64_t next = question_open(&s->q) ? s->q.at_us : s->next_us;
    return s->allow.at_us < next ? s->allow.at_us : next;
}

void presence_server_again(struct presence *p, uint32_t server)
{
    struct server *s = &p->servers[server];
    lease_lost(s);
    s->cookie_known = s->silent = false;
    s->failures = 0;
    s->rounds = 0;
    s->rtt_us = 0;
    s->rtt_count = 0;
    enter(p, s, PRESENCE_HELLO);
    changed(p, server);
}

void presence_token_bad(struct presence *p, uint32_t server)
{
    struct server *s = &p->servers[server];
    if (!s->token_good)
        return;
    lease_lost(s);
    if (p->now_us - s->login_us < TOKEN_MIN_US) {
        put_off(p, server, TOKEN_MIN_US, RDV_BAD_TOKEN);
        return;
    }
    /* A cookie that is no longer good is answered with the next one. */
    enter(p, s, s->cookie_known ? PRESENCE_LOGIN : PRESENCE_HELLO);
    changed(p, server);
}

void presence_servers_hurry(struct presence *p)
{
    for (uint32_t i = 0; i < p->server_count; i++) {
        struct server *s = &p->servers[i];
        if (s->state == PRESENCE_REGISTERED && s->next_us > p->now_us + p->keep_us)
            s->next_us = p->now_us + presence_jitter(p->keep_us);
    }
}

void presence_cookie(struct presence *p, uint32_t server, const struct rdvmsg *m)
{
    struct server *s = &p->servers[server];
    bool moved = s->seen.len > 0 && !addr_equal(&s->seen, &m->addr);
    memcpy(s->cookie, m->cookie, sizeof s->cookie);
    s->cookie_known = true;
    s->seen = m->addr;
    if (moved)
        presence_channels_again(p, server);
    if (moved)
        changed(p, server);
}

static void registered(struct presence *p, uint32_t server, const struct rdvmsg *m)
{
    struct server *s = &p->servers[server];
    bool news = s->state != PRESENCE_REGISTERED;
    uint64_t refresh_s = m->refresh_s < REFRESH_MIN_S   ? REFRESH_MIN_S
                         : m->refresh_s > REFRESH_MAX_S ? REFRESH_MAX_S
                                                        : m->refresh_s;
    memcpy(s->token, m->token, sizeof s->token);
    s->token_good = true;
    s->word = m->word;
    s->word_known = true;
    s->lease_s = m->lifetime_s;
    s->refresh_s = m->refresh_s;
    s->failures = s->rounds = 0;
    s->reason = RDV_OK;
    s->registered_us = s->registered_us ? s->registered_us : p->now_us;
    s->next_us = p->now_us + presence_jitter(presence_keep_us(p, refresh_s * S));
    /* What was there before a login may be gone with the lease. */
    if (m->type == RDVMSG_REGISTERED) {
        s->login_us = p->now_us;
        s->allow_version = 0;
    }
    question_stop(&s->q);
    s->state = PRESENCE_REGISTERED;
    if (news)
        changed(p, server);
}

/* Another record of ours is there. */
static void outdone(struct presence *p, uint32_t server, const struct rdvmsg *m)
{
    struct server *s = &p->servers[server];
    if (++s->rounds <= ROUNDS_MAX && presence_sign_above(p, m->number))
        enter(p, s, PRESENCE_LOGIN);
    else
        put_off(p, server, BACK_OFF_MOST_US, m->reason);
}

static void refused(struct presence *p, uint32_t server, const struct rdvmsg *m)
{
    struct server *s = &p->servers[server];
    switch (m->reason) {
    case RDV_BAD_TOKEN:
    case RDV_NOT_REGISTERED:
        presence_token_bad(p, server);
        return;
    case RDV_REPLAYED:
    case RDV_SEQUENCE_REUSED:
        outdone(p, server, m);
        return;
    case RDV_RATE_LIMITED:
    case RDV_BUSY:
    case RDV_FULL:
    case RDV_STORAGE:
    case RDV_DRAINING:
        if (s->state != PRESENCE_REGISTERED) {
            put_off(p, server, presence_again_us(m), m->reason);
            return;
        }
        question_stop(&s->q);
        s->next_us = p->now_us + presence_again_us(m);
        return;
    default:
        lease_lost(s);
        put_off(p, server, presence_jitter(BACK_OFF_MOST_US), m->reason);
    }
}

static void answer(struct presence *p, uint32_t server, const struct rdvmsg *m)
{
    struct server *s = &p->servers[server];
    switch (m->type) {
    case RDVMSG_COOKIE_IS:
        presence_cookie(p, server, m);
        if (s->state == PRESENCE_LOGIN && ++s->rounds > ROUNDS_MAX)
            put_off(p, server, back_off_us(s), RDV_BUSY);
        else
            enter(p, s, PRESENCE_LOGIN);
        return;
    case RDVMSG_REGISTERED:
        if (s->state == PRESENCE_LOGIN)
            registered(p, server, m);
        return;
    case RDVMSG_REFRESHED:
        if (s->state == PRESENCE_REGISTERED)
            registered(p, server, m);
        return;
    case RDVMSG_ERROR:
        refused(p, server, m);
        return;
    default:
        return;
    }
}

static void allow_answer(struct presence *p, uint32_t server, const struct rdvmsg *m)
{
    struct server *s = &p->servers[server];
    if (m->type == RDVMSG_ALLOWED_IS) {
        question_stop(&s->allow);
        s->allow_version = s->allow_sent;
        changed(p, server);
    } else if (m->type == RDVMSG_ERROR &&
               (m->reason == RDV_BAD_TOKEN || m->reason == RDV_NOT_REGISTERED)) {
        presence_token_bad(p, server);
    }
}

/* A lease that we believe lost may still be there, so its word is good until another one is told.
 */
bool presence_word_good(struct presence *p, uint32_t server, const struct rdvmsg *m)
{
    struct server *s = &p->servers[server];
    bool good = s->word_known && m->transaction == s->word;
    s->passed_over += !good;
    return good;
}

bool presence_server_input(struct presence *p, uint32_t server, const struct rdvmsg *m)
{
    struct server *s = &p->servers[server];
    if (question_is(&s->q, m)) {
        presence_heard_at_once(p, server, &s->q, m);
        answer(p, server, m);
        return true;
    }
    if (question_is(&s->allow, m)) {
        presence_heard_at_once(p, server, &s->allow, m);
        allow_answer(p, server, m);
        return true;
    }
    return false;
}
